"""How much sound a header promises (WAV, RF64, W64, AIFF, CAF, AU; ASF), and whether its numbers can be true."""

import math
import os
import re
import struct
from dataclasses import dataclass, replace
from typing import BinaryIO, Literal

from src.errors import UserError

IFF = (b"8SVX", b"16SV")  # of the Amiga
MAX_CHUNKS = 1000  # of one file
MAX_EXCESS_SHARE = 0.01  # of the samples: so much may follow them, whatever it is
# Programs that cannot know the length yet (they write into a pipe, or were stopped) promise as many bytes, and mean "to
# the end"; a promise above the second number means that, too, where less than the share of it is there.
UNKNOWN_BYTES, UNLIKELY_BYTES, UNLIKELY_SHARE = 0x7FF00000, 10**9, 0.1
ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
# Format tags of WAV, and those of codecs with as many bytes a second at any time: ADPCM, GSM. FFmpeg knows no NMS.
PCM, FLOAT, ALAW, ULAW, EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
NMS_ADPCM = 0x38
CONSTANT_RATE = (0x02, 0x11, 0x14, 0x16, 0x31, 0x40, 0x45, 0x64, 0x65)
OLD_RATES = (5512, 5513, 7418, 8012, 8013, 11127, 22254, 22255)  # Hz, of old machines; all others are multiples of 25
AU_BYTES = {2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8}  # of a sample by its encoding


class HeaderError(UserError):
    """A header that contradicts itself or the file; the message says how."""


@dataclass(frozen=True)
class Container:
    """How a family of files marks its chunks: a name, a size, the chunk."""

    first_chunk: int  # place in the file
    name_bytes: int
    size_bytes: int
    order: Literal["little", "big"]
    alignment: int
    header_counts: bool  # in a chunk's size


@dataclass(frozen=True)
class Samples:
    """What a header says of the samples."""

    promised: int | None  # bytes; None: the header was never finished, and they go on to the end of the file
    present: int  # bytes
    is_compressed: bool = False
    frames: int = 0  # of compressed ones; 0: it does not say

    @property
    def share(self) -> float:
        """How much of what is promised is there."""
        return min(1.0, self.present / self.promised) if self.promised else 1.0


RIFF = Container(12, 4, 4, "little", 2, False)  # WAV and RF64
FORM = Container(12, 4, 4, "big", 2, False)  # AIFF; RIFX is a WAV of this kind
CAF = Container(8, 4, 8, "big", 1, False)
W64 = Container(40, 16, 8, "little", 8, True)


def container_of(head: bytes) -> Container | None:
    """By a file's first 40 bytes; None for any other format."""
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return RIFF
    if head[:4] == b"RIFX" or (head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC", *IFF)):
        return FORM
    if head[:4] == b"caff":
        return CAF
    return W64 if head[:4] == b"riff" and head[24:28] == b"wave" else None


def asf_seconds(file: BinaryIO) -> float:
    """How long a file of Windows Media plays, by its File Properties Object; 0 where it does not say."""
    file.seek(0)
    _, _, facts = file.read(2**16).partition(ASF_FILE_PROPERTIES)
    if len(facts) < 88 or facts[72] & 1:  # broadcast: the numbers mean nothing
        return 0.0
    duration, preroll = (int.from_bytes(facts[start : start + 8], "little") for start in (48, 64))  # 100 ns; ms
    return max(0.0, duration / 1e7 - preroll / 1e3)


def chunks(file: BinaryIO, container: Container, start: int) -> list[tuple[bytes, int, int]]:
    """Name, place and size of each chunk from `start` on; the last one may go beyond the file's end."""
    end, found = file.seek(0, os.SEEK_END), []
    header_bytes = container.name_bytes + container.size_bytes
    while start + header_bytes <= end and len(found) < MAX_CHUNKS:
        file.seek(start)
        header = file.read(header_bytes)
        size = int.from_bytes(header[container.name_bytes :], container.order)
        size -= header_bytes if container.header_counts else 0
        found.append((header[:4].lower(), start + header_bytes, size))
        if size < 0:
            break
        start += header_bytes + -(-size // container.alignment) * container.alignment
    return found


def read_header(file: BinaryIO) -> Samples | None:
    """What the header says of the samples; None for other formats, and where it has none.

    Raises HeaderError where the header contradicts itself, or what follows the samples.
    """
    file.seek(0)
    head = file.read(40)
    if head[:4] == b".snd":
        place, size, encoding, rate, channels = (int.from_bytes(head[i : i + 4], "big") for i in range(4, 24, 4))
        check_rate(rate)
        samples = samples_of(file, FORM, place, size, 0)
        if samples.promised and samples.promised % max(1, channels * AU_BYTES.get(encoding, 1)):
            raise HeaderError(f"its header contradicts itself: {channels} channels do not fit into {size} bytes")
        return samples
    if head[:7] == b"NIST_1A":
        return read_sphere_header(file)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":  # all of the file, sound or not: its share tells of a cut
        promised, present = int.from_bytes(head[4:8], "little") + 8, file.seek(0, os.SEEK_END)
        return Samples(max(promised, present), present, is_compressed=True) if 8 < promised < UNKNOWN_BYTES else None
    container = container_of(head)
    if container is None:
        return None
    total = {RIFF: head[4:8], FORM: head[4:8], W64: head[16:24]}.get(container, b"")  # the size of the whole file
    total = int.from_bytes(total, container.order) + (0 if container == W64 else 8)
    size64, wave, common, num_frames = 0, None, b"", 0
    for name, place, size in chunks(file, container, container.first_chunk):
        file.seek(place)
        if name == b"fmt ":
            wave = read_wave_format(file.read(min(size, 40)), container.order)
        elif name == b"fact":
            num_frames = int.from_bytes(file.read(min(size, container.size_bytes)), container.order)
        elif name == b"ds64":
            sizes = file.read(16)
            total, size64 = int.from_bytes(sizes[:8], "little") + 8, int.from_bytes(sizes[8:], "little")
        elif name == b"desc" and container == CAF:
            check_rate(struct.unpack(">d", file.read(8).rjust(8, b"\0"))[0])
        elif name == b"comm":
            common = file.read(min(size, 18))
        elif name == b"ssnd":
            offset = int.from_bytes(file.read(4), "big")  # of the first sample, behind this number and another one
            samples = samples_of(file, container, place + 8 + offset, size - 8 - offset, total)
            check_aiff(common, samples.promised if head[8:12] == b"AIFF" else None)
            return samples
        elif name == b"body" and head[8:12] in IFF:
            return samples_of(file, container, place, size, total)
        elif name == b"data" and container == CAF:  # its first four bytes count edits
            return Samples(None, 0) if size == 2**64 - 1 else samples_of(file, container, place + 4, size - 4, 0)
        elif name == b"data":
            samples = samples_of(file, container, place, size64 if size == 0xFFFFFFFF and size64 else size, total)
            if wave is None or not wave.is_compressed:
                return samples
            return replace(samples, is_compressed=True, frames=wave.check_frames(num_frames, samples.promised))
    return None


def read_sphere_header(file: BinaryIO) -> Samples | None:
    """NIST's SPHERE, of LDC's corpora: lines of name, type and value, in as many bytes as its second line says."""
    file.seek(0)
    header_bytes = re.fullmatch(rb"NIST_1A\n *(\d{1,6})\n", file.read(16))
    facts = (
        dict(re.findall(rb"^(\w+) -\w+ (.+)$", file.read(int(header_bytes[1])), re.MULTILINE)) if header_bytes else {}
    )
    numbers = [facts.get(name, b"").strip() for name in (b"sample_count", b"channel_count", b"sample_n_bytes")]
    if not all(number.isdigit() for number in numbers) or b"," in facts.get(b"sample_coding", b""):
        return None  # compressed
    promised = math.prod(map(int, numbers))
    return samples_of(file, FORM, int(header_bytes[1]), promised, 0)


def samples_of(file: BinaryIO, container: Container, place: int, promised: int, total: int) -> Samples:
    """What is promised at `place`, and there. `total`: of the file's bytes, by its header."""
    present = file.seek(0, os.SEEK_END) - place
    if promised >= UNKNOWN_BYTES or (promised >= UNLIKELY_BYTES and present < UNLIKELY_SHARE * promised):
        return Samples(None, present)
    if promised >= present:
        return Samples(promised, present)
    end = place + -(-max(promised, 0) // container.alignment) * container.alignment
    behind = chunks(file, container, end)
    followed = bool(behind) and (behind[-1][1] + behind[-1][2]) in range(place + present - 8, place + present + 8)
    if followed or (promised > 0 and abs(total - end) <= 8) or 0 < present - promised <= MAX_EXCESS_SHARE * promised:
        return Samples(promised, promised)
    if promised <= 0:
        return Samples(None, present)
    raise HeaderError(f"its header is damaged: it promises {promised} bytes of samples, and {present} follow")


@dataclass(frozen=True)
class WaveFormat:
    """The `fmt ` chunk of a WAV file."""

    tag: int
    channels: int
    rate: int  # samples a second, of each channel
    byte_rate: int  # bytes a second

    @property
    def is_compressed(self) -> bool:
        return self.tag not in (PCM, FLOAT, ALAW, ULAW, NMS_ADPCM)

    def check_frames(self, frames: int, promised: int | None) -> int:
        """What `frames` should be; 0: nothing is known. Raises HeaderError where they contradict the bytes."""
        if frames >= UNKNOWN_BYTES:
            return 0
        if self.tag in CONSTANT_RATE and frames and promised and self.rate and self.byte_rate:
            expected = promised / self.byte_rate
            for count in (frames, frames * self.channels):  # libsndfile's of IMA ADPCM are divided by the channels
                if abs(count / self.rate - expected) <= 0.03 * expected + 0.1:  # the last block may be padded
                    return count
            raise HeaderError(
                f"its header contradicts itself: {frames} samples take {frames / self.rate:.2f} s, and {promised} "
                f"bytes {expected:.2f} s"
            )
        return frames


def read_wave_format(facts: bytes, order: Literal["little", "big"]) -> WaveFormat:
    """Raises HeaderError unless rate, channels, bits and bytes a second agree, as they do not where one is wrong."""
    if len(facts) < 16:
        raise HeaderError("not readable as audio (its header is cut)")
    places = ((0, 2), (2, 4), (4, 8), (8, 12), (14, 16))
    tag, channels, rate, byte_rate, bits = (int.from_bytes(facts[start:stop], order) for start, stop in places)
    if tag == EXTENSIBLE:
        tag = int.from_bytes(facts[24:26], order)
    wave, expected = WaveFormat(tag, channels, rate, byte_rate), rate * channels * -(-bits // 8)
    if tag in (PCM, FLOAT, ALAW, ULAW) and byte_rate not in (0, expected):
        raise HeaderError(
            f"its header contradicts itself: {rate} samples a second, {channels} channels, {bits} bits are {expected} "
            f"bytes a second, and it says {byte_rate}"
        )
    return wave


def check_aiff(common: bytes, promised: int | None) -> None:
    """Raise HeaderError for a rate that cannot be, or unless the number of frames agrees with that of the bytes."""
    channels, frames, bits = (int.from_bytes(common[start:stop], "big") for start, stop in ((0, 2), (2, 6), (6, 8)))
    exponent, mantissa = int.from_bytes(common[8:10], "big"), int.from_bytes(common[10:18], "big")
    check_rate(mantissa * 2.0 ** min(exponent - 16383 - 63, 100))
    expected = frames * channels * -(-bits // 8)
    if promised and abs(expected - promised) > MAX_EXCESS_SHARE * promised:
        raise HeaderError(
            f"its header contradicts itself: {frames} frames, {channels} channels, {bits} bits are {expected} bytes, "
            f"and it promises {promised}"
        )


def check_rate(rate: float) -> None:
    """Raise HeaderError for a rate that no machine has; of formats in which no other number tells that it is wrong."""
    if rate % 25 and int(rate) not in OLD_RATES:
        raise HeaderError(f"its header is damaged: it says {rate:g} samples a second")
