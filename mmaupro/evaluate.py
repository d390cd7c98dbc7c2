"""Score the choices in a result file of MMAU-Pro by the strict rule: in total, by category, length and sub-category.

    python mmaupro/evaluate.py results/mmaupro.jsonl
    python mmaupro/evaluate.py results/mmaupro.jsonl --reference data/mmaupro/test.parquet

Each item of the result holds the benchmark's own fields and the model's answer as `model_output`. There is no official
score here: the authors take the choice whose NV-Embed-v2 embedding is closest to the answer's, and their script scores
the Parquet file that inference_stage2_mmaupro.py writes, open questions and instructions included.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evaluation.benchmarks import MMAU_PRO
from evaluation.scoring import run_scorer


def main(argv: list[str] | None = None) -> int:
    return run_scorer(MMAU_PRO, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
