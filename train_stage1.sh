#!/usr/bin/env bash
# Stage 1: teach the semantic adapter (and 20 prompts) to transcribe speech into the frozen LLM.
#
#   LLM_PATH=GSAI-ML/LLaDA-8B-Instruct WHISPER_PATH=openai/whisper-small \
#   TRAIN_DATASET=data/librispeech.json bash train_stage1.sh [any flag of train.py]
#
# FAMILY=diffa2 WHISPER_PATH=openai/whisper-large-v3 is DIFFA-2's recipe. Run it again to go on from the last checkpoint
# in OUTPUT_DIR. Every setting is an environment variable; what all stages share is in config/launch_training.sh.
set -euo pipefail
source "$(dirname "$0")/config/launch_training.sh"

choose_family diffa diffa2
need_inputs "The paper uses LibriSpeech 960 h, DIFFA-2 about 11 000 h of transcribed speech."
OUTPUT_DIR=${OUTPUT_DIR:-$REPOSITORY/exp/stage1}

case "$FAMILY" in
  diffa)  # arXiv 2507.18452, section 4.1, made for 4 GPUs
    BATCH_SIZE=${BATCH_SIZE:-16}                       # clips a process and step
    GRADIENT_ACCUMULATION=${GRADIENT_ACCUMULATION:-2}  # 4 x 16 x 2 clips an update: GLOBAL_BATCH=128 keeps that
    PUBLISHED_BATCH=128
    EPOCHS=${EPOCHS:-10}                               # published; not varied here
    ;;
  diffa2)  # arXiv 2601.23161 and its scripts, made for 8 machines of 8 GPUs
    BATCH_SIZE=${BATCH_SIZE:-20}                       # transcripts are short: 20 clips fit 80 GB
    GRADIENT_ACCUMULATION=${GRADIENT_ACCUMULATION:-1}  # 64 x 20 clips an update: GLOBAL_BATCH=1280 keeps that
    PUBLISHED_BATCH=1280
    EPOCHS=${EPOCHS:-20}                               # published: a larger batch, so fewer updates an epoch
    ;;
esac
LEARNING_RATE=${LEARNING_RATE:-1e-4}  # the adapters start from nothing
LR_SCHEDULER=${LR_SCHEDULER:-linear}  # down to zero at the end
WARMUP_STEPS=${WARMUP_STEPS:-1000}    # updates until the full rate

train 1 "$@"
