"""Benchmarks as they come from the Hugging Face hub: Parquet files, several to a split, with the audio inside."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet

from evaluation.result_files import BenchmarkFileError
from src.files import write_file

AUDIO_COLUMNS = ("audio", "context")  # MMAU's is called context
_SHARD = re.compile(r"-(?P<number>\d+)-of-(?P<count>\d+)(?:-[0-9a-f]{16})?$")  # older ones end in a fingerprint


def split_of(file: Path) -> str:
    """The split a file belongs to: law of law-00000-of-00001.parquet."""
    return _SHARD.sub("", file.stem)


def find_files(path: Path) -> list[Path]:
    """The files that hold a benchmark: `path` itself, all shards of a split of which it is one, or those in a folder.

    Where `path` is not there, Parquet files in its folder stand for it, as after a download from the hub; they lie
    there or in `data/`. Raises BenchmarkFileError as `complete` does, and for several splits in one folder.
    """
    if path.suffix == ".parquet" and path.is_file():
        return complete([file for file in sorted(path.parent.glob("*.parquet")) if split_of(file) == split_of(path)])
    if path.is_file():
        return [path]
    folder = path if path.is_dir() else path.parent
    files = sorted(folder.glob("*.parquet")) or sorted(folder.glob("data/*.parquet"))
    splits = sorted({split_of(file) for file in files})
    if len(splits) > 1:
        raise BenchmarkFileError(f"{folder} holds several splits ({', '.join(splits)}): pass a file of one of them")
    return complete(files) or [path]


def complete(files: list[Path]) -> list[Path]:
    """All files of one split, or none, as they are.

    Raises BenchmarkFileError for shards that are missing, and for a shard that is there twice, of two revisions.
    """
    found = [_SHARD.search(file.stem) for file in files]
    shards = [(int(name["number"]), int(name["count"])) if name else (0, 1) for name in found]
    counts = {count for _, count in shards}
    if len(counts) > 1 or len(set(shards)) < len(shards):
        raise BenchmarkFileError(
            f"{files[0].parent} holds several versions of {split_of(files[0])} "
            f"({', '.join(file.name for file in files)}): keep the files of one"
        )
    if counts and len(shards) != max(counts):
        raise BenchmarkFileError(
            f"{files[0].parent} holds {len(shards)} of the {max(counts)} files of {split_of(files[0])}: "
            "download the others"
        )
    return files


@contextmanager
def open_parquet(file: Path, source: str = "") -> Iterator[pyarrow.parquet.ParquetFile]:
    """Raises BenchmarkFileError where the file cannot be read, then or while it is open."""
    try:
        with pyarrow.parquet.ParquetFile(file) as parquet:
            yield parquet
    except (pyarrow.ArrowException, OSError) as error:
        raise BenchmarkFileError(f"{file} is not a Parquet file ({error}). {source}") from None


def write_answered(files: Sequence[Path], answers: Sequence[str | None], column: str, output: Path) -> None:
    """Write the rows of Parquet files to one, with `answers` to the first of them as a new column."""
    table = pyarrow.concat_tables([pyarrow.parquet.read_table(file) for file in files])
    texts = [*answers, *[None] * (table.num_rows - len(answers))]
    content = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table.append_column(column, pyarrow.array(texts, pyarrow.string())), content)
    write_file(output, content.getvalue().to_pybytes())


def audio_column(parquet: pyarrow.parquet.ParquetFile) -> str | None:
    """The column with the audio; None where there is none."""
    return next((name for name in AUDIO_COLUMNS if name in parquet.schema_arrow.names), None)


def read_records(file: Path, source: str = "") -> list[dict]:
    """The rows without their audio, of which nothing is read."""
    with open_parquet(file, source) as parquet:
        column = audio_column(parquet)
        return [{name: value for name, value in row.items() if name != column} for row in rows_of(parquet, column)]


def rows_of(parquet: pyarrow.parquet.ParquetFile, column: str | None) -> list[dict]:
    """All columns; of the audio's the path alone, since the encoded audio is large."""
    names = [name if name != column else f"{name}.path" for name in parquet.schema_arrow.names]
    return parquet.read(names).to_pylist()
