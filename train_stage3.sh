#!/usr/bin/env bash
# Stage 3, of DIFFA-2: let the LLM itself learn to answer about sound, by LoRA factors beside its frozen weights, with
# both adapters; from a stage-2 checkpoint.
#
#   LLM_PATH=GSAI-ML/LLaDA-8B-Instruct WHISPER_PATH=openai/whisper-large-v3 STAGE2_CKPT=exp/stage2 \
#   TRAIN_DATASET=data/stage2.json bash train_stage3.sh [any flag of train.py]
#
# A checkpoint that brings LoRA factors, another stage 3's, is gone on with. Run it again to go on from the last
# checkpoint in OUTPUT_DIR. Every setting is an environment variable; what all stages share is in
# config/launch_training.sh.
set -euo pipefail
source "$(dirname "$0")/config/launch_training.sh"

choose_family diffa2
need_inputs "DIFFA-2 takes stage 2's data again."
need STAGE2_CKPT "a stage-2 checkpoint (folder or hub name)" "train_stage2.sh makes one in exp/stage2."
OUTPUT_DIR=${OUTPUT_DIR:-$REPOSITORY/exp/stage3}

# The recipe of arXiv 2601.23161 and its scripts, made for 8 machines of 8 GPUs.
BATCH_SIZE=${BATCH_SIZE:-3}                        # as in stage 2: the factors are small, the LLM's activations are not
GRADIENT_ACCUMULATION=${GRADIENT_ACCUMULATION:-1}  # 64 x 3 clips an update: GLOBAL_BATCH=192 keeps that
PUBLISHED_BATCH=192
LEARNING_RATE=${LEARNING_RATE:-5e-5}  # of adapters and factors alike
LR_SCHEDULER=${LR_SCHEDULER:-cosine}  # published; linear is what its DeepSpeed file makes of it (docs/differences.md)
WARMUP_STEPS=${WARMUP_STEPS:-1000}    # updates until the full rate
EPOCHS=${EPOCHS:-10}                  # published; not varied here
LORA_R=${LORA_R:-8}                   # rank of the factors: 14.7 M parameters for LLaDA-8B
LORA_ALPHA=${LORA_ALPHA:-16}          # scale alpha / r = 2, which published loaders take for granted
LORA_DROPOUT=${LORA_DROPOUT:-0.05}    # of the factors' inputs, in training

train 3 --start_checkpoint "$STAGE2_CKPT" \
  --lora_r "$LORA_R" --lora_alpha "$LORA_ALPHA" --lora_dropout "$LORA_DROPOUT" "$@"
