#!/usr/bin/env bash
# The whole way on the built-in miniature, in minutes on a laptop: make speech, train both stages, answer and score the
# three benchmarks, and show one table and two figures. The scripts are those of a real run; only the sizes differ.
#
#   bash demo.sh            # a second run reuses what exists in demo/out
#   bash demo.sh --fresh    # start over
#
# Environment: OUT (demo/out), SEED (1), NPROC (2; 1 with a single GPU), CLIPS (training clips), ITEMS (benchmark items
# per category), STAGE1_STEPS, STAGE2_STEPS (of 16 clips each), DS_CONFIG (empty: without DeepSpeed).
set -euo pipefail
case "${OUT:-}" in "" | /*) ;; *) OUT="$PWD/$OUT" ;; esac  # counts from where it is started
cd "$(dirname "$0")"
source setup.sh
# The recipes' other settings, which may be exported for a real run, are not for the miniature.
unset LLM_PATH LLM_MODEL WHISPER_PATH WHISPER_MODEL DEVICE DTYPE STEPS BLOCK_LENGTH MAX_NEW_TOKENS
unset EPOCHS WEIGHT_DECAY MAX_GRAD_NORM MAX_LENGTH NNODES NODE_RANK MASTER_ADDR REPORT_TO SPLIT JUDGE_URL
unset FAMILY SYSTEM_PROMPT GLOBAL_BATCH

OUT=${OUT:-demo/out}
SEED=${SEED:-1}
CLIPS=${CLIPS:-8000}
ITEMS=${ITEMS:-48}
STAGE1_STEPS=${STAGE1_STEPS:-400}
STAGE2_STEPS=${STAGE2_STEPS:-900}
GPUS=$(python -c 'import torch; print(torch.cuda.device_count())')
export NPROC=${NPROC:-$(( GPUS == 1 ? 1 : 2 ))}  # two processes, so that ZeRO-1 has something to share out

case "${1:-}" in
  --fresh) rm -rf "$OUT" ;;
  "") ;;
  *) echo "demo.sh: unknown flag $1; there is only --fresh" >&2; exit 2 ;;
esac
mkdir -p "$OUT/seconds" "$OUT/results"
settings="SEED=$SEED CLIPS=$CLIPS ITEMS=$ITEMS STAGE1_STEPS=$STAGE1_STEPS STAGE2_STEPS=$STAGE2_STEPS"
if [ "$(cat "$OUT/settings" 2> /dev/null || echo "$settings")" != "$settings" ]; then
  echo "demo.sh: $OUT was made with $(cat "$OUT/settings"), and $settings is asked for: start over with --fresh, or set" \
    "OUT to another folder" >&2
  exit 2
fi
echo "$settings" > "$OUT/settings"

# What the steps take on two CPU cores (demo/README.md), in seconds: the estimate of what is left rests on it.
PLAN="data:$(( 5 + 36 * CLIPS / 8000 )) stage1:$(( 8 + 79 * STAGE1_STEPS / 400 )) transcribe:13"
PLAN+=" stage2:$(( 8 + 280 * STAGE2_STEPS / 900 )) benchmarks:$(( 20 + 30 * ITEMS / 48 ))"
PLAN+=" swapped:$(( 20 + 30 * ITEMS / 48 ))"

# time_left: about how long the steps that are still to do take, at the pace of those that are done.
time_left() {
  local item file planned=0 took=0 left=0
  for item in $PLAN; do
    file="$OUT/seconds/${item%:*}"
    if [ -e "$file" ]; then
      planned=$(( planned + ${item#*:} )) took=$(( took + $(cat "$file") ))
    else
      left=$(( left + ${item#*:} ))
    fi
  done
  left=$(( planned ? left * took / planned : left ))
  (( left < 90 )) && echo "about a minute" || echo "about $(( (left + 30) / 60 )) minutes"
}

# step NAME COMMAND...: run the command unless it has finished before, and remember how long it took.
step() {
  local name="$1" start
  shift
  if [ -e "$OUT/seconds/$name" ]; then
    echo "== $name: done before, $(cat "$OUT/seconds/$name") s"
    return
  fi
  echo "== $name ($(time_left) left)"
  start=$(date +%s)
  "$@"
  echo $(( $(date +%s) - start )) > "$OUT/seconds/$name.partial"
  mv "$OUT/seconds/$name.partial" "$OUT/seconds/$name"
}

# The miniature's own recipe; everything not set here is the published default. Its learning rates are about ten times the
# published ones: its adapters are forty times narrower and see thousands of clips instead of hundreds of thousands.
# Many small steps beat few large ones: 16 clips learn more than 32 in the same time.
export MAX_SECONDS=4 BATCH_SIZE=$(( NPROC < 16 ? 16 / NPROC : 1 )) GRADIENT_ACCUMULATION=1
export LR_SCHEDULER=cosine WARMUP_STEPS=30 LEARNING_RATE=7e-4 LOGGING_STEPS=10 SAVE_STEPS=200 WORKERS=0 SEED
export BF16=auto
# New adapters start at the scale of the LLM's embeddings: the miniature has no time to find it. Masking rates spread
# evenly over each step's 16 clips make its few steps less noisy.
COMMON=(--match_embedding_scale True --time_sampling stratified)
# Half of the published queries, and two encoder layers instead of four: a quarter of the acoustic adapter's work, which
# would be most of a step. (With 16 queries it often misses a voice's attributes, with 8 nearly always.)
ACOUSTIC=(--prompt_size 32 --target_layer_ids 0 2)

# train SCRIPT FLAG...: on the miniature's frozen parts, which a checkpoint remembers
train() {
  LLM_PATH=demo/assets/llada WHISPER_PATH=demo/assets/whisper bash "$@"
}

train_stage1() {
  TRAIN_DATASET="$OUT/data/stage1.json" OUTPUT_DIR="$OUT/stage1" LEARNING_RATE=1e-3 \
    train train_stage1.sh "${COMMON[@]}" "${ACOUSTIC[@]}" --max_steps "$STAGE1_STEPS"
}

train_stage2() {
  TRAIN_DATASET="$OUT/data/stage2.json" OUTPUT_DIR="$OUT/stage2" STAGE1_CKPT="$OUT/stage1" \
    train train_stage2.sh "${COMMON[@]}" --max_steps "$STAGE2_STEPS"
}

transcribe() {
  python inference_stage1_asr.py --model_path "$OUT/stage1" --input "$OUT/data/test_asr.json" \
    --output "$OUT/results/asr.jsonl" --batch_size 32 --steps 16 --block_length 16 --max_new_tokens 16
  python asr/evaluate.py "$OUT/results/asr.jsonl"
}

# benchmarks FOLDER FLAG...: answer and score all three into a folder
benchmarks() {
  local results="$1" data="$OUT/data/benchmarks"
  shift
  export MODEL_PATH="$OUT/stage2" BATCH_SIZE=32
  INPUT="$data/mmsu.jsonl" OUTPUT="$results/mmsu.jsonl" bash run_mmsu_inference.sh "$@"
  INPUT="$data/mmau.json" OUTPUT="$results/mmau.json" bash run_mmau_inference.sh "$@"
  INPUT="$data/voicebench" DATA="openbookqa sd-qa advbench" OUTPUT="$results/voicebench" \
    bash run_voicebench_inference.sh "$@"
}

step data python demo/make_data.py --output "$OUT/data" --seed "$SEED" --clips "$CLIPS" --items "$ITEMS"
step stage1 train_stage1
step transcribe transcribe
step stage2 train_stage2
step benchmarks benchmarks "$OUT/results"
# The control: every question with the sound of another item. A model that uses the audio falls to chance.
step swapped benchmarks "$OUT/results/swapped" --swap_audio
python demo/summary.py "$OUT"
cat << END

Where to go from here:
  python ask.py examples/clip.wav "Which colour is named?" --model_path $OUT/stage2    # examples/README.md has more
  python app.py --model_path $OUT/stage2                                               # in the browser
  docs/data.md and docs/training.md: a model of your own data
END
