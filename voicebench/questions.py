"""VoiceBench's questions on disk: which files hold a subset, and their fields besides the audio."""

import os
from collections.abc import Sequence
from pathlib import Path

from evaluation import hub_files
from evaluation.benchmarks import SUBSETS, VOICEBENCH
from evaluation.hub_files import complete, split_of
from evaluation.result_files import BenchmarkFileError, read_records

DEFAULT_SPLITS = {"sd-qa": ["usa", "test"]}
SPLIT_BY_DOMAIN = "mmsu"  # has no split test, but law, biology, ...


def subset_of(path: Path) -> str | None:
    """The subset a file belongs to, by what its folder is called; None where that is no subset, or this no file."""
    folder = Path(os.path.abspath(path)).parent.name  # without following links: the hub's cache is made of them
    return folder if path.is_file() and folder in SUBSETS else None


def find_files(data_path: Path, subset: str, splits: Sequence[str] | None) -> tuple[str, list[Path]]:
    """The first of `splits` that is there, and its Parquet shards or its one JSONL file; None: the usual split.

    Where mmsu's usual one is missing, all of its domains together stand for it. A `data_path` that is a file stands for
    its split, as in `hub_files.find_files`; in its subset's folder its name tells the split. Raises BenchmarkFileError
    saying what was looked for and what there is, and as `hub_files.complete` does.
    """
    wanted = splits or DEFAULT_SPLITS.get(subset, ["test"])
    if data_path.is_file():
        split = split_of(data_path) if not splits and subset_of(data_path) == subset else wanted[0]
        return split, hub_files.find_files(data_path)
    there = [file for kind in ("parquet", "jsonl") for file in sorted((data_path / subset).glob(f"*.{kind}"))]
    for split in wanted:
        files = [file for file in there if split_of(file) == split]
        if files:
            return split, complete([file for file in files if file.suffix == files[0].suffix])
    if subset == SPLIT_BY_DOMAIN and there and not splits:
        files = [file for file in there if file.suffix == there[0].suffix]
        for domain in sorted({split_of(file) for file in files}):
            complete([file for file in files if split_of(file) == domain])
        return wanted[0], files
    has = f"; it has {', '.join(sorted({split_of(file) for file in there}))}" if there else ""
    raise BenchmarkFileError(
        f"{data_path / subset} holds neither {wanted[0]}-*.parquet nor {wanted[0]}.jsonl{has}. {VOICEBENCH.source}"
    )


def read_reference(path: Path, subset: str | None, split: str | None) -> tuple[list[dict], list[str]]:
    """A benchmark's questions without their audio, and its broken lines, like `result_files.read_records`.

    Args:
        path: JSON Lines, a Parquet file, a subset's folder or the folder of all subsets.
        subset, split: which files of a folder; None or test for `split`: the usual one.

    Raises BenchmarkFileError where there are no such questions.
    """
    if not path.is_dir():
        files = hub_files.find_files(path)
    elif subset is None:
        raise BenchmarkFileError(f"{path} is a folder, and the subset cannot be told from the result: pass one file")
    else:
        folder = path if (path / subset).is_dir() else path.resolve().parent
        splits = None if split in (None, "test") else [split]
        files = find_files(folder, subset if folder == path else path.resolve().name, splits)[1]
    records, broken = [], []
    for file in files:
        if file.suffix == ".parquet":
            found = hub_files.read_records(file, VOICEBENCH.source)
        else:
            found, faults = read_records(file)
            broken += faults
        records += [{name: value for name, value in record.items() if name != "audio"} for record in found]
    return records, broken
