"""Answer the MMAU benchmark with a DIFFA checkpoint.

    python inference_stage2_mmau.py --model_path CHECKPOINT --output results/mmau.json
    python mmau/evaluate.py results/mmau.json

The output is the input's list with each answer added as `model_output` and as `model_prediction`: the benchmark's own
evaluation.py has read one and the other. Of the test set, whose answers are withheld, it is the file to submit. Parquet
files from the hub, with the audio inside, are read as well. Started again, it answers only what is missing.
"""

import sys

from evaluation.benchmarks import MMAU
from evaluation.runner import run
from evaluation.tasks import benchmark_parser, task_of


def main(argv: list[str] | None = None) -> int:
    args = benchmark_parser(MMAU, __doc__).parse_args(argv)
    return run(args, lambda: [task_of(MMAU, args)])


if __name__ == "__main__":
    sys.exit(main())
