"""The audio of a benchmark's items: reading order, batches of similar length, the next batch read in a thread."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import numpy as np

from evaluation.parquet_audio import ParquetAudio
from src.audio import AudioError, read_audio

PROBE_BYTES = 4096  # of a file's middle, for telling it from others


def reading_order(audio: Sequence[Path | ParquetAudio]) -> list[int]:
    """Indices of the clips, in an order that is known without reading any.

    Files go by size, longest first, so that a batch too large for the memory fails at once; rows of Parquet files,
    which do not tell their sizes, go by place.
    """

    def key(index: int) -> tuple:
        sound = audio[index]
        return storage_of(sound), 0 if isinstance(sound, ParquetAudio) else -size_of(sound), index

    return sorted(range(len(audio)), key=key)


def batches_of(indices: Sequence[int], audio: Sequence[Path | ParquetAudio], batch_size: int) -> Iterator[list[int]]:
    """Batches of sounds of similar length, out of `indices` in the order that `reading_order` gives.

    Rows of a Parquet file are put in order of size a row group at a time, which is read when a batch needs it.
    """
    waiting: list[int] = []
    for _, together in groupby(indices, key=lambda index: storage_of(audio[index])):
        group = list(together)
        if isinstance(audio[group[0]], ParquetAudio):
            group.sort(key=lambda index: -size_of(audio[index]))
        waiting += group
        while len(waiting) >= batch_size:
            yield waiting[:batch_size]
            waiting = waiting[batch_size:]
    if waiting:
        yield waiting


def read_ahead(
    batches: Iterator[list[int]], read: Callable[[list[int]], list[np.ndarray | AudioError]]
) -> Iterator[tuple[list[int], list[np.ndarray | AudioError]]]:
    """Yield (batch, its sounds); the next one is made and read in the background while the caller works on this one."""

    def read_next() -> tuple[list[int], list[np.ndarray | AudioError]] | None:
        batch = next(batches, None)
        return batch and (batch, read(batch))

    with ThreadPoolExecutor(max_workers=1) as reader:
        ahead = reader.submit(read_next)
        while ready := ahead.result():
            ahead = reader.submit(read_next)
            yield ready


def read_sound(audio: Path | ParquetAudio, window: float, name: str) -> np.ndarray | AudioError:
    """The waveform (see `read_audio`), or what is wrong with it; messages call a sound in a Parquet file by `name`."""
    try:
        return read_audio(audio.read() if isinstance(audio, ParquetAudio) else audio, window, name)
    except AudioError as error:
        return error


def storage_of(audio: Path | ParquetAudio) -> tuple[str, int]:
    """What is read together: the Parquet file and its row group; one place for all plain files."""
    return (str(audio.file), audio.row_group) if isinstance(audio, ParquetAudio) else ("", 0)


def identity_of(audio: Path | ParquetAudio) -> str:
    """A short hash that identifies a clip without decoding it, wherever its folder lies; the same for all missing.

    It is a hash of a file's size and its middle: files of the same length, with and without noise say, differ there.
    Rows of a Parquet file are told by their places and by the file's name and size.
    """
    if isinstance(audio, ParquetAudio):
        facts = f"{audio.file.name} {audio.file.stat().st_size} {audio.row_group} {audio.row}".encode()
    else:
        try:
            with audio.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, (size - PROBE_BYTES) // 2))
                facts = str(size).encode() + file.read(PROBE_BYTES)
        except (OSError, ValueError):
            facts = b"missing"
    return hashlib.sha256(facts).hexdigest()[:8]


def size_of(audio: Path | ParquetAudio) -> int:
    """Bytes of the encoded audio, which within one benchmark goes with its length; 0 for a missing file."""
    if isinstance(audio, ParquetAudio):
        return audio.size()
    return audio.stat().st_size if audio.is_file() else 0
