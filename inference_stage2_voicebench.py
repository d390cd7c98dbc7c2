"""Answer VoiceBench, whose questions are spoken, with a DIFFA checkpoint.

    python inference_stage2_voicebench.py --model_path CHECKPOINT --output_json results --data openbookqa
    python inference_stage2_voicebench.py --model_path CHECKPOINT --output_json results --data sd-qa --split gbr
    python inference_stage2_voicebench.py --model_path CHECKPOINT --output_json results --data all
    python voicebench/evaluate.py results/CHECKPOINT-openbookqa-test-audio.jsonl

A subset is read from the folder `--data_path`: from SUBSET/SPLIT-*.parquet, as in a local copy of the Hugging Face data
set, or from SUBSET/SPLIT.jsonl, whose lines name a file as `audio` or `audio_path`. `--data_path` may also be one such
file. sd-qa has a split for each region (usa, gbr, ind_n, ...), mmsu one for each domain, of which all are taken unless
one is named; the others have `test` alone. The output, one line per question with `response` instead of the audio, is
named {model}-{subset}-{split}-audio.jsonl inside the folder `--output_json`, or is that very file if it has a suffix.
Long answers (alpacaeval, commoneval, wildvoice, ifeval) want `--max_new_tokens 128 --steps 128`. mtbench is not
supported: its questions follow up on earlier answers, and DIFFA hears one clip.
"""

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet

from src.chat import VOICEBENCH_PROMPT
from src.inference import ROOT, Item, Task, find_audio, run
from src.inference_flags import make_parser
from src.parquet_audio import locate_audio
from src.records import BenchmarkFileError, read_benchmark
from voicebench.subsets import EVALUATORS, LEADERBOARD

DATA = ROOT / "data" / "voicebench"
SOURCE = (
    "It comes with the data set hlt-lab/voicebench on the Hugging Face hub; pass the copy's folder with --data_path"
)
DEFAULT_SPLITS = {"sd-qa": ["usa", "test"]}
SPLIT_BY_DOMAIN = "mmsu"  # has no split test, but law, biology, ...
NOT_SUPPORTED = {
    "mtbench": "has questions that follow up on earlier answers, and DIFFA hears one clip and answers once"
}


def subset_name(name: str) -> str:
    """`name` itself. Raises ArgumentTypeError with the reason for a subset that is out of scope."""
    if name in NOT_SUPPORTED:
        raise argparse.ArgumentTypeError(f"{name} is not supported: it {NOT_SUPPORTED[name]}")
    return name


def split_of(file: Path) -> str:
    """The split a file belongs to: law of law-00000-of-00001.parquet."""
    return re.sub(r"-\d+-of-\d+$", "", file.stem)


def find_files(data_path: Path, subset: str, splits: Sequence[str] | None) -> tuple[str, list[Path]]:
    """The first of `splits` that is there, and its Parquet shards or its one JSONL file; None: the usual split.

    Where mmsu's usual one is missing, all of its domains together stand for it. Raises BenchmarkFileError saying what
    was looked for and what there is.
    """
    wanted = splits or DEFAULT_SPLITS.get(subset, ["test"])
    if data_path.is_file():
        return wanted[0], [data_path]
    there = [file for kind in ("parquet", "jsonl") for file in sorted((data_path / subset).glob(f"*.{kind}"))]
    for split in wanted:
        files = [file for file in there if split_of(file) == split]
        if files:
            return split, [file for file in files if file.suffix == files[0].suffix]
    if subset == SPLIT_BY_DOMAIN and there and not splits:
        return wanted[0], [file for file in there if file.suffix == there[0].suffix]
    has = f"; it has {', '.join(sorted({split_of(file) for file in there}))}" if there else ""
    raise BenchmarkFileError(
        f"{data_path / subset} holds neither {wanted[0]}-*.parquet nor {wanted[0]}.jsonl{has}. {SOURCE}"
    )


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
    try:
        with pyarrow.parquet.ParquetFile(file) as parquet:
            columns = [name for name in parquet.schema_arrow.names if name != "audio"]
            rows = parquet.read([*columns, "audio.path"]).to_pylist()  # all but the sound itself
            sounds = locate_audio(file, parquet)
    except (pyarrow.ArrowException, OSError) as error:
        raise BenchmarkFileError(f"{file} is not a Parquet file ({error}). {SOURCE}") from None
    items = []
    for number, (row, sound) in enumerate(zip(rows, sounds, strict=True), start=1):
        path = (row.pop("audio", None) or {}).get("path")
        if not sound and not path:
            raise BenchmarkFileError(f"{file} row {number}: no `audio` with bytes or a path in it")
        items.append(Item(row, VOICEBENCH_PROMPT, sound or find_audio(path, file, audio_root)))
    return items


def output_of(args: argparse.Namespace, subset: str, split: str) -> Path:
    if args.output_json.suffix in (".json", ".jsonl"):
        return args.output_json
    return args.output_json / f"{Path(os.path.abspath(args.model_path)).name}-{subset}-{split}-audio.jsonl"


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(__doc__, steps=16, block_length=16, max_new_tokens=16)
    parser.add_argument(
        "--data", nargs="+", default=["alpacaeval"], type=subset_name, choices=[*EVALUATORS, "all"],
        help="subsets, or the nine of the leaderboard (default: alpacaeval)",
    )  # fmt: skip
    parser.add_argument("--split", help="default: test; usa for sd-qa, which alone it concerns with --data all")
    parser.add_argument("--data_path", "--input_json_path", type=Path, default=DATA, help="default: %(default)s")
    parser.add_argument("--output_json", "--output_json_path", "--output_dir", type=Path, required=True)
    args = parser.parse_args(argv)
    subsets = LEADERBOARD if "all" in args.data else args.data
    if len(subsets) > 1 and (args.output_json.suffix in (".json", ".jsonl") or args.data_path.is_file()):
        parser.error("--output_json and --data_path must be folders when several subsets are answered")

    def tasks() -> list[Task]:
        found = []
        for subset in subsets:
            asked_for = args.split and ("all" not in args.data or subset == "sd-qa")
            split, files = find_files(args.data_path, subset, [args.split] if asked_for else None)
            found.append(Task(read_items(files, args.audio_root), output_of(args, subset, split)))
        return found

    return run(args, tasks)


if __name__ == "__main__":
    sys.exit(main())
