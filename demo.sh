#!/usr/bin/env bash
# The whole way on the built-in miniature, in minutes on a laptop: make speech, train both stages, answer and score the
# three benchmarks, and show one table and two figures. The scripts are those of a real run; only the sizes differ.
#
#   bash demo.sh            # a second run reuses what exists in demo/out
#   bash demo.sh --diffa2   # DIFFA-2's four stages: goes on with LoRA (stage 3) and preferences (stage 4)
#   bash demo.sh --fresh    # start over; also beside --diffa2
#
# Environment: OUT (demo/out), SEED (1), NPROC (2; 1 with a single GPU), CLIPS (training clips), ITEMS (benchmark items
# per category), STAGE1_STEPS, STAGE2_STEPS, STAGE3_STEPS (of 16 clips each), STAGE4_STEPS (of 8 pairs each), DS_CONFIG
# (empty: without DeepSpeed).
set -euo pipefail
case "${OUT:-}" in "" | /*) ;; *) OUT="$PWD/$OUT" ;; esac  # counts from where it is started
cd "$(dirname "$0")"
source setup.sh
# The recipes' other settings, which may be exported for a real run, are not for the miniature.
unset LLM_PATH LLM_MODEL WHISPER_PATH WHISPER_MODEL DEVICE DTYPE STEPS BLOCK_LENGTH MAX_NEW_TOKENS
unset EPOCHS WEIGHT_DECAY MAX_GRAD_NORM MAX_LENGTH NNODES NODE_RANK MASTER_ADDR REPORT_TO SPLIT JUDGE_URL
unset FAMILY SYSTEM_PROMPT GLOBAL_BATCH LORA_R LORA_ALPHA LORA_DROPOUT VRPO_DRAWS VRPO_BETA

OUT=${OUT:-demo/out}
SEED=${SEED:-1}
CLIPS=${CLIPS:-9000}
ITEMS=${ITEMS:-48}
STAGE1_STEPS=${STAGE1_STEPS:-800}
STAGE2_STEPS=${STAGE2_STEPS:-850}
STAGE3_STEPS=${STAGE3_STEPS:-850}
STAGE4_STEPS=${STAGE4_STEPS:-100}
if [ -z "${NPROC:-}" ]; then  # two processes, so that ZeRO-1 has something to share out
  NPROC=$(python -c 'import torch; print(1 if torch.cuda.device_count() == 1 else 2)')
fi
export NPROC

DIFFA2= FRESH=
for flag in "$@"; do
  case "$flag" in
    --diffa2) DIFFA2=1 ;;
    --fresh) FRESH=1 ;;
    *) echo "demo.sh: unknown flag $flag; there are only --diffa2 and --fresh" >&2; exit 2 ;;
  esac
done
[ -z "$FRESH" ] || rm -rf "$OUT"
mkdir -p "$OUT/seconds" "$OUT/results"

# same_settings FILE SETTINGS: stop where what is in OUT was made with other settings; else remember them.
same_settings() {
  local made
  made=$(cat "$OUT/$1" 2> /dev/null || echo "$2")
  if [ "$made" != "$2" ]; then
    echo "demo.sh: $OUT was made with $made, and $2 is asked for: start over with --fresh, or set OUT to another" \
      "folder" >&2
    exit 2
  fi
  echo "$2" > "$OUT/$1"
}

same_settings settings "SEED=$SEED CLIPS=$CLIPS ITEMS=$ITEMS STAGE1_STEPS=$STAGE1_STEPS STAGE2_STEPS=$STAGE2_STEPS"
[ -z "$DIFFA2" ] || same_settings settings_diffa2 "STAGE3_STEPS=$STAGE3_STEPS STAGE4_STEPS=$STAGE4_STEPS"

# What the steps take on two CPU cores (demo/README.md), in seconds: the estimate of what is left rests on it.
PLAN="data:$(( 5 + 28 * CLIPS / 9000 )) stage1:$(( 8 + 132 * STAGE1_STEPS / 800 )) transcribe:11"
PLAN+=" stage2:$(( 8 + 290 * STAGE2_STEPS / 850 ))"
if [ -z "$DIFFA2" ]; then
  PLAN+=" benchmarks:$(( 15 + 34 * ITEMS / 48 )) swapped:0"  # both at once
else
  PLAN+=" benchmarks:$(( 15 + 18 * ITEMS / 48 )) diffa2_data:2"
  PLAN+=" stage3:$(( 10 + 380 * STAGE3_STEPS / 850 )) stage3_benchmarks:$(( 15 + 18 * ITEMS / 48 ))"
  PLAN+=" stage4:$(( 10 + 96 * STAGE4_STEPS / 100 )) stage4_benchmarks:$(( 15 + 18 * ITEMS / 48 ))"
fi

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
# published ones: its adapters are thirty times narrower and see thousands of clips instead of hundreds of thousands.
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

# DIFFA-2's later stages. Their recipes' other settings are the published ones (rank 8, scale 2; 4 draws, beta 0.2). The
# system prompt stays the short one: the miniature's LLM has never seen the words of the long one.
train_stage3() {
  TRAIN_DATASET="$OUT/data/stage3.json" OUTPUT_DIR="$OUT/stage3" STAGE2_CKPT="$OUT/stage2" SYSTEM_PROMPT=short \
    LEARNING_RATE=5e-4 train train_stage3.sh "${COMMON[@]}" --max_steps "$STAGE3_STEPS"
}

# The four draws of an answer share a pass, which takes two thirds of the time. At twice the learning rate pairs were won
# as often, but MMSU and MMAU fell by 3 and 7 points instead of 1 and 4.
train_stage4() {
  TRAIN_DATASET="$OUT/data/pairs.json" OUTPUT_DIR="$OUT/stage4" STAGE3_CKPT="$OUT/stage3" SYSTEM_PROMPT=short \
    BATCH_SIZE=$(( NPROC < 8 ? 8 / NPROC : 1 )) LEARNING_RATE=1e-4 WARMUP_STEPS=10 LOGGING_STEPS=1 \
    train train_stage4.sh --max_steps "$STAGE4_STEPS" --eval_dataset_path "$OUT/data/pairs_test.json" \
    --vrpo_draws_at_once 4 --eval_strategy steps --eval_steps $(( STAGE4_STEPS < 4 ? 1 : STAGE4_STEPS / 4 ))
}

transcribe() {
  python inference_stage1_asr.py --model_path "$OUT/stage1" --input "$OUT/data/test_asr.json" \
    --output "$OUT/results/asr.jsonl" --batch_size 32 --steps 16 --block_length 16 --max_new_tokens 16
  python asr/evaluate.py "$OUT/results/asr.jsonl"
}

# benchmarks CHECKPOINT FOLDER FLAG...: answer and score all three into a folder, each checkpoint in DIFFA's settings
benchmarks() {
  local results="$2" data="$OUT/data/benchmarks"
  local -x MODEL_PATH="$1" BATCH_SIZE=32
  shift 2
  INPUT="$data/mmsu.jsonl" OUTPUT="$results/mmsu.jsonl" STEPS=4 BLOCK_LENGTH=4 MAX_NEW_TOKENS=4 \
    bash run_mmsu_inference.sh "$@"
  INPUT="$data/mmau.json" OUTPUT="$results/mmau.json" bash run_mmau_inference.sh "$@"
  INPUT="$data/voicebench" DATA="openbookqa sd-qa advbench" OUTPUT="$results/voicebench" \
    bash run_voicebench_inference.sh "$@"
}

# The control: every question with the sound of another item. A model that uses the audio falls to chance.
control() {
  benchmarks "$OUT/stage2" "$OUT/results/swapped" --swap_audio > "$OUT/results/swapped.log" 2>&1
}

step data python demo/make_data.py --output "$OUT/data" --seed "$SEED" --clips "$CLIPS" --items "$ITEMS"
step stage1 train_stage1
step transcribe transcribe
step stage2 train_stage2
if [ -z "$DIFFA2" ]; then
  # Both at once, each in one process with half of the cores: more than half of their time alone is scripts that start.
  # What ends this script ends the control as well.
  export NPROC=1 OMP_NUM_THREADS=$(( ($(nproc) + 1) / 2 ))
  set -m
  step swapped control &
  set +m
  trap "kill -- -$! 2> /dev/null || true" EXIT
  step benchmarks benchmarks "$OUT/stage2" "$OUT/results"
  wait $! || { cat "$OUT/results/swapped.log" >&2; exit 1; }
  python demo/summary.py "$OUT"
else
  step benchmarks benchmarks "$OUT/stage2" "$OUT/results"
  step diffa2_data python demo/make_diffa2_data.py "$OUT/data" --seed "$SEED"
  step stage3 train_stage3
  step stage3_benchmarks benchmarks "$OUT/stage3" "$OUT/results/stage3"
  step stage4 train_stage4
  step stage4_benchmarks benchmarks "$OUT/stage4" "$OUT/results/stage4"
  python demo/diffa2_summary.py "$OUT"
fi

LAST=$OUT/stage$(( ${DIFFA2:+2} + 2 ))
cat << END

Where to go from here (after "source .venv/bin/activate", unless an environment is active):
  python ask.py examples/clip.wav "Which colour is named?" --model_path $LAST    # examples/README.md has more
  python app.py --model_path $LAST                                               # in the browser
  docs/data.md and docs/training.md: a model of your own data
END
[ -n "$DIFFA2" ] || echo "  bash demo.sh --diffa2: DIFFA-2's stages 3 and 4 on top of these"
