#!/usr/bin/env bash
# Answer subsets of VoiceBench with a DIFFA checkpoint, then score each; with DATA=all, also the overall score.
#
#   MODEL_PATH=exp/stage2 DATA="openbookqa sd-qa" bash run_voicebench_inference.sh [flags]
#   MODEL_PATH=exp/stage2 JUDGE_URL=http://localhost:8000/v1 JUDGE_MODEL=NAME bash run_voicebench_inference.sh
#
# Flags go to the Python script (see its --help). Run it again to answer what is still missing. Every setting below is
# an environment variable; relative paths count from where it is started. NPROC processes share the items: by default one a GPU.
set -euo pipefail
source "$(dirname "$0")/config/launch.sh"
source "$REPOSITORY/config/launch_inference.sh"

INPUT=${INPUT:-$REPOSITORY/data/voicebench}  # folder with one folder a subset: Parquet files, or JSONL and audio files
DATA=${DATA:-all}                     # subsets, separated by spaces; all: the nine of the leaderboard
OUTPUT=${OUTPUT:-$REPOSITORY/results/voicebench}  # folder for the answers; scores and settings are written beside
STEPS=${STEPS:-}                      # forward passes an answer; empty, as the next two: as published, see --help
BLOCK_LENGTH=${BLOCK_LENGTH:-}        # tokens that are unmasked together
MAX_NEW_TOKENS=${MAX_NEW_TOKENS:-}    # 128, with 128 steps, for long answers (alpacaeval, commoneval, wildvoice, ifeval)
JUDGE_URL=${JUDGE_URL:-}              # OpenAI-compatible endpoint that rates open answers and sd-qa; empty: not rated
JUDGE_MODEL=${JUDGE_MODEL:-gpt-4o-mini}  # the judge's name there; its key is read from OPENAI_API_KEY

read -r -a SUBSETS <<< "$DATA"
answer inference_stage2_voicebench.py --input "$INPUT" --data "${SUBSETS[@]}" --output "$OUTPUT" "$@"
MODEL_NAME=$(basename "$MODEL_PATH")
if [[ " $DATA " == *" all "* ]]; then
  read -r -a SUBSETS <<< "$(cd "$REPOSITORY" && python -c 'from evaluation.benchmarks import LEADERBOARD_SUBSETS; print(*LEADERBOARD_SUBSETS)')"
  SUBSETS+=(alpacaeval)  # answered where there is no alpacaeval_full
fi
SCORES=() STATUS=0
for subset in "${SUBSETS[@]}"; do
  for result in "$OUTPUT/$MODEL_NAME-$subset"-*-audio.jsonl; do
    [ -e "$result" ] || [[ "$subset" != alpacaeval* ]] || continue  # one of the two is there
    split=${result#"$OUTPUT/$MODEL_NAME-$subset-"}
    split=${split%-audio.jsonl}
    [[ "$split" != *-* ]] || continue  # no split: this is of another model, whose name goes on with a subset's
    case "$subset" in alpacaeval* | commoneval | wildvoice | sd-qa)
      if [ -n "$JUDGE_URL" ]; then  # a verdict that cannot be had does not keep the rest from being scored
        python "$REPOSITORY/voicebench/judge.py" "$result" --base_url "$JUDGE_URL" --model "$JUDGE_MODEL" || true
      fi
    esac
    scored=0
    python "$REPOSITORY/voicebench/evaluate.py" "$result" || scored=$?
    [ "$scored" -gt 1 ] || SCORES+=("$result.scores.json")  # 1: lines are broken, and the others scored
    STATUS=$(( scored > STATUS ? scored : STATUS ))
  done
done
if [[ " $DATA " == *" all "* ]] && [ ${#SCORES[@]} -gt 0 ]; then
  python "$REPOSITORY/voicebench/evaluate.py" --overall "${SCORES[@]}" || [ $? -eq 1 ]  # 1: not all nine are scored yet
fi
exit "$STATUS"
