# Sourced by the Slurm scripts: how the nodes of a job find each other.

export NNODES=$SLURM_NNODES
hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
MASTER_ADDR=${hosts%%$'\n'*}  # the first line; `| head` would now and then kill scontrol, and the job with it (pipefail)
MASTER_PORT=$(( 20000 + SLURM_JOB_ID % 10000 ))  # jobs that share a node need ports of their own
export MASTER_ADDR MASTER_PORT

# run_on_all_nodes SCRIPT FLAG...: start a training script on every node of the job.
run_on_all_nodes() {
  # shellcheck disable=SC2016 - each node expands its own number
  srun --kill-on-bad-exit=1 bash -c 'NODE_RANK=$SLURM_NODEID exec bash "$@"' - "$@"
}
