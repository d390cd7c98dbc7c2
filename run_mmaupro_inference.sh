#!/usr/bin/env bash
# Answer MMAU-Pro with a DIFFA checkpoint, then score the answers.
#
#   MODEL_PATH=exp/stage2 INPUT=data/mmaupro/test.parquet bash run_mmaupro_inference.sh [flags]
#
# Flags go to the Python script (see its --help). Run it again to answer what is still missing. Every setting below is
# an environment variable; relative paths count from where it is started. NPROC processes share the items: by default one a GPU.
set -euo pipefail
source "$(dirname "$0")/config/launch.sh"
source "$REPOSITORY/config/launch_inference.sh"

INPUT=${INPUT:-$REPOSITORY/data/mmaupro/test.parquet}  # the questions
OUTPUT=${OUTPUT:-$REPOSITORY/results/mmaupro.jsonl}  # the answers; scores and settings are written beside
STEPS=${STEPS:-}                               # forward passes an answer; empty, as the next two: see --help
BLOCK_LENGTH=${BLOCK_LENGTH:-}                 # tokens that are unmasked together
MAX_NEW_TOKENS=${MAX_NEW_TOKENS:-}             # length of an answer

answer inference_stage2_mmaupro.py --input "$INPUT" --output "$OUTPUT" "$@"
python "$REPOSITORY/mmaupro/evaluate.py" "$OUTPUT"
