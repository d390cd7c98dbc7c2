"""Transcribe the clips of a manifest with a DIFFA checkpoint.

    python inference_stage1_asr.py --model_path CHECKPOINT --input test-clean.json --output asr.jsonl
    python asr/evaluate.py asr.jsonl

The output holds every sample of the manifest with what was heard added as `response`. Started again, it answers only
what is missing.
"""

import sys

from evaluation.benchmarks import ASR
from evaluation.runner import run
from evaluation.tasks import benchmark_parser, task_of


def main(argv: list[str] | None = None) -> int:
    parser = benchmark_parser(ASR, __doc__)
    parser.add_argument(
        "--stage", type=int, choices=(1, 2), help="default: the one the checkpoint was trained in, else 1"
    )
    args = parser.parse_args(argv)
    return run(args, lambda: [task_of(ASR, args)], args.stage)


if __name__ == "__main__":
    sys.exit(main())
