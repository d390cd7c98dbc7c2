"""Answer VoiceBench, whose questions are spoken, with a DIFFA checkpoint.

    python inference_stage2_voicebench.py --model_path CHECKPOINT --output_json results --data openbookqa
    python inference_stage2_voicebench.py --model_path CHECKPOINT --output_json results --data sd-qa --split gbr
    python inference_stage2_voicebench.py --model_path CHECKPOINT --output_json results --data all
    python voicebench/evaluate.py results/CHECKPOINT-openbookqa-test-audio.jsonl
    python voicebench/evaluate.py results

A subset is read from the folder `--data_path`: from SUBSET/SPLIT-*.parquet, as in a local copy of the Hugging Face data
set, or from SUBSET/SPLIT.jsonl, whose lines name a file as `audio` or `audio_path`. `--data_path` may also be one such
file: without `--data`, the subset is then what its folder is called. sd-qa has a split for each region (usa, gbr,
ind_n, ...), mmsu one for each domain, of which all are taken unless one is named; the others have `test` alone. The
output, one line per question with `response` instead of the audio, is named {model}-{subset}-{split}-audio.jsonl inside
the folder `--output_json`, or is that very file if it ends in .json or .jsonl, or is there; its `.meta.json` tells the
scorer the subset. Long answers (alpacaeval, commoneval, wildvoice, ifeval) want `--max_new_tokens 128 --steps 128`.
mtbench is not supported: its questions follow up on earlier answers, and DIFFA hears one clip.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from evaluation.parquet_audio import locate_audio
from evaluation.result_files import BenchmarkFileError, read_benchmark
from evaluation.runner import Item, Task, find_audio, run
from evaluation.scoreboard import LEADERBOARD
from src.configuration_DIFFA import ROOT
from src.inference_flags import make_parser
from src.prompts import VOICEBENCH_PROMPT
from voicebench.questions import SOURCE, find_files, open_parquet, rows_without_sound, split_of, subset_of
from voicebench.subsets import EVALUATORS

DATA = ROOT / "data" / "voicebench"
NOT_SUPPORTED = {
    "mtbench": "has questions that follow up on earlier answers, and DIFFA hears one clip and answers once"
}


def subset_name(name: str) -> str:
    """`name` itself. Raises ArgumentTypeError with the reason for a subset that is out of scope."""
    if name in NOT_SUPPORTED:
        raise argparse.ArgumentTypeError(f"{name} is not supported: it {NOT_SUPPORTED[name]}")
    return name


def read_items(files: list[Path], audio_root: Path | None) -> list[Item]:
    """A subset's questions; those of several splits are told by a field `split`. Raises BenchmarkFileError."""
    read = read_parquet if files[0].suffix == ".parquet" else read_lines
    several = len({split_of(file) for file in files}) > 1
    items = []
    for file in files:
        for item in read(file, audio_root):
            items.append(replace(item, record={"split": split_of(file), **item.record}) if several else item)
    return items


def read_lines(file: Path, audio_root: Path | None) -> list[Item]:
    """Lines whose `audio` or `audio_path` names a file."""
    items = []
    for record in read_benchmark(file, {}, SOURCE, problem_of_audio):
        audio = find_audio(audio_name(record), file, audio_root)
        record.pop("audio", None)
        items.append(Item(record, VOICEBENCH_PROMPT, audio))
    return items


def audio_name(record: Mapping) -> object:
    return record.get("audio") or record.get("audio_path")


def problem_of_audio(record: Mapping) -> str:
    name = audio_name(record)
    return "" if isinstance(name, str) else f"no `audio` that names a file, found {name!r:.60}"


def read_parquet(file: Path, audio_root: Path | None) -> list[Item]:
    """Rows whose `audio` is {bytes, path}: the encoded file itself or, without it, where it lies."""
    with open_parquet(file) as parquet:
        rows, sounds = rows_without_sound(parquet), locate_audio(file, parquet)
    items = []
    for number, (row, sound) in enumerate(zip(rows, sounds, strict=True), start=1):
        path = (row.pop("audio", None) or {}).get("path")
        if not sound and not path:
            raise BenchmarkFileError(f"{file} row {number}: no `audio` with bytes or a path in it")
        items.append(Item(row, VOICEBENCH_PROMPT, sound or find_audio(path, file, audio_root)))
    return items


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(__doc__, steps=16, block_length=16, max_new_tokens=16)
    parser.add_argument(
        "--data", nargs="+", type=subset_name, choices=[*EVALUATORS, "all"],
        help="subsets, or the nine of the leaderboard (default: alpacaeval, or what the folder of a file is called)",
    )  # fmt: skip
    parser.add_argument("--split", help="default: test; usa for sd-qa, which alone it concerns with --data all")
    parser.add_argument(
        "--data_path", "--input_json", "--input_json_path", type=Path, default=DATA,
        help="folder of the subsets, or one file (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--output_json", "--output_json_path", "--output_dir", type=Path, required=True)
    args = parser.parse_args(argv)
    if args.data is None:
        args.data = [subset_of(args.data_path) or "alpacaeval"]
    subsets = LEADERBOARD if "all" in args.data else args.data
    one_file = args.output_json.suffix in (".json", ".jsonl") or args.output_json.is_file()
    if len(subsets) > 1 and (one_file or args.data_path.is_file()):
        parser.error("--output_json and --data_path must be folders when several subsets are answered")

    def tasks() -> list[Task]:
        found = []
        for subset in subsets:
            asked_for = args.split and ("all" not in args.data or subset == "sd-qa")
            split, files = find_files(args.data_path, subset, [args.split] if asked_for else None)
            name = f"{Path(os.path.abspath(args.model_path)).name}-{subset}-{split}-audio.jsonl"
            output = args.output_json if one_file else args.output_json / name
            about = {"subset": subset, "split": split}
            found.append(Task(read_items(files, args.audio_root), output, about=about))
        return found

    return run(args, tasks)


if __name__ == "__main__":
    sys.exit(main())
