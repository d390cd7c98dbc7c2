#!/usr/bin/env bash
# Stage 4, of DIFFA-2: learn from pairs which of two answers is right about the sound (preference optimisation, VRPO).
# It trains both adapters and the LoRA factors, from a stage-3 checkpoint, which is also what it compares with.
#
#   LLM_PATH=GSAI-ML/LLaDA-8B-Instruct WHISPER_PATH=openai/whisper-large-v3 STAGE3_CKPT=exp/stage3 \
#   TRAIN_DATASET=data/preferences.json bash train_stage4.sh [any flag of train.py]
#
# Run it again to go on from the last checkpoint in OUTPUT_DIR. Every setting is an environment variable; what all
# stages share is in config/launch_training.sh.
set -euo pipefail
source "$(dirname "$0")/config/launch_training.sh"

choose_family diffa2
need_inputs "Its samples need a worse answer, rejected, beside target: docs/data.md."
need STAGE3_CKPT "a stage-3 checkpoint (folder or hub name)" "train_stage3.sh makes one in exp/stage3."
OUTPUT_DIR=${OUTPUT_DIR:-$REPOSITORY/exp/stage4}

# The recipe of arXiv 2601.23161 and its scripts, made for 2 machines of 8 GPUs, for about 3000 pairs.
BATCH_SIZE=${BATCH_SIZE:-1}                        # pairs a process and step
GRADIENT_ACCUMULATION=${GRADIENT_ACCUMULATION:-1}  # 16 x 1 pairs an update: GLOBAL_BATCH=16 keeps that
PUBLISHED_BATCH=16
LEARNING_RATE=${LEARNING_RATE:-5e-5}  # as in stage 3
LR_SCHEDULER=${LR_SCHEDULER:-cosine}  # published; linear is what its DeepSpeed file makes of it (docs/differences.md)
WARMUP_STEPS=${WARMUP_STEPS:-1000}    # published: more than half of its 1900 updates; fewer for a shorter run
EPOCHS=${EPOCHS:-10}                  # published; not varied here
SAVE_STEPS=${SAVE_STEPS:-100}         # of 1900 updates, each as long as one of stage 3's
VRPO_DRAWS=${VRPO_DRAWS:-4}           # of masks for each answer: more are steadier, and take as much longer
VRPO_BETA=${VRPO_BETA:-0.2}           # of the margins: higher holds the model closer to stage 3
LORA_DROPOUT=${LORA_DROPOUT:-0.05}    # of the factors' inputs, in training; they come from the checkpoint

train 4 --start_checkpoint "$STAGE3_CKPT" \
  --vrpo_draws "$VRPO_DRAWS" --vrpo_beta "$VRPO_BETA" --lora_dropout "$LORA_DROPOUT" "$@"
