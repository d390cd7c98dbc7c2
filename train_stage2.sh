#!/usr/bin/env bash
# Stage 2: teach both adapters to answer questions about speech, sound and music, from a stage-1 checkpoint.
#
#   LLM_PATH=GSAI-ML/LLaDA-8B-Instruct WHISPER_PATH=openai/whisper-small STAGE1_CKPT=exp/stage1 \
#   TRAIN_DATASET=data/stage2.json bash train_stage2.sh [any flag of train.py]
#
# Run it again to go on from the last checkpoint in OUTPUT_DIR. Every setting below is an environment variable.
set -euo pipefail
cd "$(dirname "$0")"
source config/launch.sh

need LLM_PATH "the LLaDA checkpoint (folder or hub name)" "Get it with: huggingface-cli download GSAI-ML/LLaDA-8B-Instruct --local-dir FOLDER (16 GB)."
need WHISPER_PATH "the Whisper checkpoint (folder or hub name)" "Get it with: huggingface-cli download openai/whisper-small --local-dir FOLDER (1 GB)."
need TRAIN_DATASET "the training manifest (a JSON file)" "README.md, section Data, gives its format."
need STAGE1_CKPT "a stage-1 checkpoint folder" "train_stage1.sh makes one in exp/stage1."

OUTPUT_DIR=${OUTPUT_DIR:-exp/stage2}
DS_CONFIG=${DS_CONFIG-config/dp_config.json}  # ZeRO-1: optimizer state shared out over processes; empty for plain DDP

# The published recipe (arXiv 2507.18452, section 4.1), made for 4 GPUs.
BATCH_SIZE=${BATCH_SIZE:-4}                 # clips a process and step: answers are longer than transcripts
GRADIENT_ACCUMULATION=${GRADIENT_ACCUMULATION:-2}  # effective batch size 4 x 4 x 2 = 32: keep it with other NPROC
LEARNING_RATE=${LEARNING_RATE:-5e-5}        # half of stage 1's: the semantic adapter is trained already
LR_SCHEDULER=${LR_SCHEDULER:-cosine}        # published; not compared with stage 1's linear here
WARMUP_STEPS=${WARMUP_STEPS:-2000}          # long, because the acoustic adapter starts from nothing beside a trained one
EPOCHS=${EPOCHS:-10}                        # published; not varied here
# What both stages share is in config/launch_training.sh.

STAGE=2 STAGE_FLAGS=(--stage1_checkpoint "$STAGE1_CKPT")
source config/launch_training.sh
