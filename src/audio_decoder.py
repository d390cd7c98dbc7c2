"""Decoding: a file, or the bytes of one, to samples, and how much is missing. The one place that opens audio.

libsndfile reads what is not compressed (WAV, AIFF, CAF, ...), where the header can be held against the file. PyAV
(FFmpeg's libraries) reads everything else, since only decoding tells its length, and files whose header was never
finished. A file's name plays no part: its bytes give the same samples.
"""

import io
import math
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
import soundfile

from src.audio_header import HeaderError, Samples, asf_seconds, read_header
from src.container_end import ends_within_unit
from src.errors import UserError
from src.frame_stream import MEASURES, FrameStream, ends_within_frame, find_frames

MIN_RATE, MAX_RATE = 1_000, 768_000  # Hz; beyond, the header is damaged
BLOCK_FRAMES = 2**20  # read at a time when a whole file is inspected
MAX_JUNK_BYTES = 2**20  # before the first frame of an MP3 file
MAX_DELAY_SECONDS = 0.05  # containers may count what a decoder leaves out at the beginning
MAX_GAP_SECONDS = 60  # a longer one between two packets is none: times begin anew in a file that follows another
MAX_PADDING_SECONDS = 0.25  # that codecs put before and behind the sound
MAX_FLOAT_PEAK = 8.0  # 18 dB over full scale; samples beyond were never divided by the largest integer
MIN_INTEGER_PEAK = 256  # -42 dB in 16 bits; samples that stay below it and are no whole numbers are something else
INTEGER_SCALES = (2**15, 2**23, 2**31)  # of 16, 24 and 32 bits
# What libsndfile reads, by its first bytes.
UNCOMPRESSED = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"caff", b".snd", b"NIST")
MAX_HINT_BYTES = 64
# FFmpeg's names of containers: those that say how long a stream is, those that may say how long all of them are, and
# those whose packets are frames of the codec.
COUNTED = ("ape", "dsf", "flac", "mpc", "mpc8", "ogg", "tak", "tta", "wv")
TIMED = ("matroska,webm", "flv", "rm")
FRAMELESS = ("mpeg", "mpegts")
NO_SOUND = {  # what stands in place of a file that was not fetched, by its first bytes in lower case
    b"version https://git-lfs": "is a pointer of Git LFS, not the sound itself: fetch it with git lfs pull",
    b"<!doctype html": "is a web page, not sound: fetch the file anew",
    b"<html": "is a web page, not sound: fetch the file anew",
}
# FFmpeg's demuxers. Those that open other files or addresses (playlists) are left out, and those that take anything for
# their own; MP3, ADTS, AC-3 and AMR come as a FrameStream.
DEMUXERS = (
    "3gp,aiff,ape,asf,au,avi,caf,dsf,flac,flv,matroska,mov,mp4,mpc,mpc8,mpeg,mpegts,nistsphere,ogg,rm,tak,tta,voc,w64,"
    "wav,webm,wv"
)


class AudioError(UserError):
    """Audio that cannot be used; the message names the file and what is wrong with it."""


class UnknownFormatError(AudioError):
    """Not a format that is read here, or nothing of it is left."""


class MissingPackageError(UserError):
    """A package of requirements.txt that is not installed."""


class Decoder(ABC):
    """An open file.

    Attributes:
        rate: Hz.
        channels: their number.
        damaged: frames that are known to be lost before the current position.
        cut_off: at the end, frames that the header promises beyond it.
        ends_within_frame: at the end, whether a packet or frame of the codec goes beyond it, and nothing promises more.
        full_scale: what samples are divided by, 1 but for floating-point samples at the scale of integers.
        is_float: whether the file stores floating-point samples.
    """

    rate: int
    channels: int
    damaged = cut_off = 0
    ends_within_frame = False
    full_scale = 1.0
    is_float = False

    def read(self, frames: int) -> np.ndarray:
        """float32 [n, channels], full scale at 1; n < frames at the end alone."""
        samples = self.decode(frames)
        with np.errstate(invalid="ignore"):  # NaN is named elsewhere
            return samples if self.full_scale == 1 else samples / np.float32(self.full_scale)

    def blocks(self) -> Iterator[np.ndarray]:
        """What is left, in blocks as `read` gives them."""
        while len(block := self.read(BLOCK_FRAMES)):
            yield block

    @abstractmethod
    def decode(self, frames: int) -> np.ndarray:
        """As `read`, as they are stored."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was done to make the samples usable."""
        if self.full_scale == 1:
            return ()
        scale = f"{self.full_scale:.0f}"
        return (
            f"its floating-point samples are on the scale of integers, up to {scale} in place of 1, and were divided",
        )

    @abstractmethod
    def count_left(self, max_frames: int) -> int:
        """Frames left, over `max_frames` if there are more; not decoded where that can be. The last call of all."""

    @abstractmethod
    def close(self) -> None: ...


class SndfileDecoder(Decoder):
    """libsndfile. `samples`: what the header says of them."""

    def __init__(self, file: BinaryIO, name: str, samples: Samples | None) -> None:
        file.seek(0)
        try:
            self.sound = soundfile.SoundFile(file if isinstance(file, io.BytesIO) else file.fileno(), closefd=False)
        except soundfile.LibsndfileError as error:
            reason = "its encoding is not known" if "psf_" in error.error_string else error.error_string
            raise UnknownFormatError(f"{name}: not readable as audio ({reason})") from None
        self.rate, self.channels = self.sound.samplerate, self.sound.channels
        self.is_float = self.sound.subtype in ("FLOAT", "DOUBLE")
        self.position, self.promised = 0, round(self.sound.frames / (samples.share if samples else 1))

    def decode(self, frames: int) -> np.ndarray:
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


class AvDecoder(Decoder):
    """PyAV. `samples`: as SndfileDecoder's."""

    def __init__(self, file: BinaryIO | FrameStream, name: str, samples: Samples | None = None) -> None:
        self.av = import_av()
        self.file, self.name, self.samples = file, name, samples
        self.num_packets = self.num_decoded = 0  # packets read, frames decoded
        self.position = self.rate = self.channels = 0
        self.packet_seconds, self.seconds_read, self.last_packet = 0.0, 0.0, b""  # of the last one, of all
        self.failed_seconds = self.pending_seconds = 0.0  # of packets that cannot be decoded, and of the last ones
        self.expected = math.inf  # seconds from the beginning, where the next packet should begin
        demuxer = file.format.demuxer if isinstance(file, FrameStream) else None
        options = {"format_whitelist": demuxer or DEMUXERS, "protocol_whitelist": "none"}
        content = Unnamed(io.BytesIO(file.content) if isinstance(file, FrameStream) else file)
        content.seek(0)
        try:
            self.container = self.av.open(content, format=demuxer, options=options, metadata_errors="replace")
        except self.av.FFmpegError as error:
            invalid = isinstance(error, (self.av.InvalidDataError, self.av.EOFError, self.av.ArgumentError))
            reason = "its format is not known, or its header is damaged" if invalid else error.strerror
            raise UnknownFormatError(f"{name}: not readable as audio ({reason})") from None
        self.format = self.container.format.name
        self.stream = self.container.streams.best("audio")
        if self.stream is None or self.stream.codec_context is None:
            self.container.close()
            raise AudioError(
                f"{name}: " + ("holds no audio" if self.stream is None else "its audio codec is not known")
            )
        self.is_float = self.stream.codec_context.name.startswith("pcm_f")
        if self.format == "caf":  # else FFmpeg cuts the padding off the last packet of ALAC, which has none
            self.stream.codec_context.options = {"flags2": "skip_manual"}
        self.waiting = self.decode_blocks()
        self.left = next(self.waiting, np.zeros((0, 1), np.float32))  # the first block tells rate and channels
        self.rate = self.rate or self.stream.codec_context.sample_rate

    def packets(self) -> Iterator[Any]:
        try:
            for packet in self.container.demux(self.stream):
                if packet.size:  # the last one is empty
                    self.num_packets += 1
                    self.last_packet = bytes(packet) if self.format in FRAMELESS else b""
                    if packet.duration:  # else as long as the one before
                        self.packet_seconds = float(packet.duration * packet.time_base)
                    self.seconds_read += self.packet_seconds
                    self.look_for_gap(packet)
                yield packet
        except self.av.FFmpegError:
            promised = self.promised() / max(1, self.rate)
            if not promised or self.seconds_read < promised - MAX_PADDING_SECONDS:  # else a tag, or other junk
                raise AudioError(f"{self.name}: the file is damaged after {self.seconds_read:.2f} s") from None

    def look_for_gap(self, packet: Any) -> None:
        """Count what is missing before a packet, where packets tell their times and follow each other without a gap."""
        if packet.pts is None or self.format not in ("flac", "ogg"):
            return
        start = float(packet.pts * packet.time_base)
        if MAX_DELAY_SECONDS < start - self.expected < MAX_GAP_SECONDS:
            self.failed_seconds += start - self.expected
        self.expected = start + self.packet_seconds

    def decode_blocks(self) -> Iterator[np.ndarray]:
        """float32 [n, channels] of each frame of the codec."""
        behind = None  # beyond the promised end: padding of the last packet, unless more follows
        trims = self.format.startswith("mov") or (self.samples is not None and self.samples.frames > 0)
        for packet in self.packets():
            try:
                frames = packet.decode()
            except self.av.FFmpegError:
                self.pending_seconds += self.packet_seconds
                continue
            if packet.size:
                self.failed_seconds, self.pending_seconds = self.failed_seconds + self.pending_seconds, 0.0
            for frame in frames:
                if behind is not None:
                    yield behind
                block, behind = self.block_of(frame), None
                promised = self.promised() if trims else 0
                left = promised - self.num_decoded
                self.num_decoded += len(block)
                if promised and 0 <= left < len(block):
                    block, behind = block[:left], block[left:]
                yield block

    def block_of(self, frame: Any) -> np.ndarray:
        """float32 [n, channels] of PyAV's frame."""
        if self.rate not in (0, frame.sample_rate):
            at = self.num_decoded / self.rate
            raise AudioError(
                f"{self.name}: its sample rate changes from {self.rate} to {frame.sample_rate} Hz after {at:.2f} s"
            )
        channels = frame.layout.nb_channels
        self.rate, self.channels = frame.sample_rate, self.channels or channels
        samples = frame.to_ndarray()  # [channels, n], or [1, n * channels]
        samples = samples.T if frame.format.is_planar else samples.reshape(-1, channels)
        if samples.dtype == np.uint8:
            samples = (samples.astype(np.float32) - 128) / 128
        elif samples.dtype.kind == "i":
            samples = samples.astype(np.float32) / np.float32(-float(np.iinfo(samples.dtype).min))
        if channels != self.channels:
            samples = samples.mean(axis=1, keepdims=True).repeat(self.channels, axis=1)
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is named elsewhere
            return samples.astype(np.float32, copy=False)

    def decode(self, frames: int) -> np.ndarray:
        blocks, length = [self.left], len(self.left)
        while length < frames and (block := next(self.waiting, None)) is not None:
            blocks.append(block)
            length += len(block)
        samples = np.concatenate(blocks) if len(blocks) > 1 else self.left
        samples, self.left = samples[:frames], samples[frames:]
        self.position += len(samples)
        lost = self.failed_seconds * self.rate
        if isinstance(self.file, FrameStream):
            lost += self.num_decoded * self.file.skipped_share
        self.damaged = round(lost)
        if length < frames:
            self.ends_within_frame = self.is_cut()
            self.cut_off = max(0, round(self.missing_at_end()) - self.damaged)
            if self.ends_within_frame and self.format not in TIMED:
                self.cut_off = 0  # more is missing than that one frame
        return samples

    def is_cut(self) -> bool:
        """`ends_within_frame`, all having been read."""
        if isinstance(self.file, FrameStream):
            return self.file.ends_within_frame and not self.file.promised_frames
        if self.format.startswith("mov") and self.stream.frames:  # it lists them
            return False
        measure = MEASURES.get(self.stream.codec_context.codec.canonical_name)
        if self.format in FRAMELESS and measure and ends_within_frame(self.last_packet, measure):
            return True
        return ends_within_unit(self.file, self.format, self.stream.id)

    def missing_at_end(self) -> float:
        """Frames that the file should have beyond those that were decoded: all of them."""
        missing = self.damaged + self.pending_seconds * self.rate
        if self.format.startswith("mov"):  # lists its packets, and samples that are not compressed one by one
            listed = self.stream.frames
            if self.stream.codec_context.name.startswith("pcm_"):
                return max(missing, listed - self.num_decoded)
            return max(missing, (listed - self.num_packets) * self.packet_seconds * self.rate)
        slack = 0 if self.format == "flac" else MAX_DELAY_SECONDS + (self.packet_seconds if self.format in TIMED else 0)
        missing = max(missing, self.promised() - slack * self.rate - self.num_decoded)
        part = self.samples.share if self.samples else 1.0  # that is there of the file
        if isinstance(self.file, FrameStream) and self.file.promised_frames:
            part = min(1.0, self.file.num_frames / self.file.promised_frames)
        return max(missing, self.num_decoded / part - self.num_decoded if part else 0)

    def promised(self) -> int:
        """Frames of the whole file by its container; 0 where its number is none, or an estimate."""
        seconds = 0.0
        if self.samples is not None:
            return self.samples.frames if self.samples.is_compressed else 0
        if self.format in COUNTED or self.format.startswith("mov"):
            seconds = float((self.stream.duration or 0) * self.stream.time_base)
        elif self.format in TIMED and len(self.container.streams) == 1:
            seconds = (self.container.duration or 0) / self.av.time_base
        elif self.format == "asf":
            seconds = asf_seconds(self.file)
        return round(seconds * self.rate)

    def count_left(self, max_frames: int) -> int:
        frames = float(len(self.left))
        for packet in self.packets():
            frames += self.packet_seconds * self.rate if packet.size else 0
            if frames > 2 * max_frames:  # what packets say is an estimate
                return round(frames)
        if isinstance(self.file, FrameStream):
            if self.file.promised_frames != self.file.num_frames:
                return round(frames)
            promised = round((self.stream.duration or 0) * self.stream.time_base * self.rate)  # without padding
        else:
            promised = self.promised()
        if abs(promised - frames) <= MAX_PADDING_SECONDS * self.rate:
            return promised
        frames, again = 0, AvDecoder(self.file, self.name, self.samples)
        while frames <= max_frames and len(block := again.read(BLOCK_FRAMES)):
            frames += len(block)
        again.close()
        return frames

    def close(self) -> None:
        self.container.close()


class Unnamed:
    """What FFmpeg may know of a file: not its name, which would play a part in what it is taken for."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def import_av() -> ModuleType:
    """PyAV. Raises MissingPackageError."""
    try:
        import av
    except ImportError as error:
        raise MissingPackageError(
            f"PyAV, which decodes MP3, FLAC, Ogg, M4A, WebM and more, is not installed ({error}): "
            "pip install -r requirements.txt -c constraints.txt"
        ) from None
    return av


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
                    decoder.full_scale = scale
                if not MIN_RATE <= decoder.rate <= MAX_RATE:
                    raise AudioError(f"{name}: its header is damaged, it says {decoder.rate} samples a second")
                yield decoder
            finally:
                decoder.close()
    except HeaderError as error:
        raise AudioError(f"{name}: {error}") from None
    except UserError:
        raise
    except (soundfile.LibsndfileError, RuntimeError, OSError, TypeError, ValueError, MemoryError) as error:
        raise AudioError(f"{name}: not readable as audio ({error or type(error).__name__})") from None


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
        raise AudioError(f"{name}: holds samples up to {peak:.3g}, where -1 to 1 is expected: damaged")
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
