#!/usr/bin/env bash
# Stage 1: teach the semantic adapter (and 20 prompts) to transcribe speech into the frozen LLM.
#
#   LLM_PATH=GSAI-ML/LLaDA-8B-Instruct WHISPER_PATH=openai/whisper-small \
#   TRAIN_DATASET=data/librispeech.json bash train_stage1.sh [any flag of train.py]
#
# Run it again to go on from the last checkpoint in OUTPUT_DIR. Every setting below is an environment variable.
set -euo pipefail
cd "$(dirname "$0")"
source config/launch.sh

need LLM_PATH "the LLaDA checkpoint (folder or hub name)" "Get it with: huggingface-cli download GSAI-ML/LLaDA-8B-Instruct --local-dir FOLDER (16 GB)."
need WHISPER_PATH "the Whisper checkpoint (folder or hub name)" "Get it with: huggingface-cli download openai/whisper-small --local-dir FOLDER (1 GB)."
need TRAIN_DATASET "the training manifest (a JSON file)" "README.md, section Data, gives its format; the paper uses LibriSpeech 960 h."

OUTPUT_DIR=${OUTPUT_DIR:-exp/stage1}
DS_CONFIG=${DS_CONFIG-config/dp_config.json}  # ZeRO-1: optimizer state shared out over processes; empty for plain DDP

# The published recipe (arXiv 2507.18452, section 4.1), made for 4 GPUs.
BATCH_SIZE=${BATCH_SIZE:-16}                # clips a process and step
GRADIENT_ACCUMULATION=${GRADIENT_ACCUMULATION:-2}  # effective batch size 4 x 16 x 2 = 128: keep it with other NPROC
LEARNING_RATE=${LEARNING_RATE:-1e-4}        # the adapters start from nothing
LR_SCHEDULER=${LR_SCHEDULER:-linear}        # down to zero at the end
WARMUP_STEPS=${WARMUP_STEPS:-1000}          # updates until the full rate
EPOCHS=${EPOCHS:-10}                        # published; not varied here
# What both stages share is in config/launch_training.sh.

STAGE=1 STAGE_FLAGS=()
source config/launch_training.sh
