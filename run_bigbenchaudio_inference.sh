#!/usr/bin/env bash
# Answer Big Bench Audio with a DIFFA checkpoint, then score the answers.
#
#   MODEL_PATH=exp/stage2 INPUT=data/bigbenchaudio/metadata.jsonl bash run_bigbenchaudio_inference.sh [flags]
#   MODEL_PATH=exp/stage2 JUDGE_URL=http://localhost:8000/v1 JUDGE_MODEL=NAME bash run_bigbenchaudio_inference.sh
#
# Flags go to the Python script (see its --help). Run it again to answer what is still missing. Every setting below is
# an environment variable; relative paths count from where it is started. NPROC processes share the items: by default one a GPU.
set -euo pipefail
source "$(dirname "$0")/config/launch.sh"
source "$REPOSITORY/config/launch_inference.sh"

INPUT=${INPUT:-$REPOSITORY/data/bigbenchaudio/metadata.jsonl}  # the questions
OUTPUT=${OUTPUT:-$REPOSITORY/results/bigbenchaudio.jsonl}  # the answers; scores and settings are written beside
STEPS=${STEPS:-}                               # forward passes an answer; empty, as the next two: see --help
BLOCK_LENGTH=${BLOCK_LENGTH:-}                 # tokens that are unmasked together
MAX_NEW_TOKENS=${MAX_NEW_TOKENS:-}             # length of an answer
JUDGE_URL=${JUDGE_URL:-}                       # OpenAI-compatible endpoint for official scores; empty: strict ones alone
JUDGE_MODEL=${JUDGE_MODEL:-gpt-4o-mini}        # the judge's name there; its key is read from OPENAI_API_KEY

answer inference_stage2_bigbenchaudio.py --input "$INPUT" --output "$OUTPUT" "$@"
if [ -n "$JUDGE_URL" ]; then  # a verdict that cannot be had does not keep the rest from being scored
  python "$REPOSITORY/voicebench/judge.py" "$OUTPUT" --evaluator qa --base_url "$JUDGE_URL" --model "$JUDGE_MODEL" || true
fi
python "$REPOSITORY/bigbenchaudio/evaluate.py" "$OUTPUT"
