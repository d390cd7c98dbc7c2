"""Audio inside Parquet files: located when a file is opened, read one row group at a time, on demand."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.parquet

from src.audio import AudioError

BYTES = "audio.bytes"  # the column of encoded files, as Hugging Face data sets have it
MAX_ROW_GROUPS = 2  # row groups in memory: a batch may reach from one into the next

kept: dict[tuple[Path, int], pyarrow.Array | str] = {}  # what `row_group` gave last, the latest at the end


@dataclass(frozen=True)
class ParquetAudio:
    """One row's audio: where it lies. Row group and row in it count from 0, as in pyarrow."""

    file: Path
    row_group: int
    row: int

    def size(self) -> int:
        """Bytes of the encoded audio; 0 where it cannot be read. Reads the row group."""
        column = row_group(self.file, self.row_group)
        return 0 if isinstance(column, str) else column[self.row].as_buffer().size

    def read(self) -> bytes:
        """The encoded audio. Raises AudioError for a row group that is damaged."""
        column = row_group(self.file, self.row_group)
        if isinstance(column, str):
            raise AudioError(f"{self.file} row group {self.row_group}, row {self.row}: not readable ({column})")
        return column[self.row].as_py()


def locate_audio(file: Path, parquet: pyarrow.parquet.ParquetFile) -> list[ParquetAudio | None]:
    """Where the audio of each row of `file`, opened as `parquet`, lies; None for rows without."""
    return [
        ParquetAudio(file, number, row) if there else None
        for number in range(parquet.num_row_groups)
        for row, there in enumerate(rows_with_audio(parquet, number))
    ]


def rows_with_audio(parquet: pyarrow.parquet.ParquetFile, number: int) -> Sequence[bool]:
    """Which rows of a row group have audio: by its statistics, or where those leave it open by reading it."""
    group = parquet.metadata.row_group(number)
    columns = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
    if BYTES not in columns:
        return [False] * group.num_rows
    statistics = columns[BYTES].statistics
    if statistics and statistics.has_null_count and statistics.null_count in (0, group.num_rows):
        return [statistics.null_count == 0] * group.num_rows
    column = read_row_group(parquet, number)
    return [True] * group.num_rows if isinstance(column, str) else column.is_valid().to_pylist()


def row_group(file: Path, number: int) -> pyarrow.Array | str:
    """The encoded audio of a row group, or why it cannot be read; from memory if it was among the last."""
    if (file, number) not in kept:
        while len(kept) >= MAX_ROW_GROUPS:  # before the next one is read
            del kept[next(iter(kept))]
        try:
            with pyarrow.parquet.ParquetFile(file) as parquet:
                kept[file, number] = read_row_group(parquet, number)
        except (pyarrow.ArrowException, OSError) as error:
            kept[file, number] = str(error)
    return kept[file, number]


def read_row_group(parquet: pyarrow.parquet.ParquetFile, number: int) -> pyarrow.Array | str:
    """The encoded audio of a row group, one binary value a row, or why it cannot be read."""
    try:
        return parquet.read_row_group(number, columns=[BYTES]).column("audio").combine_chunks().flatten()[0]
    except (pyarrow.ArrowException, OSError) as error:
        return str(error)
