"""Answer the MMSU benchmark with a DIFFA checkpoint.

    python inference_stage2_mmsu.py --model_path CHECKPOINT --output_jsonl results/mmsu.jsonl \\
        --steps 4 --block_length 4 --max_new_tokens 4
    python mmsu/evaluate.py results/mmsu.jsonl

The output holds every input line with the answer added as `response`. Started again, it answers only what is missing.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from evaluation.result_files import read_benchmark
from evaluation.runner import Item, Task, find_audio, run
from src.configuration_DIFFA import ROOT
from src.inference_flags import make_parser
from src.prompts import mmsu_instruction

INPUT = ROOT / "data" / "mmsu" / "mmsu.jsonl"
SOURCE = (
    "Pass MMSU's question file with --input_jsonl; it comes with the data set ddwang2000/MMSU on the Hugging Face hub"
)
REQUIRED = {"id": (str, int), "audio_path": str, "question": str, "answer_gt": str}


def choices_of(record: Mapping) -> list[str | None]:
    return [record.get(f"choice_{letter}") for letter in "abcd"]


def problem_of_choices(record: Mapping) -> str:
    found = [choice for choice in choices_of(record) if choice is not None]
    if len(found) >= 2 and all(isinstance(choice, str) for choice in found):
        return ""
    return f"choice_a to choice_d must be texts, two at least, or null, found {choices_of(record)!r:.100}"


def read_items(path: Path, audio_root: Path | None) -> list[Item]:
    """MMSU's questions. Raises BenchmarkFileError naming every broken line."""
    return [
        Item(
            record,
            mmsu_instruction(record["question"], choices_of(record)),
            find_audio(record["audio_path"], path, audio_root),
        )
        for record in read_benchmark(path, REQUIRED, SOURCE, problem_of_choices)
    ]


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(__doc__, steps=4, block_length=4, max_new_tokens=4)
    parser.add_argument("--input_jsonl", "--input_json_path", type=Path, default=INPUT, help="default: %(default)s")
    parser.add_argument("--output_jsonl", "--output_json_path", type=Path, required=True)
    args = parser.parse_args(argv)
    return run(args, lambda: [Task(read_items(args.input_jsonl, args.audio_root), args.output_jsonl)])


if __name__ == "__main__":
    sys.exit(main())
