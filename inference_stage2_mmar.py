"""Answer the MMAR benchmark with a DIFFA checkpoint.

    python inference_stage2_mmar.py --model_path CHECKPOINT --output results/mmar.json
    python mmar/evaluate.py results/mmar.json

The output is the input's list with each answer added as `answer_prediction`, which the benchmark's own evaluation.py
reads, and under MMAU's names. Started again, it answers only what is missing.
"""

import sys

from evaluation.benchmarks import MMAR
from evaluation.runner import run
from evaluation.tasks import benchmark_parser, task_of


def main(argv: list[str] | None = None) -> int:
    args = benchmark_parser(MMAR, __doc__).parse_args(argv)
    return run(args, lambda: [task_of(MMAR, args)])


if __name__ == "__main__":
    sys.exit(main())
