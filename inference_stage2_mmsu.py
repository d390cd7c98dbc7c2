"""Answer the MMSU benchmark with a DIFFA checkpoint.

    python inference_stage2_mmsu.py --model_path CHECKPOINT --output results/mmsu.jsonl
    python mmsu/evaluate.py results/mmsu.jsonl

The output holds every input line with the answer added as `response`. Parquet files from the hub, with the audio
inside, are read as well. Started again, it answers only what is missing.
"""

import sys

from evaluation.benchmarks import MMSU
from evaluation.runner import run
from evaluation.tasks import benchmark_parser, task_of


def main(argv: list[str] | None = None) -> int:
    args = benchmark_parser(MMSU, __doc__).parse_args(argv)
    return run(args, lambda: [task_of(MMSU, args)])


if __name__ == "__main__":
    sys.exit(main())
