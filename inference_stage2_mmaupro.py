"""Answer MMAU-Pro with a DIFFA checkpoint: its choices, and what has none in the question's own words.

    python inference_stage2_mmaupro.py --model_path CHECKPOINT --output results/mmaupro.jsonl
    python mmaupro/evaluate.py results/mmaupro.jsonl

The output has the benchmark's fields and the answer as `model_output`. Of the hub's Parquet file, a copy with that
column is written beside it, `results/mmaupro.parquet`, which the benchmark's own evaluation script reads. Started
again, it answers only what is missing.
"""

import sys
from dataclasses import replace
from pathlib import Path

from evaluation.benchmarks import MMAU_PRO
from evaluation.hub_files import write_answered
from evaluation.result_files import read_records
from evaluation.runner import run
from evaluation.tasks import Task, benchmark_parser, task_of
from src.files import check_outputs


def make_task(args) -> Task:
    task = task_of(MMAU_PRO, args)
    if task.inputs[0].suffix != ".parquet":
        return task
    copy = task.output.with_suffix(".parquet")
    check_outputs([copy], task.inputs)

    def write_copy(output: Path) -> None:
        answers = [record.get(MMAU_PRO.answer_fields[0]) for record in read_records(output)[0]]
        write_answered(task.inputs, answers, MMAU_PRO.answer_fields[0], copy)

    return replace(task, finished=write_copy)


def main(argv: list[str] | None = None) -> int:
    args = benchmark_parser(MMAU_PRO, __doc__).parse_args(argv)
    return run(args, lambda: [make_task(args)])


if __name__ == "__main__":
    sys.exit(main())
