"""MPEG audio (MP3, MP2), ADTS (AAC), AC-3 and AMR: frames without a container, told apart from what is around them.

Tags, zeros or other junk before, between and behind the frames would be taken for frames by a decoder, or hide the Info
frame from it, which says how long an MP3 file really is. A `FrameStream` holds the frames alone.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from src.audio_header import HeaderError

CHAIN = 4  # headers that must follow each other before they are taken for frames
MAX_FRAME = 8192  # bytes
INFO_PLACES = (13, 21, 36)  # in a frame of MP3, where the name of an Info frame may stand
FRAME_BEGINNING = re.compile(rb"\xff|\x0b\x77")
READ_BYTES = 2**16  # more than CHAIN frames
HEADER_BYTES = 7  # the longest header, ADTS'
# kbit/s by bitrate index 1 to 14: MPEG-1 layer I, II, III; MPEG-2 and 2.5 layer I, II and III
BITRATES = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # Hz, MPEG-1, 2, 2.5
AC3_BITRATES = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)  # kbit/s
AMR_NARROW = {0: 13, 1: 14, 2: 16, 3: 18, 4: 20, 5: 21, 6: 27, 7: 32, 8: 6, 15: 1}  # bytes of a frame by its type
AMR_WIDE = {0: 18, 1: 24, 2: 33, 3: 37, 4: 41, 5: 47, 6: 51, 7: 59, 8: 61, 9: 6, 14: 1, 15: 1}

# Of a frame's first bytes: how long it is (0: no frame begins so), and what it has in common with all others.
Measure = Callable[[bytes], tuple[int, object]]


def measure_mpeg(header: bytes) -> tuple[int, object]:
    """ISO 11172-3 and 13818-3, section 2.4.1.3; frames of free bitrate are not known."""
    word = int.from_bytes(header[:4], "big")
    version, layer = word >> 19 & 3, 4 - (word >> 17 & 3)
    bitrate, rate = word >> 12 & 15, word >> 10 & 3
    if len(header) < 4 or word >> 21 != 0x7FF or version == 1 or layer == 4 or not 0 < bitrate < 15 or rate == 3:
        return 0, None
    bits, padding = BITRATES[version == 3, layer][bitrate - 1] * 1000, word >> 9 & 1
    hertz = RATES[version][rate]
    if layer == 1:
        size = (12 * bits // hertz + padding) * 4
    else:
        size = (72 if layer == 3 and version != 3 else 144) * bits // hertz + padding
    return size, (version, layer, rate)


def measure_adts(header: bytes) -> tuple[int, object]:
    """ISO 14496-3, table 1.A.5: `adts_fixed_header` and `adts_variable_header`."""
    word = int.from_bytes(header[:7], "big")
    size, rate = word >> 13 & 0x1FFF, word >> 34 & 15
    if len(header) < 7 or word >> 44 != 0xFFF or word >> 41 & 3 or rate > 12 or size < 7:
        return 0, None
    return size, word >> 30 & ~(1 << 3)  # without the private bit


def measure_ac3(header: bytes) -> tuple[int, object]:
    """ETSI TS 102 366, sections 4.4.1 and E.1.3.1: AC-3 and E-AC-3."""
    if len(header) < 6 or header[:2] != b"\x0b\x77":
        return 0, None
    rate, code, version = header[4] >> 6, header[4] & 0x3F, header[5] >> 3
    if version > 10:
        return 2 * (1 + ((header[2] & 7) << 8 | header[3])), "eac3"
    if rate == 3 or code >= 2 * len(AC3_BITRATES):
        return 0, None
    bits = AC3_BITRATES[code >> 1] * 1000 * 1536  # of a frame, times the rate
    return 2 * (bits // (16 * (48_000, 44_100, 32_000)[rate]) + (code & 1 if rate == 1 else 0)), "ac3"


def measure_amr(sizes: dict[int, int]) -> Measure:
    """RFC 4867, section 5.3; frames marked as damaged are not taken."""

    def measure(header: bytes) -> tuple[int, object]:
        if not header or header[0] & 0b10000111 != 0b100:
            return 0, None
        return sizes.get(header[0] >> 3 & 15, 0), None

    return measure


# By FFmpeg's names of codecs, those of which each frame says how long it is.
MEASURES: dict[str, Measure] = {
    **dict.fromkeys(("mp1", "mp2", "mp3"), measure_mpeg),
    **dict.fromkeys(("ac3", "eac3"), measure_ac3),
    "aac": measure_adts,
}


@dataclass(frozen=True)
class StreamFormat:
    """A kind of frames."""

    demuxer: str  # FFmpeg's name
    magic: bytes  # before the first frame
    measure: Measure


MPEG = StreamFormat("mp3", b"", measure_mpeg)
ADTS = StreamFormat("aac", b"", measure_adts)
AC3 = StreamFormat("ac3", b"", measure_ac3)  # E-AC-3, too
AMR = (
    StreamFormat("amr", b"#!AMR-WB\n", measure_amr(AMR_WIDE)),
    StreamFormat("amr", b"#!AMR\n", measure_amr(AMR_NARROW)),
)


@dataclass(frozen=True)
class FrameStream:
    """The frames of a file and nothing else."""

    format: StreamFormat
    content: bytes  # the magic and the frames
    skipped_share: float  # bytes between the frames that belong to none, by those of the frames: the file is damaged
    num_frames: int
    promised_frames: int = 0  # of MP3, by its first frame; 0: it does not say
    ends_within_frame: bool = False  # the beginning of another one is behind the last


def read_frames(data: bytes, start: int, format: StreamFormat) -> FrameStream:
    """The frames from `start` on, and those after damaged places."""
    frames, kind, end = [format.magic], None, start  # end: of the last frame
    passed = skipped = doubtful = 0  # bytes; of the last it is not known yet whether frames follow
    first = start
    in_step = False  # a frame ended here
    while start < len(data):
        size, found = format.measure(data[start : start + HEADER_BYTES])
        fits = size and kind in (None, found) and start + size <= len(data)
        if fits and (in_step or is_chain(data, start, format.measure, at_end=True)):
            frame = data[start : start + size]
            is_info = format is MPEG and is_info_frame(frame)
            if not is_info or not passed:  # else it is that of another file, which was put behind the first
                frames.append(frame)
                passed += size
            skipped, doubtful, kind, in_step = skipped + doubtful, 0, found, True
            start = end = start + size
        elif tag := id3_bytes(data[start : start + 10]):
            start += tag
        else:
            start, doubtful, in_step = start + 1, doubtful + 1, False
    promised = 0
    if format is MPEG and passed:
        promised = read_info(data[max(0, first - MAX_FRAME) : first], frames[1], len(frames) - 2)
    num_frames = len(frames) - 1 - (promised > 0)  # without the Info frame
    rest = data[end : end + MAX_FRAME]
    size, found = format.measure(rest[:HEADER_BYTES])
    is_cut = len(rest) < size and found == kind
    if not size and len(rest) < HEADER_BYTES:  # not even the header is whole
        is_cut = len(rest) > 0 and frames[-1].startswith(rest[:2])
    return FrameStream(format, b"".join(frames), skipped / max(1, passed), num_frames, promised, is_cut)


def ends_within_frame(data: bytes, measure: Measure) -> bool:
    """Whether the last of the frames that follow each other in `data` is not all there."""
    start = 0
    while start < len(data) and (size := measure(data[start : start + HEADER_BYTES])[0]):
        start += size
    return start > len(data)


def is_info_frame(frame: bytes) -> bool:
    """Whether an MP3 frame is no sound but the header (Xing, Info or VBRI) of a whole file."""
    return any(frame[place : place + 4] in (b"Xing", b"Info") for place in INFO_PLACES) or frame[36:40] == b"VBRI"


def read_info(before: bytes, frame: bytes, following: int) -> int:
    """How many frames follow, by a file's first one; 0 where it does not say.

    Raises HeaderError if it, or what stands before it, did so until it was damaged.
    """
    is_mpeg1, is_mono = frame[1] & 0b1000 != 0, frame[3] >> 6 == 3
    place = INFO_PLACES[is_mpeg1 + (not is_mono)]
    is_named, flags = frame[place : place + 4] in (b"Xing", b"Info"), frame[place + 7 : place + 8]
    if (is_named and flags and flags[0] <= 15 and flags[0] & 1) or frame[36:40] == b"VBRI":
        start = place + 8 if is_named else 50
        return int.from_bytes(frame[start : start + 4], "big")
    counts = [int.from_bytes(frame[place + 8 : place + 12], "big") for place in INFO_PLACES]
    counted = following > CHAIN and (following in counts or following + 1 in counts)
    if counted or b"Xing" in before or b"Info" in before or (is_info_frame(frame) and not is_named):
        raise HeaderError("its Info frame is damaged, which says how long it is")
    return 0


def is_chain(data: bytes, place: int, measure: Measure, at_end: bool) -> bool:
    """Whether frames of one kind follow each other from `place` on: CHAIN of them, or at least two and then the end."""
    first = None
    for count in range(CHAIN):
        if at_end and count > 1 and place == len(data):
            return True
        size, kind = measure(data[place : place + HEADER_BYTES])
        first = kind if count == 0 else first
        if not size or kind != first:
            return False
        place += size
    return True


def id3_bytes(head: bytes) -> int:
    """The length of an ID3v2 tag that begins so, 0 for none."""
    if len(head) < 10 or head[:3] != b"ID3" or max(head[6:10]) > 127:
        return 0
    return 10 + sum(byte << 7 * shift for shift, byte in zip((3, 2, 1, 0), head[6:10], strict=True))


def find_frames(file: BinaryIO, max_junk: int = 0) -> FrameStream | None:
    """The file's frames, where they begin after at most `max_junk` bytes (and ID3v2 tags) that are none."""
    file.seek(0)
    head = file.read(16)
    for format in AMR:
        if head.startswith(format.magic):
            return read_frames(head + file.read(), len(format.magic), format)
    tags = 0
    while tag := id3_bytes(head):
        tags += tag
        file.seek(tags)
        head = file.read(16)
    start = 0 if max_junk else tags  # the length of a tag may be wrong
    file.seek(start)
    last = tags + max_junk - start
    data = file.read(last + READ_BYTES)
    at_end = len(data) < last + READ_BYTES
    for beginning in FRAME_BEGINNING.finditer(data, endpos=last + 2):
        for format in (MPEG, ADTS) if beginning[0] == b"\xff" else (AC3,):
            if is_chain(data, beginning.start(), format.measure, at_end):
                return read_frames(data + file.read(), beginning.start(), format)
    return None
