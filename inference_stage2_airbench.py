"""Answer AIR-Bench's foundation benchmark with a DIFFA checkpoint.

    python inference_stage2_airbench.py --model_path CHECKPOINT --output results/airbench.jsonl
    python airbench/evaluate.py results/airbench.jsonl

The output has the benchmark's fields and the answer as `response`, as its own score_foundation.py reads it. Started
again, it answers only what is missing.
"""

import sys

from evaluation.benchmarks import AIRBENCH
from evaluation.runner import run
from evaluation.tasks import benchmark_parser, task_of


def main(argv: list[str] | None = None) -> int:
    args = benchmark_parser(AIRBENCH, __doc__).parse_args(argv)
    return run(args, lambda: [task_of(AIRBENCH, args)])


if __name__ == "__main__":
    sys.exit(main())
