import io

import numpy as np
import pytest

from src.audio import AudioError, read_audio
from src.container_end import ends_within_unit, measure_element
from tests import audio_files
from tests.audio_files import encode, sweep, sweep_file

FORMATS = {  # FFmpeg's names
    "ogg": "ogg", "opus": "ogg", "live": "matroska,webm", "fragments": "mov,mp4,m4a,3gp,3g2,mj2", "flv": "flv",
    "voc": "voc", "ts": "mpegts", "ps": "mpeg",
}  # fmt: skip
FILES = {kind: sweep_file(kind) for kind in FORMATS}
STREAM = 256  # of sweep_file("ts")


def is_cut(content: bytes, kind: str) -> bool:
    return ends_within_unit(io.BytesIO(content), FORMATS[kind], STREAM)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_whole_file_does_not_end_within_a_frame_and_one_that_is_cut_does(kind):
    content = FILES[kind]
    assert not is_cut(content, kind)
    assert not is_cut(content + bytes(1000), kind) and not is_cut(content + b"TAG" + bytes(125), kind)
    places = np.random.default_rng(0).integers(len(content) // 4, len(content) - 20, size=40)
    assert sum(is_cut(content[:place], kind) for place in places) >= 38  # the others are cut just between two


def test_an_ogg_file_ends_within_a_page_or_behind_one():
    content = FILES["ogg"]
    last = content.rindex(b"OggS")
    for end in (last + 1, last + 4, last + 26, last + 27, last + 40, len(content) - 1):
        assert is_cut(content[:end], "ogg")
    assert not is_cut(content[:last], "ogg") and not is_cut(b"RIFF", "ogg")


def test_a_transport_stream_ends_within_a_packet_or_within_what_its_packets_carry():
    content = FILES["ts"]
    packets = [content[start : start + 188] for start in range(0, len(content), 188)]
    begins = [n for n, packet in enumerate(packets) if packet[1] == 0x41 and packet[2] == 0]
    assert len(content) % 188 == 0 and len(begins) > 4
    assert not is_cut(content[: begins[-1] * 188], "ts")
    assert is_cut(content[: (begins[-1] + 1) * 188], "ts") and is_cut(content[: begins[-1] * 188 + 1], "ts")
    stamped = b"".join(b"\0\0\0\0" + packet for packet in packets)
    assert not is_cut(stamped, "ts") and is_cut(stamped[:-100], "ts")


def test_live_webm_ends_within_an_element():
    content = FILES["live"]
    starts = [0]
    while starts[-1] < len(content):
        starts.append(starts[-1] + measure_element(content[starts[-1] : starts[-1] + 32]))
    assert starts.pop() == len(content)
    assert not is_cut(content[: starts[-1]], "live")
    assert all(is_cut(content[: starts[-1] + size], "live") for size in (1, 2, 3, 50))


def test_unknown_containers_are_not_judged():
    assert not ends_within_unit(io.BytesIO(b"abc"), "asf", 0)


@pytest.mark.parametrize("encoder", ["mp2", "libmp3lame", "ac3", "libopus"])
def test_what_a_transport_stream_carries_is_whole_or_called_cut(encoder, monkeypatch):
    monkeypatch.setitem(audio_files.WITH_AV, "ts", ("mpegts", encoder))
    content = encode(sweep(3, 48_000), 48_000, "ts")
    assert len(read_audio(content)) / 16_000 == pytest.approx(3, rel=0.02)
    with pytest.raises(AudioError, match="it ends within a frame after 1"):
        read_audio(content[: len(content) // 2 + 1])
