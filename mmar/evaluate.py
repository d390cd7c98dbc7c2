"""Score an MMAR result file by the official rule and by a strict one: in total, by modality, category and more.

    python mmar/evaluate.py results/mmar.json
    python mmar/evaluate.py results/mmar.json --reference data/mmar/MMAR-meta.json --compare baseline/mmar.json

Each item of the result holds the benchmark's own fields and the model's answer as `answer_prediction` (or, as in some
published result files, `model_prediction` or `model_output`).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evaluation.benchmarks import MMAR
from evaluation.scoring import run_scorer


def main(argv: list[str] | None = None) -> int:
    return run_scorer(MMAR, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
