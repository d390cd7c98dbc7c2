#!/usr/bin/env bash
# Run the tests, after setting up the environment if needed.
#
#   bash test.sh                       # all of them
#   bash test.sh -m "not slow"         # those of a few seconds each; any pytest flag goes
set -euo pipefail
cd "$(dirname "$0")"
source setup.sh
# Side by side: one more than cores, since tests often wait for what they started; more than four would need much memory.
cores=$(env -u OMP_NUM_THREADS nproc)  # which nproc would limit to the threads below
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} TOKENIZERS_PARALLELISM=false
export CUDA_VISIBLE_DEVICES=  # figures to compare with were computed on a CPU
exec python -m pytest --numprocesses $(( cores + 1 )) --maxprocesses 4 --dist worksteal "$@"
