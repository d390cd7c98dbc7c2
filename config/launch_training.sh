# Sourced by train_stage1.sh ... train_stage4.sh: what all stages share. A script says which generations of DIFFA it has
# a recipe of (`choose_family`), what it needs, and sets its recipe's variables; `train` starts it.

source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
GIVEN_ACCUMULATION=${GRADIENT_ACCUMULATION:-}
FSDP_CONFIG=${FSDP_CONFIG:-}  # config/fsdp.yaml: FSDP2, by accelerate, in place of DeepSpeed
[ -z "$FSDP_CONFIG" ] || DS_CONFIG=${DS_CONFIG-}
DS_CONFIG=${DS_CONFIG-$REPOSITORY/config/dp_config.json}  # ZeRO-1: optimizer state shared out; empty for plain DDP

# choose_family NAME...: set FAMILY, the generation of DIFFA, to the first of these unless it is one of them.
choose_family() {
  FAMILY=${FAMILY:-$1}
  if [[ " $* " != *" $FAMILY "* ]]; then
    echo "$(basename "$0"): FAMILY=$FAMILY; this stage has a recipe of $*" >&2
    exit 2
  fi
}

# need_inputs: stop unless the frozen parts and the training data are there.
need_inputs() {
  need LLM_PATH "the LLaDA checkpoint (folder or hub name)" "Get it with: huggingface-cli download GSAI-ML/LLaDA-8B-Instruct --local-dir FOLDER (16 GB)."
  local files="--include '*.json' '*.txt' model.safetensors"
  local whisper="whisper-small --local-dir FOLDER $files (1 GB)"
  [ "$FAMILY" = diffa ] || whisper="whisper-large-v3 --local-dir FOLDER $files (3 GB)"
  need WHISPER_PATH "the Whisper checkpoint (folder or hub name)" "Get it with: huggingface-cli download openai/$whisper."
  local hint="README.md, section Data, gives its format. $1" part parts=()
  if [ ! -e "${TRAIN_DATASET:-}" ] && [[ "${TRAIN_DATASET:-}" =~ :[0-9.]+([[:space:]]|$) ]]; then  # PATH:WEIGHT ...
    read -r -a parts <<< "$TRAIN_DATASET"
    for part in "${parts[@]}"; do
      if [ ! -e "${part%:*}" ]; then
        echo "$(basename "$0"): ${part%:*}, in TRAIN_DATASET, does not exist; it must be a training manifest. $hint" >&2
        exit 2
      fi
    done
  else
    need TRAIN_DATASET "the training manifest (a JSON file)" "$hint"
  fi
}

# whole_number NAME: stop unless the variable NAME holds a number from 1 on.
whole_number() {
  if ! [[ "${!1}" =~ ^[1-9][0-9]*$ ]]; then
    echo "$(basename "$0"): $1=${!1}; expected a whole number from 1 on" >&2
    exit 2
  fi
}

# find_accumulation: set GRADIENT_ACCUMULATION, by GLOBAL_BATCH where that is given, and say the effective batch size.
find_accumulation() {
  local name
  for name in BATCH_SIZE NPROC NNODES ${GLOBAL_BATCH:+GLOBAL_BATCH} GRADIENT_ACCUMULATION; do whole_number "$name"; done
  local at_once=$(( NNODES * NPROC * BATCH_SIZE ))
  local product="NNODES $NNODES x NPROC $NPROC x BATCH_SIZE $BATCH_SIZE"
  if [ -n "${GLOBAL_BATCH:-}" ]; then
    if (( GLOBAL_BATCH % at_once )); then
      echo "$(basename "$0"): GLOBAL_BATCH=$GLOBAL_BATCH is no multiple of $at_once, which is $product;" \
        "choose another BATCH_SIZE or NPROC, so that it divides" >&2
      exit 2
    fi
    GRADIENT_ACCUMULATION=$(( GLOBAL_BATCH / at_once ))
    if [ -n "$GIVEN_ACCUMULATION" ] && [ "$GIVEN_ACCUMULATION" -ne "$GRADIENT_ACCUMULATION" ]; then
      echo "$(basename "$0"): GLOBAL_BATCH=$GLOBAL_BATCH asks for GRADIENT_ACCUMULATION=$GRADIENT_ACCUMULATION, but" \
        "it is $GIVEN_ACCUMULATION; unset one of them" >&2
      exit 2
    fi
  fi
  local batch=$(( at_once * GRADIENT_ACCUMULATION )) published=
  (( batch == PUBLISHED_BATCH )) || published="; published: $PUBLISHED_BATCH, which GLOBAL_BATCH=$PUBLISHED_BATCH gives"
  echo "$(basename "$0"): effective batch size $batch ($product x GRADIENT_ACCUMULATION $GRADIENT_ACCUMULATION)$published" >&2
}

# train STAGE FLAG...: start train.py on the recipe that is in the variables, with these flags at the end.
train() {
  local stage="$1"
  shift

  # The part of the published recipes that all stages share.
  WEIGHT_DECAY=${WEIGHT_DECAY:-0.05}          # published; not varied here
  MAX_GRAD_NORM=${MAX_GRAD_NORM:-1.0}         # 1 / t weighs rarely masked samples up a thousandfold: clipping matters
  MAX_SECONDS=${MAX_SECONDS:-30}              # the encoder's window
  MAX_LENGTH=${MAX_LENGTH:-2048}              # text tokens
  SAVE_STEPS=${SAVE_STEPS:-1000}              # a checkpoint is the adapters and their optimizer state: small
  LOGGING_STEPS=${LOGGING_STEPS:-10}          # updates: often enough to watch, and a small log
  WORKERS=${WORKERS:-4}                       # processes that read audio, for each training process
  BF16=${BF16:-auto}                          # frozen parts in bf16 (adapters' master weights in float32): True, False,
                                              # auto: where the machine is faster in it (src/precision.py)
  # What both generations have of their own. DIFFA-2 was trained with a long system prompt, and answers with the short
  # one (docs/differences.md); short here trains as it will be asked.
  case "$FAMILY" in
    diffa) SEED=${SEED:-1} SYSTEM_PROMPT=${SYSTEM_PROMPT:-short} ;;  # seeds are published; any other will do
    diffa2) SEED=${SEED:-42} SYSTEM_PROMPT=${SYSTEM_PROMPT:-long} ;;
  esac

  find_devices
  find_nodes
  find_accumulation
  local device_flags=(--use_cpu --ddp_backend gloo)
  [ "$GPUS" -eq 0 ] || device_flags=(--ddp_backend nccl)
  [ -z "$DS_CONFIG" ] || device_flags+=(--deepspeed "$DS_CONFIG")

  # Seconds that processes have after SIGTERM for the update under way and the checkpoint; torch's own 30 are short for
  # the 8B model. They end before config/slurm.sbatch's two minutes do. (torch 2.13 reads it; old ones always wait 30.)
  export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-110}

  # Two checkpoints are kept: should the last be damaged, there is the one before it. (Under --load_best_model_at_end,
  # the best and the last.)
  local launch=(python -m torch.distributed.run "${LAUNCHER[@]}" --nproc_per_node "$NPROC") port=0  # 0: a free one
  [ "$NNODES" -eq 1 ] || port=$MASTER_PORT
  [ -z "$FSDP_CONFIG" ] || launch=(python -m accelerate.commands.launch --config_file "$FSDP_CONFIG"
    --num_processes $(( NNODES * NPROC )) --num_machines "$NNODES" --machine_rank "${NODE_RANK:-0}"
    --main_process_ip "${MASTER_ADDR:-127.0.0.1}" --main_process_port "$port")
  exec "${launch[@]}" "$REPOSITORY/train.py" \
    --stage "$stage" --family "$FAMILY" --system_prompt "$SYSTEM_PROMPT" \
    --llm_path "$LLM_PATH" --whisper_path "$WHISPER_PATH" \
    --train_dataset_path "$TRAIN_DATASET" --output_dir "$OUTPUT_DIR" \
    --per_device_train_batch_size "$BATCH_SIZE" --per_device_eval_batch_size "$BATCH_SIZE" \
    --gradient_accumulation_steps "$GRADIENT_ACCUMULATION" \
    --learning_rate "$LEARNING_RATE" --lr_scheduler_type "$LR_SCHEDULER" --warmup_steps "$WARMUP_STEPS" \
    --num_train_epochs "$EPOCHS" --weight_decay "$WEIGHT_DECAY" --max_grad_norm "$MAX_GRAD_NORM" \
    --optim adamw_torch_fused \
    --max_seconds "$MAX_SECONDS" --max_length "$MAX_LENGTH" --seed "$SEED" --bf16 "$BF16" \
    --save_steps "$SAVE_STEPS" --save_total_limit 2 --logging_steps "$LOGGING_STEPS" \
    --dataloader_num_workers "$WORKERS" --ddp_find_unused_parameters False --report_to "${REPORT_TO:-none}" \
    "${device_flags[@]}" "$@"
}
