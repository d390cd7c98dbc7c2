#!/usr/bin/env bash
# Answer AIR-Bench foundation with a DIFFA checkpoint, then score the answers.
#
#   MODEL_PATH=exp/stage2 INPUT=data/airbench/Foundation/Foundation_meta.json bash run_airbench_inference.sh [flags]
#
# Flags go to the Python script (see its --help). Run it again to answer what is still missing. Every setting below is
# an environment variable; relative paths count from where it is started. NPROC processes share the items: by default one a GPU.
set -euo pipefail
source "$(dirname "$0")/config/launch.sh"
source "$REPOSITORY/config/launch_inference.sh"

INPUT=${INPUT:-$REPOSITORY/data/airbench/Foundation/Foundation_meta.json}  # the questions
OUTPUT=${OUTPUT:-$REPOSITORY/results/airbench.jsonl}  # the answers; scores and settings are written beside
STEPS=${STEPS:-}                               # forward passes an answer; empty, as the next two: see --help
BLOCK_LENGTH=${BLOCK_LENGTH:-}                 # tokens that are unmasked together
MAX_NEW_TOKENS=${MAX_NEW_TOKENS:-}             # length of an answer

answer inference_stage2_airbench.py --input "$INPUT" --output "$OUTPUT" "$@"
python "$REPOSITORY/airbench/evaluate.py" "$OUTPUT"
