"""The audio of a benchmark's items: reading order, batches of similar length, the next batch made ready meanwhile."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from transformers import WhisperFeatureExtractor

from evaluation.parquet_audio import ParquetAudio
from src.audio import AudioError, log_mel, read_audio, window_seconds

PROBE_BYTES = 4096  # of a file's middle, for telling it from others
MAX_READERS = 8  # threads that decode audio side by side; they wait for disks and decoders, not for each other


@dataclass(frozen=True)
class Sounds:
    """What a batch's items are about, ready for the encoder. Items that share a clip share its features."""

    waveforms: list[np.ndarray | AudioError]  # of each item: float32 [n] at 16 kHz, or what is wrong with it
    input_features: torch.Tensor | None = None  # float32 [C, n_mels, F], of C clips; None where none can be heard
    feature_attention_mask: torch.Tensor | None = None  # [C, F]
    clips: tuple[int, ...] = ()  # of each item that can be heard, in their order: its row of the features

    @property
    def heard(self) -> list[int]:
        """The places, in the batch, of items that can be heard."""
        return [place for place, waveform in enumerate(self.waveforms) if not isinstance(waveform, AudioError)]


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


def read_ahead(batches: Iterator[list[int]], read: Callable[[list[int]], Sounds]) -> Iterator[tuple[list[int], Sounds]]:
    """Yield (batch, its sounds); the next one is made and read in the background while the caller works on this one."""

    def read_next() -> tuple[list[int], Sounds] | None:
        batch = next(batches, None)
        return batch and (batch, read(batch))

    with ThreadPoolExecutor(max_workers=1) as reader:
        ahead = reader.submit(read_next)
        while ready := ahead.result():
            ahead = reader.submit(read_next)
            yield ready


def new_readers() -> Executor:
    """Threads for `read_sounds`: one a core, up to MAX_READERS."""
    return ThreadPoolExecutor(max_workers=min(MAX_READERS, os.cpu_count() or 1))


def read_sounds(
    audio: Sequence[Path | ParquetAudio],
    names: Sequence[str],
    feature_extractor: WhisperFeatureExtractor,
    readers: Executor,
) -> Sounds:
    """Read and decode a batch's clips, each distinct one once, and compute their log-mel features.

    Decoding is spread over `readers`. Messages call a sound in a Parquet file by its name.
    """
    names_of = dict(zip(reversed(audio), reversed(names), strict=True))  # of each distinct clip, its first
    window = window_seconds(feature_extractor)
    contents = {sound: encoded(sound) for sound in dict.fromkeys(audio)}  # row groups are read one after the other
    tasks = [readers.submit(read_sound, content, window, names_of[sound]) for sound, content in contents.items()]
    waveforms = {sound: task.result() for sound, task in zip(contents, tasks, strict=True)}
    readable = [sound for sound, waveform in waveforms.items() if not isinstance(waveform, AudioError)]
    if not readable:
        return Sounds([waveforms[sound] for sound in audio])
    features, mask = log_mel(feature_extractor, [waveforms[sound] for sound in readable])
    rows = {sound: row for row, sound in enumerate(readable)}
    clips = tuple(rows[sound] for sound in audio if sound in rows)
    return Sounds([waveforms[sound] for sound in audio], features, mask, clips)


def encoded(sound: Path | ParquetAudio) -> Path | bytes | AudioError:
    """What `read_sound` decodes: a file, or the bytes of a row."""
    try:
        return sound.read() if isinstance(sound, ParquetAudio) else sound
    except AudioError as error:
        return error


def read_sound(content: Path | bytes | AudioError, window: float, name: str) -> np.ndarray | AudioError:
    """The waveform (see `read_audio`), or what is wrong with it."""
    try:
        return content if isinstance(content, AudioError) else read_audio(content, window, name)
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
