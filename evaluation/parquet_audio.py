"""Audio inside Parquet files: located when a file is opened, read one row group at a time, on demand."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.parquet

from evaluation.hub_files import audio_column, open_parquet, rows_of
from src.audio import AudioError

MAX_ROW_GROUPS = 2  # row groups in memory: a batch may reach from one into the next

kept: dict[tuple[Path, int, str], pyarrow.Array | str] = {}  # what `row_group` gave last, the latest at the end


@dataclass(frozen=True)
class ParquetAudio:
    """One row's audio: where it lies. Row group and row in it count from 0, as in pyarrow.

    The column holds encoded files as Hugging Face data sets have them, {bytes, path}.
    """

    file: Path
    row_group: int
    row: int
    column: str = "audio"

    def size(self) -> int:
        """Bytes of the encoded audio; 0 where it cannot be read. Reads the row group."""
        column = row_group(self.file, self.row_group, self.column)
        return 0 if isinstance(column, str) else column[self.row].as_buffer().size

    def read(self) -> bytes:
        """The encoded audio. Raises AudioError for a row group that is damaged."""
        column = row_group(self.file, self.row_group, self.column)
        if isinstance(column, str):
            raise AudioError(
                f"{self.file} row group {self.row_group}, row {self.row}: not readable ({column}): "
                "download the file again"
            )
        return column[self.row].as_py()


def read_rows(file: Path, source: str = "") -> list[tuple[dict, str | None, ParquetAudio | None]]:
    """(record without audio, path of its audio, the audio inside) of each row; None where a row has none.

    `source` says where the file can be had. Raises BenchmarkFileError where it cannot be read.
    """
    with open_parquet(file, source) as parquet:
        column = audio_column(parquet)
        rows = rows_of(parquet, column)
        sounds = locate_audio(file, parquet, column) if column else [None] * len(rows)
    paths = [(row.pop(column, None) or {}).get("path") for row in rows]
    return list(zip(rows, paths, sounds, strict=True))


def locate_audio(file: Path, parquet: pyarrow.parquet.ParquetFile, column: str = "audio") -> list[ParquetAudio | None]:
    """Where the audio of each row of `file`, opened as `parquet`, lies; None for rows without."""
    return [
        ParquetAudio(file, number, row, column) if there else None
        for number in range(parquet.num_row_groups)
        for row, there in enumerate(rows_with_audio(parquet, number, column))
    ]


def rows_with_audio(parquet: pyarrow.parquet.ParquetFile, number: int, column: str) -> Sequence[bool]:
    """Which rows of a row group have audio: by its statistics, or where those leave it open by reading it."""
    group = parquet.metadata.row_group(number)
    columns = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
    if f"{column}.bytes" not in columns:
        return [False] * group.num_rows
    statistics = columns[f"{column}.bytes"].statistics
    if statistics and statistics.has_null_count and statistics.null_count in (0, group.num_rows):
        return [statistics.null_count == 0] * group.num_rows
    found = read_row_group(parquet, number, column)
    return [True] * group.num_rows if isinstance(found, str) else found.is_valid().to_pylist()


def row_group(file: Path, number: int, column: str = "audio") -> pyarrow.Array | str:
    """The encoded audio of a row group, or why it cannot be read; from memory if it was among the last."""
    place = (file, number, column)
    if place not in kept:
        while len(kept) >= MAX_ROW_GROUPS:  # before the next one is read
            del kept[next(iter(kept))]
        try:
            with pyarrow.parquet.ParquetFile(file) as parquet:
                kept[place] = read_row_group(parquet, number, column)
        except (pyarrow.ArrowException, OSError) as error:
            kept[place] = str(error)
    return kept[place]


def read_row_group(parquet: pyarrow.parquet.ParquetFile, number: int, column: str) -> pyarrow.Array | str:
    """The encoded audio of a row group, one binary value a row, or why it cannot be read."""
    try:
        return parquet.read_row_group(number, columns=[f"{column}.bytes"]).column(column).combine_chunks().flatten()[0]
    except (pyarrow.ArrowException, OSError) as error:
        return str(error)
