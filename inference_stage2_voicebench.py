"""Answer VoiceBench, whose questions are spoken, with a DIFFA checkpoint.

    python inference_stage2_voicebench.py --model_path CHECKPOINT --output results --data openbookqa
    python inference_stage2_voicebench.py --model_path CHECKPOINT --output results --data sd-qa --split gbr
    python inference_stage2_voicebench.py --model_path CHECKPOINT --output results --data all
    python voicebench/evaluate.py results/CHECKPOINT-openbookqa-test-audio.jsonl
    python voicebench/evaluate.py results

A subset is read from the folder `--input`: from SUBSET/SPLIT-*.parquet, as in a local copy of the Hugging Face data
set, or from SUBSET/SPLIT.jsonl, whose lines name a file as `audio` or `audio_path`. `--input` may also be one such
file, which stands for its split: without `--data`, the subset is then what its folder is called. sd-qa has a split for
each region (usa, gbr, ind_n, ...), mmsu one for each domain, of which all are taken unless one is named; the others
have `test` alone. The output, one line per question with `response` instead of the audio, is named
{model}-{subset}-{split}-audio.jsonl inside the folder `--output`, or is that very file if it ends in .json or .jsonl,
or is there; its `.meta.json` tells the scorer the subset. Long answers (alpacaeval, commoneval, wildvoice, ifeval) want
`--max_new_tokens 128 --steps 128`.
mtbench is not supported: its questions follow up on earlier answers, and DIFFA hears one clip.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from evaluation.benchmarks import FULL, LEADERBOARD_SUBSETS, SUBSETS, VOICEBENCH
from evaluation.hub_files import split_of
from evaluation.parquet_audio import read_rows
from evaluation.result_files import BenchmarkFileError, read_benchmark
from evaluation.runner import run
from evaluation.tasks import BenchmarkItem, Task, benchmark_parser, find_audio
from voicebench.questions import find_files, subset_of

NOT_SUPPORTED = {
    "mtbench": "has questions that follow up on earlier answers, and DIFFA hears one clip and answers once"
}


def subset_name(name: str) -> str:
    """`name` itself. Raises ArgumentTypeError with the reason for a subset that is out of scope."""
    if name in NOT_SUPPORTED:
        raise argparse.ArgumentTypeError(f"{name} is not supported: it {NOT_SUPPORTED[name]}; choose others")
    return name


def read_items(files: list[Path], audio_root: Path | None) -> list[BenchmarkItem]:
    """A subset's questions; those of several splits are told by a field `split`. Raises BenchmarkFileError."""
    read = read_parquet if files[0].suffix == ".parquet" else read_lines
    several = len({split_of(file) for file in files}) > 1
    items = []
    for file in files:
        for item in read(file, audio_root):
            items.append(replace(item, record={"split": split_of(file), **item.record}) if several else item)
    return items


def read_lines(file: Path, audio_root: Path | None) -> list[BenchmarkItem]:
    """Lines whose `audio` or `audio_path` names a file."""
    items = []
    for record in read_benchmark(file, VOICEBENCH.required, VOICEBENCH.source, problem_of_audio):
        audio = find_audio(audio_name(record), file, audio_root)
        record.pop("audio", None)
        items.append(BenchmarkItem(record, VOICEBENCH.prompt(record), audio))
    return items


def audio_name(record: Mapping) -> object:
    return record.get("audio") or record.get("audio_path")


def problem_of_audio(record: Mapping) -> str:
    name = audio_name(record)
    return "" if isinstance(name, str) else f"no `audio` that names a file, found {name!r:.60}"


def read_parquet(file: Path, audio_root: Path | None) -> list[BenchmarkItem]:
    """Rows whose `audio` is {bytes, path}: the encoded file itself or, without it, where it lies."""
    items = []
    for number, (row, path, sound) in enumerate(read_rows(file, VOICEBENCH.source), start=1):
        if not sound and not path:
            raise BenchmarkFileError(
                f"{file} row {number}: no `audio` with bytes or a path in it: download the file again"
            )
        items.append(BenchmarkItem(row, VOICEBENCH.prompt(row), sound or find_audio(path, file, audio_root)))
    return items


def all_subsets(folder: Path) -> list[str]:
    """The leaderboard's nine; the small alpacaeval where alone that is there."""
    small = not (folder / FULL).exists() and (folder / "alpacaeval").exists()
    if small:
        print(f"{folder} holds no {FULL}, which VoiceBench's leaderboard has: alpacaeval is answered", file=sys.stderr)
    return ["alpacaeval" if small and subset == FULL else subset for subset in LEADERBOARD_SUBSETS]


def main(argv: list[str] | None = None) -> int:
    parser = benchmark_parser(VOICEBENCH, __doc__, more_inputs=["--data_path"], more_outputs=["--output_dir"])
    parser.add_argument(
        "--data", nargs="+", type=subset_name, choices=[*SUBSETS, "all"],
        help="subsets, or the nine of the leaderboard (default: alpacaeval, or what the folder of a file is called)",
    )  # fmt: skip
    parser.add_argument(
        "--split",
        help="default: test; usa for sd-qa, which alone it concerns with --data all; all of mmsu without it",
    )
    args = parser.parse_args(argv)
    if args.data is None:
        args.data = [subset_of(args.input) or "alpacaeval"]
    subsets = all_subsets(args.input) if "all" in args.data else args.data
    one_file = args.output.suffix in (".json", ".jsonl") or args.output.is_file()
    if len(subsets) > 1 and (one_file or args.input.is_file()):
        parser.error("--output and --input must be folders when several subsets are answered")

    def tasks() -> list[Task]:
        found = []
        for subset in subsets:
            asked_for = args.split and ("all" not in args.data or subset == "sd-qa")
            split, files = find_files(args.input, subset, [args.split] if asked_for else None)
            name = f"{Path(os.path.abspath(args.model_path)).name}-{subset}-{split}-audio.jsonl"
            output = args.output if one_file else args.output / name
            about = {"subset": subset, "split": split}
            found.append(Task(VOICEBENCH, read_items(files, args.audio_root), output, files, about))
        return found

    return run(args, tasks)


if __name__ == "__main__":
    sys.exit(main())
