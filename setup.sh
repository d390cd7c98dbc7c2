#!/usr/bin/env bash
# Set up the environment: packages into the active one (venv or conda), else into .venv, which is made if needed.
#
#   bash setup.sh            # tested versions (constraints.txt), with what the miniature and the tests need
#   PYTHON=python3.10 bash setup.sh
#
# demo.sh and test.sh run it by themselves. A second run finds its stamp and takes no time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"  # sourced by the other scripts

PYTHON=${PYTHON:-python3}
if [ -z "${VIRTUAL_ENV:-}" ] && [ "${CONDA_DEFAULT_ENV:-base}" = base ]; then
  if [ ! -x .venv/bin/python ]; then
    "$PYTHON" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' || {
      echo "setup.sh: $("$PYTHON" --version) found; 3.10, 3.11 or 3.12 is needed: PYTHON=python3.11 bash setup.sh" >&2
      exit 2
    }
    "$PYTHON" -m venv .venv
  fi
  source .venv/bin/activate
fi

prefix=$(python -c 'import sys; print(sys.prefix)')
stamp="$prefix/.diffa-setup"
wanted=$(cat requirements.txt requirements-{app,serve,dev}.txt constraints.txt | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
  # On a machine without an NVIDIA GPU, a CPU build of torch already installed or found by pip is kept: the pin in
  # constraints.txt accepts any build of that version.
  python -m pip install --quiet --constraint constraints.txt --requirement requirements.txt --requirement requirements-dev.txt
  echo "$wanted" > "$stamp"
fi
