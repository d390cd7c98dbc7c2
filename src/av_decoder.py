"""PyAV (FFmpeg's libraries): samples of everything that is compressed, and of files whose header was never finished."""

import io
import math
from collections.abc import Iterator
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np

from src.audio_header import Samples, asf_seconds
from src.container_end import ends_within_unit
from src.decoder import BLOCK_FRAMES, EXPECTED, AudioError, Decoder, MissingPackageError, UnknownFormatError
from src.frame_stream import MEASURES, FrameStream, ends_within_frame

MAX_DELAY_SECONDS = 0.05  # containers may count what a decoder leaves out at the beginning
MAX_GAP_SECONDS = 60  # a longer one between two packets is none: times begin anew in a file that follows another
MAX_PADDING_SECONDS = 0.25  # that codecs put before and behind the sound
# FFmpeg's names of containers: those that say how long a stream is, those that may say how long all of them are, and
# those whose packets are frames of the codec.
COUNTED = ("ape", "dsf", "flac", "mpc", "mpc8", "ogg", "tak", "tta", "wv")
TIMED = ("matroska,webm", "flv", "rm")
FRAMELESS = ("mpeg", "mpegts")
# FFmpeg's demuxers. Those that open other files or addresses (playlists) are left out, and those that take anything for
# their own; MP3, ADTS, AC-3 and AMR come as a FrameStream.
DEMUXERS = (
    "3gp,aiff,ape,asf,au,avi,caf,dsf,flac,flv,matroska,mov,mp4,mpc,mpc8,mpeg,mpegts,nistsphere,ogg,rm,tak,tta,voc,w64,"
    "wav,webm,wv"
)


def flac_check(byte: int) -> int:
    """What a byte adds to the check sum of a FLAC frame: the remainder by x^16 + x^15 + x^2 + 1."""
    value = byte << 8
    for _ in range(8):
        value = value << 1 ^ (0x18005 if value & 0x8000 else 0)
    return value


FLAC_CHECK = tuple(map(flac_check, range(256)))


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
            raise UnknownFormatError(f"{name}: not readable as audio ({reason}); {EXPECTED}") from None
        self.format = self.container.format.name
        self.stream = self.container.streams.best("audio")
        if self.stream is None or self.stream.codec_context is None:
            self.container.close()
            raise AudioError(
                f"{name}: "
                + ("holds no audio" if self.stream is None else "its audio codec is not known")
                + f"; {EXPECTED}"
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
                raise AudioError(
                    f"{self.name}: the file is damaged after {self.seconds_read:.2f} s; fetch it anew"
                ) from None

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
                frames = self.decode_before_junk(bytes(packet)) if self.format == "flac" else []
                if not frames:
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

    def decode_before_junk(self, packet: bytes) -> list[Any]:
        """The sound of the FLAC frame that a packet begins with, if one does: FFmpeg 8.1.1 adds junk to the last one.

        A check sum over all of a frame, its own bytes included, is 0 (RFC 9639, section 9.3).
        """
        check = 0
        for end, byte in enumerate(packet, start=1):
            check = (check << 8 & 0xFFFF) ^ FLAC_CHECK[check >> 8 ^ byte]
            if check == 0:
                try:
                    return self.stream.codec_context.decode(self.av.Packet(packet[:end]))
                except self.av.FFmpegError:  # by chance
                    continue
        return []

    def block_of(self, frame: Any) -> np.ndarray:
        """float32 [n, channels] of PyAV's frame."""
        if self.rate not in (0, frame.sample_rate):
            at = self.num_decoded / self.rate
            raise AudioError(
                f"{self.name}: its sample rate changes from {self.rate} to {frame.sample_rate} Hz "
                f"after {at:.2f} s; convert it to one"
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

    def read(self, frames: int) -> np.ndarray:
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
