"""Score an MMAU result file by the official rule and by a strict one, in total, per task, difficulty and sub-category.

    python mmau/evaluate.py results/mmau.json
    python mmau/evaluate.py results/mmau.json --reference data/mmau/mmau-test-mini.json --compare baseline/mmau.json

Each item of the result holds the benchmark's own fields and the model's answer as `model_output` or `model_prediction`.
Other published forms are understood: choices as JSON text, the hub's `other_attributes`, logs of lmms-eval.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evaluation.benchmarks import MMAU
from evaluation.scoring import run_scorer


def main(argv: list[str] | None = None) -> int:
    return run_scorer(MMAU, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
