"""Answer Big Bench Audio, spoken questions with short answers, with a DIFFA checkpoint.

    python inference_stage2_bigbenchaudio.py --model_path CHECKPOINT --output results/bigbenchaudio.jsonl
    python bigbenchaudio/evaluate.py results/bigbenchaudio.jsonl

The output has the benchmark's fields, the answer as `response`, and what voicebench/judge.py needs. Started again, it
answers only what is missing.
"""

import sys

from evaluation.benchmarks import BIG_BENCH_AUDIO
from evaluation.runner import run
from evaluation.tasks import benchmark_parser, task_of


def main(argv: list[str] | None = None) -> int:
    args = benchmark_parser(BIG_BENCH_AUDIO, __doc__).parse_args(argv)
    return run(args, lambda: [task_of(BIG_BENCH_AUDIO, args)])


if __name__ == "__main__":
    sys.exit(main())
