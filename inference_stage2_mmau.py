"""Answer the MMAU benchmark with a DIFFA checkpoint.

    python inference_stage2_mmau.py --model_path CHECKPOINT --output_json results/mmau.json
    python mmau/evaluate.py results/mmau.json

The output is the input's list with each answer added as `model_prediction`. Started again, it answers only what is
missing.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from evaluation.choices import without_labels
from evaluation.result_files import read_benchmark
from evaluation.runner import Item, Task, find_audio, run
from src.configuration_DIFFA import ROOT
from src.inference_flags import make_parser
from src.prompts import mmau_instruction

INPUT = ROOT / "data" / "mmau" / "mmau-test-mini.json"
SOURCE = "Pass mmau-test-mini.json with --input_json; it and its audio come from github.com/Sakshi113/MMAU"
REQUIRED = {"audio_id": str, "question": str, "answer": str}


def problem_of_choices(record: Mapping) -> str:
    choices = record.get("choices")
    if isinstance(choices, list) and {str} <= {type(choice) for choice in choices} <= {str, type(None)}:
        return ""
    return f"choices must be a list of texts, or null among them, found {choices!r:.100}"


def read_items(path: Path, audio_root: Path | None) -> list[Item]:
    """MMAU's questions; choices that all bring a letter lose it: the prompt gives one. Raises BenchmarkFileError."""
    return [
        Item(
            record,
            mmau_instruction(record["question"], without_labels(record["choices"])),
            find_audio(record["audio_id"], path, audio_root),
        )
        for record in read_benchmark(path, REQUIRED, SOURCE, problem_of_choices)
    ]


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(__doc__, steps=16, block_length=16, max_new_tokens=16)
    parser.add_argument("--input_json", "--input_json_path", type=Path, default=INPUT, help="default: %(default)s")
    parser.add_argument("--output_json", "--output_json_path", type=Path, required=True)
    args = parser.parse_args(argv)

    def tasks() -> list[Task]:
        return [Task(read_items(args.input_json, args.audio_root), args.output_json, "model_prediction", as_list=True)]

    return run(args, tasks)


if __name__ == "__main__":
    sys.exit(main())
