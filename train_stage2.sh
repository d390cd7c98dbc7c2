#!/usr/bin/env bash
# Stage 2: teach both adapters to answer questions about speech, sound and music, from a stage-1 checkpoint.
#
#   LLM_PATH=GSAI-ML/LLaDA-8B-Instruct WHISPER_PATH=openai/whisper-small STAGE1_CKPT=exp/stage1 \
#   TRAIN_DATASET=data/stage2.json bash train_stage2.sh [any flag of train.py]
#
# FAMILY=diffa2 WHISPER_PATH=openai/whisper-large-v3 is DIFFA-2's recipe. Run it again to go on from the last checkpoint
# in OUTPUT_DIR. Every setting is an environment variable; what all stages share is in config/launch_training.sh.
set -euo pipefail
source "$(dirname "$0")/config/launch_training.sh"

choose_family diffa diffa2
need_inputs ""
need STAGE1_CKPT "a stage-1 checkpoint (folder or hub name)" "train_stage1.sh makes one in exp/stage1."
OUTPUT_DIR=${OUTPUT_DIR:-$REPOSITORY/exp/stage2}

case "$FAMILY" in
  diffa)  # arXiv 2507.18452, section 4.1, made for 4 GPUs
    BATCH_SIZE=${BATCH_SIZE:-4}                        # clips a process and step: answers are longer than transcripts
    GRADIENT_ACCUMULATION=${GRADIENT_ACCUMULATION:-2}  # 4 x 4 x 2 clips an update: GLOBAL_BATCH=32 keeps that
    PUBLISHED_BATCH=32
    WARMUP_STEPS=${WARMUP_STEPS:-2000}  # long, because the acoustic adapter starts from nothing beside a trained one
    ;;
  diffa2)  # arXiv 2601.23161 and its scripts, made for 8 machines of 8 GPUs
    BATCH_SIZE=${BATCH_SIZE:-3}                        # answers are longer than transcripts, the encoder is larger
    GRADIENT_ACCUMULATION=${GRADIENT_ACCUMULATION:-1}  # 64 x 3 clips an update: GLOBAL_BATCH=192 keeps that
    PUBLISHED_BATCH=192
    WARMUP_STEPS=${WARMUP_STEPS:-1000}                 # shorter: six times the clips an update
    ;;
esac
LEARNING_RATE=${LEARNING_RATE:-5e-5}  # half of stage 1's: the semantic adapter is trained already
LR_SCHEDULER=${LR_SCHEDULER:-cosine}  # published; not compared with stage 1's linear here
EPOCHS=${EPOCHS:-10}                  # published; not varied here

train 2 --start_checkpoint "$STAGE1_CKPT" "$@"
