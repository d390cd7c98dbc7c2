# Sourced by the scripts that start training or inference: environment, devices, checks. Relative paths count from where
# a script is started; what lies in the repository is named by its own path.
REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# setup.sh makes .venv; it is used unless an environment is active already.
if [ -z "${VIRTUAL_ENV:-}" ] && [ "${CONDA_DEFAULT_ENV:-base}" = base ] && [ -f "$REPOSITORY/.venv/bin/activate" ]; then
  source "$REPOSITORY/.venv/bin/activate"
fi

# also_named NAME OTHER: a setting may be given by another name. They may not contradict each other.
also_named() {
  if [ -n "${!1:-}" ] && [ -n "${!2:-}" ] && [ "${!1}" != "${!2}" ]; then
    echo "$(basename "$0"): $1=${!1} and $2=${!2} are two names of one setting, with different values; unset $2" >&2
    exit 2
  fi
  printf -v "$1" %s "${!1:-${!2:-}}"
}
also_named LLM_PATH LLM_MODEL
also_named WHISPER_PATH WHISPER_MODEL

# need NAME WHAT WHERE: stop unless the variable NAME holds an existing path or, where WHAT says so, a hub name.
need() {
  local value="${!1:-}"
  if [ -z "$value" ]; then
    echo "$(basename "$0"): set $1 to $2. $3" >&2
    exit 2
  fi
  if [ ! -e "$value" ] && ! { [[ "$2" == *"hub name"* ]] && looks_like_hub_name "$value"; }; then
    echo "$(basename "$0"): $1=$value does not exist; it must be $2. $3" >&2
    exit 2
  fi
}

# looks_like_hub_name VALUE: owner/name, and no path into a folder that is there, in the repository, or usual.
looks_like_hub_name() {
  [[ "$1" =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_.-]+$ ]] && [ ! -d "${1%%/*}" ] &&
    [ ! -d "$REPOSITORY/${1%%/*}" ] &&
    ! [[ "$1" =~ ^(checkpoints|data|exp|models|results)/ ]]
}

# count_gpus: print how many PyTorch finds. None where they are all hidden, or where it was built for CPUs, as its
# version file says: that is known without the two seconds of importing it.
count_gpus() {
  if [ -n "${CUDA_VISIBLE_DEVICES+set}" ] && [ -z "$CUDA_VISIBLE_DEVICES" ]; then
    echo 0
  else
    python -c '
import importlib.util, pathlib, runpy
version = pathlib.Path(importlib.util.find_spec("torch").origin).with_name("version.py")
built_for = runpy.run_path(str(version)) if version.exists() else {"cuda": "unknown"}
if built_for.get("cuda") or built_for.get("hip"):
    import torch
    print(torch.cuda.device_count())
else:
    print(0)'
  fi
}

# find_devices: set GPUS, NPROC and the threads of each process.
find_devices() {
  GPUS=$(count_gpus)
  if [ "$GPUS" -gt 0 ]; then
    NPROC=${NPROC:-$GPUS}      # one process a GPU
    if [ "$NPROC" -gt "$GPUS" ]; then
      echo "$(basename "$0"): NPROC=$NPROC processes need a GPU each, and PyTorch finds $GPUS; lower NPROC, or hide the" \
        "GPUs to run on the CPU: CUDA_VISIBLE_DEVICES=" >&2
      exit 2
    fi
  else
    NPROC=${NPROC:-1}
    export DS_ACCELERATOR=cpu  # DeepSpeed otherwise looks for a CUDA toolkit
  fi
  # CPU threads each process may take for its operators
  export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(( $(nproc) / NPROC > 0 ? $(nproc) / NPROC : 1 ))}
}

# find_nodes: set NNODES, and LAUNCHER to what tells torch.distributed.run of them. More than one machine: the same
# command on each, with its own NODE_RANK (0, 1, ...) and the address of the first one; all see the same output folder.
find_nodes() {
  NNODES=${NNODES:-1}
  LAUNCHER=(--standalone)
  [ "$NNODES" -gt 1 ] || return 0
  local name
  for name in NODE_RANK MASTER_ADDR; do
    if [ -z "${!name:-}" ]; then
      echo "$(basename "$0"): NNODES=$NNODES needs NODE_RANK, this machine's number from 0 on, and MASTER_ADDR, the" \
        "first one's address; $name is not set" >&2
      exit 2
    fi
  done
  MASTER_PORT=${MASTER_PORT:-29500}
  if [ "$NODE_RANK" -eq 0 ] &&
    ! python -c 'import socket, sys; socket.create_server(("", int(sys.argv[1]))).close()' "$MASTER_PORT" &> /dev/null; then
    echo "$(basename "$0"): port MASTER_PORT=$MASTER_PORT cannot be opened on this machine, perhaps because another run has it;" \
      "set MASTER_PORT to another number, the same on all machines" >&2
    exit 2
  fi
  LAUNCHER=(--nnodes "$NNODES" --node_rank "$NODE_RANK" --master_addr "$MASTER_ADDR" --master_port "$MASTER_PORT")
}
