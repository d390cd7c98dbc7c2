"""Score an MMSU result file by the official rule and by a strict one, in total and per category.

    python mmsu/evaluate.py results/mmsu.jsonl
    python mmsu/evaluate.py results/mmsu.jsonl --reference data/mmsu/mmsu.jsonl --compare baseline/mmsu.jsonl

Each line of the result holds the benchmark's own fields and the model's answer as `response`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evaluation.benchmarks import MMSU
from evaluation.scoring import run_scorer


def main(argv: list[str] | None = None) -> int:
    return run_scorer(MMSU, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
