"""Whether a file ends within a frame: in the middle of a page, packet, box or element of its container.

Of formats that do not say how long they are, this alone tells that a file was cut. One that was cut between two frames
is whole for all that anybody can know.
"""

import os
from collections.abc import Callable
from typing import BinaryIO

MAX_OGG_PAGE = 65_307  # bytes
MAX_PACK_BYTES = 2**20  # of MPEG program and transport streams: more than a pack and its packets
# MPEG transport streams: bytes of a packet, and before it (a time stamp) or behind it (a check sum).
PACKETS = ((188, 0), (192, 4), (204, 0))
# Matroska's elements (RFC 9559): the highest ones, and those in a segment and in a cluster.
ELEMENTS = {
    *(0x1A45DFA3, 0x18538067, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1F43B675, 0x1C53BB6B, 0x1254C367, 0x1941A469),
    *(0x1043A770, 0xEC, 0xBF, 0xE7, 0xA3, 0xA0, 0xA7, 0xAB, 0x5854),
}
BOXES = {b"ftyp", b"moov", b"styp", b"sidx", b"moof", b"mdat", b"emsg", b"prft", b"free", b"skip", b"uuid", b"mfra"}

# Of the bytes that a unit begins with: its length; 0 where none begins so, None where they are too few to say.
Measure = Callable[[bytes], int | None]


def ends_within_unit(file: BinaryIO, format: str, stream: int) -> bool:
    """`format`: the container, as FFmpeg calls it, and `stream` its number there. False for those not known here."""
    if format == "ogg":
        return ends_within_page(file)
    if format == "mpegts":
        return ends_within_packet(file, stream)
    if format == "mpeg":
        return goes_beyond_end(file, last_place(file, b"\0\0\1\xba", MAX_PACK_BYTES), measure_pack)
    start, measure, magic = UNITS.get(format.partition(",")[0], (0, None, b""))
    return measure is not None and goes_beyond_end(file, start, measure, magic)


def goes_beyond_end(file: BinaryIO, start: int, measure: Measure, magic: bytes = b"") -> bool:
    """Whether the last of the units that follow each other from `start` on does.

    Or one says a wrong length: what follows it is no unit, and behind that is one that begins with `magic`.
    """
    end = file.seek(0, os.SEEK_END)
    while 0 <= start < end:
        file.seek(start)
        size = measure(file.read(32))
        if size == 0:
            return magic != b"" and last_place(file, magic, end - start) >= 0
        if size is None or start + size > end:
            return True
        start += size
    return False


def last_place(file: BinaryIO, magic: bytes, max_bytes: int) -> int:
    """Where `magic` stands for the last time in the file's last `max_bytes`; -1 where it does not."""
    start = max(0, file.seek(0, os.SEEK_END) - max_bytes)
    file.seek(start)
    place = file.read().rfind(magic)
    return start + place if place >= 0 else -1


def ends_within_page(file: BinaryIO) -> bool:
    """Ogg (RFC 3533, section 6)."""
    place = last_place(file, b"OggS", MAX_OGG_PAGE)
    if place < 0:
        return False
    file.seek(place)
    page = file.read()
    segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
    end = 27 + len(segments) + sum(segments)
    if len(page) <= 26 or len(segments) < page[26] or len(page) < end:
        return True
    return begins(b"OggS", page[end:])


def begins(magic: bytes, rest: bytes) -> bool:
    """Whether `rest` is the beginning of `magic`, and not all of it."""
    return 0 < len(rest) < len(magic) and magic.startswith(rest)


def ends_within_packet(file: BinaryIO, stream: int) -> bool:
    """MPEG transport streams (ISO 13818-1, sections 2.4.3.2 and 2.4.3.6), of short packets that carry longer ones."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(3 * PACKETS[-1][0])
    for step, before in PACKETS:
        if any(head[place : place + 1] not in (b"G", b"") for place in range(before, len(head), step)):
            continue
        file.seek(max(0, size - MAX_PACK_BYTES) // step * step)
        tail = file.read()
        missing = 0
        for start in range(before, len(tail) - 187, step):
            packet = tail[start : start + 188]
            if packet[0] != ord("G") or (packet[1] & 31) << 8 | packet[2] != stream or not packet[3] & 16:
                continue
            payload = packet[5 + packet[4] if packet[3] & 32 else 4 :]
            if packet[1] & 64:  # a long one begins
                length = int.from_bytes(payload[4:6], "big") if payload.startswith(b"\0\0\1") else 0
                missing = 6 + length if length else 0
            missing -= len(payload)
        rest = tail[len(tail) // step * step :][before:]
        return missing > 0 or rest.startswith(b"G")
    return False


def measure_pack(head: bytes) -> int | None:
    """MPEG program streams (ISO 13818-1, section 2.5.3; ISO 11172-1): a pack's header, or a packet."""
    if head[:3] != b"\0\0\1":
        return 0
    if len(head) < 14:
        return 4 if head[3:4] == b"\xb9" else None
    if head[3] in (0xB9, 0xBA):
        return 4 if head[3] == 0xB9 else 14 + (head[13] & 7) if head[4] >> 6 == 1 else 12
    return 6 + int.from_bytes(head[4:6], "big")


def measure_element(head: bytes) -> int | None:
    """Matroska and WebM (RFC 8794): an element; where its length is unknown, as live, its header alone."""
    id_bytes = 9 - head[0].bit_length()
    if len(head) < id_bytes <= 4:
        return None if any(begins(name.to_bytes(4, "big").lstrip(b"\0"), head) for name in ELEMENTS) else 0
    if int.from_bytes(head[:id_bytes], "big") not in ELEMENTS:
        return 0
    rest = head[id_bytes : id_bytes + 8]
    size_bytes = 9 - rest[0].bit_length() if rest else 1
    if len(rest) < size_bytes:
        return None if size_bytes <= 8 else 0
    unknown = (1 << 7 * size_bytes) - 1
    size = int.from_bytes(rest[:size_bytes], "big") & unknown
    return id_bytes + size_bytes + (0 if size == unknown else size)


def measure_box(head: bytes) -> int | None:
    """MP4 (ISO 14496-12, section 4.2)."""
    if len(head) < 8 and any(head):
        return None if any(name.startswith(head[4:]) for name in BOXES) else 0
    if head[4:8] not in BOXES:
        return 0
    size = int.from_bytes(head[:4], "big")
    return int.from_bytes(head[8:16], "big") if size == 1 else size  # 0: to the end


def measure_tag(head: bytes) -> int | None:
    """Flash video (FLV 10.1, annex E.4): a tag and its length behind it."""
    if head[0] not in (8, 9, 18):
        return 0
    return 11 + int.from_bytes(head[1:4], "big") + 4 if len(head) >= 11 else None


def measure_block(head: bytes) -> int | None:
    """Creative's VOC."""
    if not 1 <= head[0] <= 9:
        return 0
    return 4 + int.from_bytes(head[1:4], "little") if len(head) >= 4 else None


# Where the first unit stands, how long one is, and what one that holds sound begins with, by FFmpeg's name.
UNITS: dict[str, tuple[int, Measure, bytes]] = {
    "matroska": (0, measure_element, b"\x1f\x43\xb6\x75"),
    "mov": (0, measure_box, b"moof"),
    "flv": (13, measure_tag, b""),
    "voc": (26, measure_block, b""),
}
