import io
import struct

import numpy as np
import pytest
import soundfile

from src.audio import AudioError, read_audio
from src.audio_header import HeaderError, Samples, asf_seconds, read_header
from tests.audio_files import encode, sweep, sweep_file, tone

KINDS = ("wav", "float", "rf64", "w64", "aiff", "au", "caf")
SIZE_PLACE = {"wav": 40, "aiff": 42, "au": 8, "caf": 4084 + 4, "w64": 104 - 8}  # of the number of bytes
WAV = sweep_file("wav")


def header(content: bytes) -> Samples | None:
    return read_header(io.BytesIO(content))


def changed(content: bytes, place: int, value: bytes) -> bytes:
    return content[:place] + value + content[place + len(value) :]


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_file_has_what_its_header_promises(kind):
    samples = header(sweep_file(kind))
    assert samples.promised == samples.present == 48000 * (4 if kind == "float" else 2)
    assert samples.share == 1 and not samples.is_compressed


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_file_that_was_cut_the_share_is_told(kind):
    content = sweep_file(kind)
    samples = header(content[: len(content) // 2])
    assert samples.present < samples.promised and samples.share == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("kind", ["wav", "float", "rf64", "w64", "aiff"])
@pytest.mark.parametrize("behind", [bytes(20_000), b"\xff" * 20_000, b"TAG of somebody"])
def test_what_follows_the_samples_is_none_if_the_size_of_the_file_says_so(kind, behind):
    content = sweep_file(kind)
    assert header(content + behind).promised == header(content).promised


def test_chunks_behind_the_samples_are_none():
    chunk = b"LIST" + struct.pack("<I", 10_000) + bytes(10_000)
    grown = changed(WAV, 4, struct.pack("<I", len(WAV) + len(chunk) - 8)) + chunk
    for content in (grown, changed(grown, 4, bytes(4))):
        assert header(content) == Samples(96_000, 96_000)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0xFFFFFFFF - 36, 0x7FFFFFFF, 0x7FFFF000, 2 * 10**9, 1_234_567_890, 0])
def test_a_placeholder_is_no_promise(size):
    content = changed(changed(WAV, 40, struct.pack("<I", size)), 4, struct.pack("<I", (size + 36) % 2**32))
    assert header(content) == Samples(None, 96_000)


def test_a_header_that_was_never_finished_has_all_that_follows():
    assert header(changed(sweep_file("caf"), sweep_file("caf").index(b"data") + 4, b"\xff" * 8)).promised is None
    assert header(changed(sweep_file("au"), 8, b"\xff" * 4)) == Samples(None, 96_000)


def test_half_of_a_large_file_is_cut_all_the_same():
    large = changed(WAV, 40, struct.pack("<I", 1_500_000))
    assert header(large) == Samples(1_500_000, 96_000)


def test_no_samples_are_none():
    empty = io.BytesIO()
    soundfile.write(empty, np.zeros(0), 16000, format="WAV")
    assert header(empty.getvalue()) == Samples(0, 0)
    chunk = b"LIST" + struct.pack("<I", 100) + bytes(100)
    assert header(empty.getvalue() + chunk) == Samples(0, 0)


def test_more_samples_than_are_promised_contradict():
    with pytest.raises(
        HeaderError, match="its header is damaged: it promises 48000 bytes of samples, and 96000 follow"
    ):
        header(changed(WAV, 40, struct.pack("<I", 48_000)))


@pytest.mark.parametrize(
    ("kind", "place", "value", "message"),
    [
        (
            "wav",
            24,
            struct.pack("<I", 8000),
            "8000 samples a second, 1 channels, 16 bits are 16000 bytes a second, and it",
        ),
        ("wav", 22, struct.pack("<H", 2), "16000 samples a second, 2 channels, 16 bits are 64000 bytes a second"),
        ("wav", 34, struct.pack("<H", 24), "1 channels, 24 bits are 48000 bytes a second, and it says 32000"),
        ("wav", 28, struct.pack("<I", 7), "and it says 7"),
        ("aiff", 20, struct.pack(">H", 2), "48000 frames, 2 channels, 16 bits are 192000 bytes, and it promises 96000"),
        ("aiff", 22, struct.pack(">I", 1), "1 frames"),
        (
            "aiff",
            46,
            struct.pack(">I", 9600),
            "48000 frames, 1 channels, 16 bits are 96000 bytes, and it promises 86400",
        ),
        ("aiff", 30, b"\x7f", "its header is damaged: it says .* samples a second"),
        ("au", 16, struct.pack(">I", 16384), "it says 16384 samples a second"),
        ("au", 20, struct.pack(">I", 7), "7 channels do not fit into 96000 bytes"),
        ("caf", 20, struct.pack(">d", 16_001.5), r"it says 16001\.5 samples a second"),
        ("gsm", 24, struct.pack("<I", 16_000), r"24000 samples take 1\.50 s, and \d+ bytes 3\.\d\d s"),
    ],
)
def test_numbers_that_contradict_each_other_are_named(kind, place, value, message):
    content = sweep_file(kind)
    header(content)
    with pytest.raises(HeaderError, match=message):
        header(changed(content, place, value))


def test_numbers_that_some_programs_write_are_taken():
    assert header(changed(WAV, 32, struct.pack("<H", 4))).promised == 96_000  # block align of two channels
    assert header(changed(WAV, 28, bytes(4))).promised == 96_000  # no bytes a second


def test_compressed_samples_are_counted_by_the_fact_chunk():
    assert (header(sweep_file("gsm")).is_compressed, header(sweep_file("gsm")).frames) == (True, 24_000)
    assert header(sweep_file("adpcm")).frames == 48_000


@pytest.mark.parametrize("kind", ["flac", "ogg", "mp3", "webm", "m4a", "wma"])
def test_other_formats_have_no_such_header(kind):
    assert header(sweep_file(kind)) is None


@pytest.mark.parametrize(
    "content", [b"", b"RIFF", b"RIFF\0\0\0\0WAVE", b"FORM\0\0\0\0AIFF", b"caff" + bytes(60), WAV[:36]]
)
def test_a_header_without_samples_says_nothing(content):
    assert header(content) is None


def test_a_header_that_ends_in_its_format_is_named():
    with pytest.raises(HeaderError, match="its header is cut"):
        header(WAV[:30])


def test_windows_media_says_how_long_it_plays():
    content = encode(sweep(3, 44100), 44100, "wma")
    assert asf_seconds(io.BytesIO(content)) == pytest.approx(3, abs=0.05)
    assert asf_seconds(io.BytesIO(content[: len(content) // 2])) == pytest.approx(3, abs=0.05)
    assert asf_seconds(io.BytesIO(WAV)) == 0


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "ULAW"])
def test_sphere_files_are_whole_or_called_cut(subtype):
    """NIST's, of LDC's corpora."""
    file = io.BytesIO()
    soundfile.write(file, tone(1, 16_000), 16_000, format="NIST", subtype=subtype)
    content = file.getvalue()
    assert len(read_audio(content)) == 16_000
    with pytest.raises(AudioError, match=r"the file is cut: 0\.50 s are left of the 1\.00 s that its header promises"):
        read_audio(content[: 1024 + (len(content) - 1024) // 2])
