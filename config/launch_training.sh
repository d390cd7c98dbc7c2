# Sourced by train_stage1.sh and train_stage2.sh once their recipe is in variables.

# The part of the published recipe that both stages share.
WEIGHT_DECAY=${WEIGHT_DECAY:-0.05}          # published; not varied here
MAX_GRAD_NORM=${MAX_GRAD_NORM:-1.0}         # 1 / t weighs rarely masked samples up a thousandfold: clipping matters
MAX_SECONDS=${MAX_SECONDS:-30}              # the encoder's window
MAX_LENGTH=${MAX_LENGTH:-2048}              # text tokens
SEED=${SEED:-1}                             # published; any other will do
SAVE_STEPS=${SAVE_STEPS:-1000}              # a checkpoint is the adapters and their optimizer state: small
LOGGING_STEPS=${LOGGING_STEPS:-10}          # updates: often enough to watch, and a small log
WORKERS=${WORKERS:-4}                       # processes that read audio, for each training process

BF16=${BF16:-auto}                          # frozen parts in bf16 (adapters' master weights in float32): True, False,
                                            # auto: where the machine is faster in it (src/precision.py)

find_devices
if [ "$GPUS" -gt 0 ]; then
  DEVICE_FLAGS=(--ddp_backend nccl)
else
  DEVICE_FLAGS=(--use_cpu --ddp_backend gloo)
fi
if [ -n "$DS_CONFIG" ]; then
  DEVICE_FLAGS+=(--deepspeed "$DS_CONFIG")
fi

# Seconds that processes have after SIGTERM for the update under way and the checkpoint; torch's own 30 are short for
# the 8B model. They end before config/slurm.sbatch's two minutes do. (torch 2.13 reads it; old ones always wait 30.)
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-110}

find_nodes  # the effective batch size grows with the machines: mind GRADIENT_ACCUMULATION

# Two checkpoints are kept: should the last be damaged, there is the one before it. (Under --load_best_model_at_end, the
# best and the last.)
exec python -m torch.distributed.run "${LAUNCHER[@]}" --nproc_per_node "$NPROC" train.py \
  --stage "$STAGE" ${STAGE_FLAGS[@]+"${STAGE_FLAGS[@]}"} \
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
  "${DEVICE_FLAGS[@]}" "$@"
