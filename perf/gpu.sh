#!/usr/bin/env bash
# A new machine with a GPU: is it set up right, how fast is it, what fits. At most eight minutes on one H100.
#
#   bash perf/gpu.sh                     # everything; figures in gpu_out/gpu.json
#   bash perf/gpu.sh --out DIR --parts golden,training
#   bash perf/gpu.sh --dry-run           # all of it tiny on the CPU, in two minutes
#
# It needs nothing from outside but the packages that setup.sh installs. That is run unless a Python is found that has
# them (PYTHON, python, python3), or SKIP_SETUP=1.
set -euo pipefail
REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# has_packages PYTHON
has_packages() {
  "$1" -c 'import importlib.util, sys
sys.exit(not all(map(importlib.util.find_spec, ("deepspeed", "soxr", "torch", "transformers"))))' > /dev/null 2>&1
}

for candidate in ${PYTHON:-} python python3; do
  if has_packages "$candidate"; then
    exec "$candidate" "$REPOSITORY/perf/gpu.py" "$@"
  fi
done
if [ "${SKIP_SETUP:-0}" = 1 ]; then
  echo "perf/gpu.sh: neither ${PYTHON:-python} nor python3 has deepspeed, soxr, torch and transformers; set PYTHON," \
    "or let setup.sh install them (without SKIP_SETUP)" >&2
  exit 2
fi
started_in=$PWD
source "$REPOSITORY/setup.sh"
cd "$started_in"  # from which paths among the flags count
exec python "$REPOSITORY/perf/gpu.py" "$@"
