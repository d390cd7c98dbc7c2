"""Decoding: a file, or the bytes of one, to samples, and how much is missing. The one place that opens audio.

libsndfile reads what is not compressed (WAV, AIFF, CAF, ...), where the header can be held against the file. PyAV
(FFmpeg's libraries) reads everything else, since only decoding tells its length, and files whose header was never
finished. A file's name plays no part: its bytes give the same samples.
"""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
import soundfile

from src.audio_header import HeaderError, Samples, read_header
from src.av_decoder import AvDecoder
from src.decoder import EXPECTED, AudioError, Decoder, UnknownFormatError
from src.errors import UserError
from src.frame_stream import find_frames

MIN_RATE, MAX_RATE = 1_000, 768_000  # Hz; beyond, the header is damaged
MAX_JUNK_BYTES = 2**20  # before the first frame of an MP3 file
MAX_FLOAT_PEAK = 8.0  # 18 dB over full scale; samples beyond were never divided by the largest integer
MIN_INTEGER_PEAK = 256  # -42 dB in 16 bits; samples that stay below it and are no whole numbers are something else
INTEGER_SCALES = (2**15, 2**23, 2**31)  # of 16, 24 and 32 bits
SCALED = "its floating-point samples are on the scale of integers, up to {scale:.0f} in place of 1, and were divided"
# What libsndfile reads, by its first bytes.
UNCOMPRESSED = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"caff", b".snd", b"NIST")
MAX_HINT_BYTES = 64
NO_SOUND = {  # what stands in place of a file that was not fetched, by its first bytes in lower case
    b"version https://git-lfs": "is a pointer of Git LFS, not the sound itself: fetch it with git lfs pull",
    b"<!doctype html": "is a web page, not sound: fetch the file anew",
    b"<html": "is a web page, not sound: fetch the file anew",
}


class SndfileDecoder(Decoder):
    """libsndfile. `samples`: what the header says of them."""

    def __init__(self, file: BinaryIO, name: str, samples: Samples | None) -> None:
        file.seek(0)
        try:
            self.sound = soundfile.SoundFile(file if isinstance(file, io.BytesIO) else file.fileno(), closefd=False)
        except soundfile.LibsndfileError as error:
            reason = "its encoding is not known" if "psf_" in error.error_string else error.error_string
            raise UnknownFormatError(f"{name}: not readable as audio ({reason}); {EXPECTED}") from None
        self.rate, self.channels = self.sound.samplerate, self.sound.channels
        self.is_float = self.sound.subtype in ("FLOAT", "DOUBLE")
        share = samples.share if samples and samples.present else 1  # a header alone: nothing is promised to libsndfile
        self.position, self.promised = 0, round(self.sound.frames / share)

    def read(self, frames: int) -> np.ndarray:
        there = min(frames, self.sound.frames - self.position)  # what follows is padding
        block = self.sound.read(there, dtype="float32", always_2d=True)  # [n, channels]
        self.position += len(block)
        if len(block) < frames:
            self.cut_off = max(0, self.promised - self.position)
        return block

    def count_left(self, max_frames: int) -> int:
        return self.sound.frames - self.position

    def close(self) -> None:
        self.sound.close()


@contextmanager
def open_decoder(source: str | os.PathLike | bytes, name: str) -> Iterator[Decoder]:
    """Open a file, or the bytes of one; what goes wrong then, or while reading, becomes an AudioError."""
    try:
        with open_binary(source, name) as file:
            decoder = make_decoder(file, name)
            try:
                if decoder.is_float:
                    scale = integer_scale(decoder, name)
                    decoder.close()
                    decoder = make_decoder(file, name)
                    if scale > 1:
                        decoder.full_scale, decoder.warnings = scale, (SCALED.format(scale=scale),)
                if not MIN_RATE <= decoder.rate <= MAX_RATE:
                    raise AudioError(
                        f"{name}: its header is damaged, it says {decoder.rate} samples a second; export it anew"
                    )
                yield decoder
            finally:
                decoder.close()
    except HeaderError as error:
        raise AudioError(f"{name}: {error}; export it anew") from None
    except UserError:
        raise
    except (soundfile.LibsndfileError, RuntimeError, OSError, TypeError, ValueError, MemoryError) as error:
        raise AudioError(f"{name}: not readable as audio ({error or type(error).__name__}); {EXPECTED}") from None


def make_decoder(file: BinaryIO, name: str) -> Decoder:
    """By what the file begins with. Raises AudioError or HeaderError."""
    samples = read_header(file)
    file.seek(0)
    head = file.read(MAX_HINT_BYTES)
    for beginning, found in NO_SOUND.items():
        if head.lstrip().lower().startswith(beginning):
            raise AudioError(f"{name}: {found}")
    if (
        head[:4] in UNCOMPRESSED
        and head[8:12] != b"AVI "
        and not (samples and (samples.promised is None or samples.is_compressed))
    ):
        try:
            return SndfileDecoder(file, name, samples)
        except UnknownFormatError as error:  # CAF may hold what FFmpeg alone decodes
            try:
                return AvDecoder(file, name, samples)
            except AudioError:
                raise error from None
    if frames := find_frames(file):
        return AvDecoder(frames, name)
    try:
        return AvDecoder(file, name, samples)
    except UnknownFormatError:
        if frames := find_frames(file, MAX_JUNK_BYTES):
            return AvDecoder(frames, name)
        raise


def integer_scale(decoder: Decoder, name: str) -> float:
    """What floating-point samples must be divided by: 1, or the largest integer of a format that they were copied from.

    Reads the whole file. Raises AudioError for samples that are neither.
    """
    peak, num_sounding, num_loud, are_whole = 0.0, 0, 0, True
    for block in decoder.blocks():
        level = np.nan_to_num(np.abs(block), posinf=0)  # NaN and infinite samples are named elsewhere
        peak = max(peak, float(level.max()))
        num_sounding += np.count_nonzero(level)
        num_loud += np.count_nonzero(level >= 1)
        are_whole = are_whole and np.array_equal(level, np.rint(level))
    if peak <= MAX_FLOAT_PEAK:
        return 1.0
    are_integers = are_whole or peak >= MIN_INTEGER_PEAK
    if num_loud < num_sounding / 2 or peak > INTEGER_SCALES[-1] or not are_integers:
        raise AudioError(f"{name}: holds samples up to {peak:.3g}, where -1 to 1 is expected: damaged; export it anew")
    return float(next(scale for scale in INTEGER_SCALES if peak <= scale))


class Bytes(io.BytesIO):
    """Where libsndfile looks for what is before the beginning, the place stays as it is, as in files."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self.tell() if whence == os.SEEK_SET and offset < 0 else super().seek(offset, whence)


@contextmanager
def open_binary(source: str | os.PathLike | bytes, name: str) -> Iterator[BinaryIO]:
    """Raises AudioError where there is no file, or nothing in it."""
    if not isinstance(source, bytes):
        check_file(source)
    elif not source:
        raise AudioError(f"{name}: is empty (0 bytes)")
    with Bytes(source) if isinstance(source, bytes) else open(source, "rb", buffering=0) as file:
        yield file


def check_file(path: str | os.PathLike) -> None:
    """Raise AudioError unless there is a file with something in it. Cheap: nothing is read."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: names that no file can have
        status = None
    if status is None or not stat.S_ISREG(status.st_mode):
        raise AudioError(f"{os.fspath(path)}: no such audio file")
    if status.st_size == 0:
        raise AudioError(f"{os.fspath(path)}: the file is empty (0 bytes)")
