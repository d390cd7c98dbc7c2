import io

import numpy as np
import pytest

from src.audio import read_audio
from src.audio_header import HeaderError
from src.frame_stream import (
    ADTS,
    AMR,
    MPEG,
    find_frames,
    id3_bytes,
    is_info_frame,
    measure_adts,
    measure_amr,
    measure_mpeg,
)
from tests.audio_files import encode, sweep, sweep_file

MP3, AAC, AMR_FILE = sweep_file("mp3"), sweep_file("aac"), sweep_file("amr")
TAG = b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(range(128))  # of 10 + 128 bytes


def frames(content: bytes, max_junk: int = 0):
    return find_frames(io.BytesIO(content), max_junk)


def sizes(content: bytes, measure, start: int = 0) -> list[int]:
    """Of the frames that follow each other to the end."""
    found = []
    while start < len(content):
        size, _ = measure(content[start : start + 7])
        assert size > 0, (start, content[start : start + 7])
        found.append(size)
        start += size
    assert start == len(content)
    return found


@pytest.mark.parametrize("rate", [8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_frames_of_mp3_and_aac_reach_to_the_end(rate, channels):
    samples = np.stack([sweep(1, rate)] * channels, axis=1)
    count = len(sizes(encode(samples, rate, "mp3"), measure_mpeg))
    assert count == pytest.approx(rate / (1152 if rate > 24000 else 576), abs=4)
    assert len(sizes(encode(samples, rate, "aac"), measure_adts)) == pytest.approx(rate / 1024, abs=3)


def test_headers_of_layers_1_and_2():
    assert measure_mpeg(bytes.fromhex("fffdc404"))[0] == 144 * 256_000 // 48_000  # MPEG-1 layer II, 256 kbit/s
    assert measure_mpeg(bytes.fromhex("ffff8404"))[0] == 12 * 256_000 // 48_000 * 4  # MPEG-1 layer I, 256 kbit/s


@pytest.mark.parametrize("header", ["", "ff", "00000000", "fff0c404", "fffd0404", "fffdf404", "fffdcc04", "ffe9c404"])
def test_what_begins_no_frame_of_mpeg(header):
    assert measure_mpeg(bytes.fromhex(header))[0] == 0


def test_frames_of_amr():
    magic, measure = AMR[1].magic, AMR[1].measure
    assert AMR_FILE.startswith(magic)
    assert set(sizes(AMR_FILE, measure, len(magic))) == {32}  # 12.2 kbit/s
    assert measure(b"\x04")[0] == 13 and measure(b"\x00")[0] == 0  # a good frame, and one marked as damaged
    assert measure_amr({})(b"\x04")[0] == 0


@pytest.mark.parametrize(("content", "format_"), [(MP3, MPEG), (AAC, ADTS), (AMR_FILE, AMR[1])])
def test_junk_around_the_frames_is_left_out(content, format_):
    rng = np.random.default_rng(0)
    for behind in (b"", bytes(3000), rng.bytes(3000), b"\xff" * 3000, b"TAG" + b" " * 125):
        found = frames(content + behind)
        assert found.format is format_ and found.content == content and found.skipped_share == 0


def test_junk_and_tags_before_the_frames():
    rng = np.random.default_rng(1)
    assert frames(TAG + MP3).content == MP3 and frames(TAG + TAG + AAC).content == AAC
    for before in (bytes(3000), rng.bytes(3000), TAG + bytes(70_000), b"\xff" * 1000):
        assert frames(before + MP3) is None
        assert frames(before + MP3, 2**20).content == MP3
        np.testing.assert_array_equal(read_audio(before + MP3), read_audio(MP3))


@pytest.mark.parametrize("length", [0, 100, 138, 1000, 5000])
def test_a_tag_whose_length_is_wrong_hides_no_frame(length):
    tag = TAG[:6] + bytes((0, 0, length >> 7, length & 127)) + TAG[10:]
    np.testing.assert_array_equal(read_audio(tag + MP3), read_audio(MP3))


def test_files_put_one_behind_the_other_have_one_info_frame():
    other = encode(sweep(1, 16000)[::-1], 16000, "mp3")
    size, _ = measure_mpeg(other[:4])
    assert is_info_frame(other[:size])
    assert frames(MP3 + TAG + other).content == MP3 + other[size:]
    assert len(read_audio(MP3 + TAG + other)) / 16000 == pytest.approx(4, abs=0.15)


def test_what_is_lost_between_frames_is_measured():
    damaged = bytearray(MP3)
    start = len(MP3) // 2
    damaged[start : start + 1200] = bytes(1200)
    found = frames(bytes(damaged))
    assert 1200 <= len(MP3) - len(found.content) <= 1200 + 2 * 216
    assert found.skipped_share == pytest.approx((len(MP3) - len(found.content)) / len(found.content))


def test_other_formats_are_not_taken_for_frames():
    rng = np.random.default_rng(2)
    for content in (
        sweep_file("wav"),
        sweep_file("ogg"),
        sweep_file("webm"),
        rng.bytes(10**6),
        b"\xff" * 10**5,
        b"",
        b"ID3",
    ):
        assert frames(content, 2**20) is None


def test_the_info_frame_says_how_many_frames_there_are():
    found = frames(MP3)
    assert found.promised_frames == found.num_frames == pytest.approx(3 * 16000 / 576, abs=4)
    assert frames(AAC).promised_frames == 0
    size, _ = measure_mpeg(MP3[:4])
    begun = frames(MP3[size:])  # in the sound
    assert begun.promised_frames == 0 and begun.num_frames == found.num_frames
    cut = frames(MP3[: len(MP3) // 2])
    assert cut.promised_frames == found.num_frames and cut.num_frames < 0.6 * found.num_frames


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, 0), (2, 0xFF), (3, 0x04), (13, ord("Y")), (16, 0), (20, 0x0E), (20, 0xFF)],
    ids=["sync", "bitrate", "stereo", "name", "name's end", "no count", "flags"],
)
def test_an_info_frame_that_is_damaged_is_named(place, value):
    """Without it the file would seem to be longer than it is."""
    damaged = bytearray(MP3)
    damaged[place] = value
    with pytest.raises(HeaderError, match="its Info frame is damaged, which says how long it is"):
        frames(bytes(damaged), 2**20)


def test_tags_tell_their_lengths():
    assert id3_bytes(TAG[:10]) == len(TAG) == 138
    assert id3_bytes(b"ID3\x04\x00\x00\x00\x00\x80\x00") == id3_bytes(b"ID3") == id3_bytes(b"TAG" + bytes(7)) == 0
