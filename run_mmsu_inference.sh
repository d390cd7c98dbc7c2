#!/usr/bin/env bash
# Answer MMSU with a DIFFA checkpoint, then score the answers.
#
#   MODEL_PATH=exp/stage2 INPUT=data/mmsu/mmsu.jsonl bash run_mmsu_inference.sh [flags]
#
# Flags go to the Python script (see its --help). Run it again to answer what is still missing. Every setting below is
# an environment variable; relative paths count from where it is started. NPROC processes share the items: by default one a GPU.
set -euo pipefail
source "$(dirname "$0")/config/launch.sh"
source "$REPOSITORY/config/launch_inference.sh"

INPUT=${INPUT:-$REPOSITORY/data/mmsu/mmsu.jsonl}  # the questions; the audio paths in it count from its folder
OUTPUT=${OUTPUT:-$REPOSITORY/results/mmsu.jsonl}  # the answers; scores and settings are written beside
STEPS=${STEPS:-}                       # forward passes an answer; empty, as the next two: as published, see --help
BLOCK_LENGTH=${BLOCK_LENGTH:-}         # tokens that are unmasked together
MAX_NEW_TOKENS=${MAX_NEW_TOKENS:-}     # length of an answer

answer inference_stage2_mmsu.py --input "$INPUT" --output "$OUTPUT" "$@"
python "$REPOSITORY/mmsu/evaluate.py" "$OUTPUT"
