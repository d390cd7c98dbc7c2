#!/usr/bin/env bash
# Answer and score every benchmark that is in data/ with a DIFFA checkpoint; then a report beside published scores, and a
# report card of one page (HTML and Markdown) with commit, checkpoint, options and intervals.
#
#   MODEL_PATH=exp/stage2 bash run_all_benchmarks.sh [flags]
#   MODEL_PATH=exp/stage2 JUDGE_URL=http://localhost:8000/v1 JUDGE_MODEL=NAME bash run_all_benchmarks.sh
#
# Flags go to every inference script. Run it again to answer what is still missing, and what came to data/ since. A
# benchmark that fails does not keep the others from being answered; the exit status is then 1. Further settings are
# those of the run_*_inference.sh scripts, which it starts.
set -euo pipefail
source "$(dirname "$0")/config/launch.sh"
need MODEL_PATH "the DIFFA checkpoint (folder or hub name)" "Train one with train_stage2.sh."

DATA_ROOT=${DATA_ROOT:-$REPOSITORY/data}  # what docs/benchmarks.md names, or some of it
NAME=${NAME:-$(basename "$MODEL_PATH")}   # of the run, in the report
RESULTS=${RESULTS:-$REPOSITORY/results/$NAME}  # folder for answers, scores, report and report card

# is_there BENCHMARK FILE: whether the file is in data/, or Parquet files that stand for it
is_there() {
  local file="$DATA_ROOT/$1/$2"
  [ -e "$file" ] || compgen -G "$(dirname "$file")/*.parquet" > /dev/null ||
    compgen -G "$(dirname "$file")/data/*.parquet" > /dev/null
}

FOUND=() FAILED=()
# study BENCHMARK INPUT OUTPUT FLAG...: answer and score one benchmark
study() {
  local benchmark=$1 input=$2 output=$3
  shift 3
  FOUND+=("$benchmark")
  echo "== $benchmark: $input"
  INPUT=$input OUTPUT=$output bash "$REPOSITORY/run_${benchmark}_inference.sh" "$@" || FAILED+=("$benchmark")
}

! is_there mmsu mmsu.jsonl || study mmsu "$DATA_ROOT/mmsu/mmsu.jsonl" "$RESULTS/mmsu.jsonl" "$@"
! is_there mmau mmau-test-mini.json || study mmau "$DATA_ROOT/mmau/mmau-test-mini.json" "$RESULTS/mmau.json" "$@"
! is_there mmar MMAR-meta.json || study mmar "$DATA_ROOT/mmar/MMAR-meta.json" "$RESULTS/mmar.json" "$@"
! is_there mmaupro test.parquet || study mmaupro "$DATA_ROOT/mmaupro/test.parquet" "$RESULTS/mmaupro.jsonl" "$@"
! is_there airbench Foundation/Foundation_meta.json ||
  study airbench "$DATA_ROOT/airbench/Foundation/Foundation_meta.json" "$RESULTS/airbench.jsonl" "$@"
! is_there bigbenchaudio metadata.jsonl ||
  study bigbenchaudio "$DATA_ROOT/bigbenchaudio/metadata.jsonl" "$RESULTS/bigbenchaudio.jsonl" "$@"

# VoiceBench: answers of 16 tokens by default; where people want sentences, 128. Of the two alpacaevals the leaderboard's.
alpacaeval=alpacaeval_full
[ -d "$DATA_ROOT/voicebench/$alpacaeval" ] || alpacaeval=alpacaeval
SHORT=() LONG=()
for subset in sd-qa mmsu openbookqa bbh advbench; do [ ! -d "$DATA_ROOT/voicebench/$subset" ] || SHORT+=("$subset"); done
for subset in $alpacaeval commoneval wildvoice ifeval; do
  [ ! -d "$DATA_ROOT/voicebench/$subset" ] || LONG+=("$subset")
done
if [ ${#SHORT[@]} -gt 0 ]; then
  DATA="${SHORT[*]}" study voicebench "$DATA_ROOT/voicebench" "$RESULTS/voicebench" "$@"
fi
if [ ${#LONG[@]} -gt 0 ]; then
  DATA="${LONG[*]}" STEPS=${STEPS:-128} MAX_NEW_TOKENS=${MAX_NEW_TOKENS:-128} \
    study voicebench "$DATA_ROOT/voicebench" "$RESULTS/voicebench" "$@"
fi

if [ ${#FOUND[@]} -eq 0 ]; then
  echo "$(basename "$0"): $DATA_ROOT holds no benchmark; docs/benchmarks.md says where each comes from" >&2
  exit 2
fi
[ "${NODE_RANK:-0}" -eq 0 ] || exit $(( ${#FAILED[@]} > 0 ))  # the first machine scores
SCORES=()
for scores in "$RESULTS"/*.scores.json "$RESULTS"/voicebench/*.scores.json; do
  [ ! -e "$scores" ] || SCORES+=("$scores")
done
if [ ${#SCORES[@]} -gt 0 ]; then
  export PYTHONPATH="$REPOSITORY${PYTHONPATH:+:$PYTHONPATH}"
  python -m evaluation.report "${SCORES[@]}" --names "$NAME" --output "$RESULTS/report"
  python -m evaluation.report_card "${SCORES[@]}" --name "$NAME" --output "$RESULTS/report"
fi
if [ ${#FAILED[@]} -gt 0 ]; then
  echo "$(basename "$0"): not all answered or scored: ${FAILED[*]}" >&2
  exit 1
fi
