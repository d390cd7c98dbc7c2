"""Score a result file of AIR-Bench's foundation benchmark by the official rule and by a strict one: in total, by task.

    python airbench/evaluate.py results/airbench.jsonl
    python airbench/evaluate.py results/airbench.jsonl --reference data/airbench/Foundation/Foundation_meta.json

Each line of the result holds the benchmark's own fields and the model's answer as `response`. The official rate leaves
answers without a letter out, as score_foundation.py does; beside it stands the rate over every item.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evaluation.benchmarks import AIRBENCH
from evaluation.scoring import run_scorer


def main(argv: list[str] | None = None) -> int:
    return run_scorer(AIRBENCH, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
