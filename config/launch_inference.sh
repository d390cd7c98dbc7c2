# Sourced by the run_*_inference.sh scripts: the settings that all benchmarks share, and how their scripts are started.

need MODEL_PATH "the DIFFA checkpoint (folder or hub name)" "Train one with train_stage2.sh, or get the published one: huggingface-cli download zhoujiaming777/DIFFA --local-dir FOLDER."
# LLM_PATH and WHISPER_PATH, LLaDA and Whisper, may be empty: the ones that the checkpoint remembers
BATCH_SIZE=${BATCH_SIZE:-8}     # items at a time; more is faster until memory is full (docs/decoding.md, Batches)
DEVICE=${DEVICE:-}              # cpu, cuda, cuda:1, mps; empty: GPUs if there are any
DTYPE=${DTYPE:-auto}            # float32, bfloat16, float16; auto: bfloat16 where the machine is faster in it

case "$DEVICE" in
  cpu) export CUDA_VISIBLE_DEVICES= ;;
  cuda:*) NPROC=${NPROC:-1} ;;  # one GPU, one process
esac
find_devices
find_nodes

# answer SCRIPT FLAG...: run an inference script, in one process or in NPROC on each of NNODES machines that share the
# items. What follows, the scoring, is left to the first machine: the others end here.
answer() {
  local launcher=(python)
  if [ "$NPROC" -gt 1 ] || [ "$NNODES" -gt 1 ]; then
    launcher=(python -m torch.distributed.run "${LAUNCHER[@]}" --nproc_per_node "$NPROC")
  fi
  local flags=(--model_path "$MODEL_PATH" --batch_size "$BATCH_SIZE" --dtype "$DTYPE")
  [ -z "$STEPS" ] || flags+=(--steps "$STEPS")
  [ -z "$BLOCK_LENGTH" ] || flags+=(--block_length "$BLOCK_LENGTH")
  [ -z "$MAX_NEW_TOKENS" ] || flags+=(--max_new_tokens "$MAX_NEW_TOKENS")
  [ -z "$LLM_PATH" ] || flags+=(--llm_path "$LLM_PATH")
  [ -z "$WHISPER_PATH" ] || flags+=(--whisper_path "$WHISPER_PATH")
  [ -z "$DEVICE" ] || flags+=(--device "$DEVICE")
  local script="$REPOSITORY/$1"
  shift
  "${launcher[@]}" "$script" "${flags[@]}" "$@"
  if [ "$NNODES" -gt 1 ] && [ "$NODE_RANK" -gt 0 ]; then
    exit 0
  fi
}
