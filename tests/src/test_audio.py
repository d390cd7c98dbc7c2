import io
import struct
import time

import numpy as np
import pytest
import soundfile
import torch

from src.audio import AudioError, inspect_audio, log_mel, read_audio
from tests.conftest import in_time


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def test_16_khz_mono_comes_as_it_is(tmp_path):
    wave = tone(0.5, 16000)
    soundfile.write(tmp_path / "a.wav", wave, 16000, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav"), wave)


@pytest.mark.parametrize(
    ("suffix", "rate"), [("wav", 44100), ("flac", 48000), ("ogg", 44100), ("mp3", 44100), ("wav", 8000)]
)
def test_other_formats_become_16_khz_mono(tmp_path, suffix, rate):
    left, right = tone(1.0, rate), np.zeros(rate, dtype=np.float32)
    soundfile.write(tmp_path / f"a.{suffix}", np.stack((left, right), axis=1), rate)
    wave = read_audio(tmp_path / f"a.{suffix}")
    assert wave.dtype == np.float32 and wave.ndim == 1
    assert abs(len(wave) - 16000) <= 1600  # lossy formats pad
    middle = wave[4000:12000]
    spectrum = np.abs(np.fft.rfft(middle))
    assert abs(np.argmax(spectrum) * 16000 / len(middle) - 440) <= 2
    assert middle.max() == pytest.approx(0.25, rel=0.1)  # the mean of a tone and silence


def test_only_one_window_is_read(tmp_path):
    soundfile.write(tmp_path / "long.flac", tone(5, 22050), 22050)
    assert len(read_audio(tmp_path / "long.flac", max_seconds=3)) == 48000


def test_bytes_are_read_like_files(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(0.5, 24000), 24000)
    path = tmp_path / "a.wav"
    np.testing.assert_array_equal(read_audio(path.read_bytes()), read_audio(path))


def wav_bytes(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, 16000, format="WAV", subtype="FLOAT")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"bad\.wav: the file is empty"),
        (b"this is text, not sound", r"bad\.wav: not readable as audio"),
        (wav_bytes(tone(1, 16000))[:30], r"bad\.wav: not readable as audio"),
        (wav_bytes(np.zeros(0, dtype=np.float32)), r"bad\.wav: holds no samples"),
        (wav_bytes(np.zeros(800, dtype=np.float32)), r"bad\.wav: is silent"),
        (wav_bytes(np.full(800, np.nan, dtype=np.float32)), r"bad\.wav: holds NaN"),
    ],
    ids=["nothing", "text", "cut", "no samples", "silent", "NaN"],  # the bytes hold the time they were made
)
def test_bad_files_are_named(tmp_path, content, message):
    (tmp_path / "bad.wav").write_bytes(content)
    with pytest.raises(AudioError, match=message):
        read_audio(tmp_path / "bad.wav")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(AudioError, match=r"gone\.wav: no such audio file"):
        read_audio(tmp_path / "gone.wav")
    with pytest.raises(AudioError, match="no such audio file"):
        read_audio(tmp_path)


def test_a_whole_file_is_inspected(tmp_path):
    """Also beyond one window, and beyond one block."""
    for name, rate in (("a.wav", 16000), ("b.flac", 44100), ("c.mp3", 44100), ("d.ogg", 48000)):
        soundfile.write(tmp_path / name, tone(40, rate), rate)
        facts = inspect_audio(tmp_path / name)
        assert facts.seconds == pytest.approx(40, abs=0.08 if name == "c.mp3" else 1e-4)  # MP3 pads
        assert facts.missing_seconds == 0


def test_a_wav_file_that_was_cut_is_refused_and_inspected(tmp_path):
    whole = wav_bytes(tone(2, 16000))
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    message = r"cut\.wav: the file is cut: 1\.00 s are left of the 2\.00 s that its header promises"
    with pytest.raises(AudioError, match=message):
        read_audio(tmp_path / "cut.wav")
    with pytest.raises(AudioError, match="item 3: the file is cut"):
        read_audio(whole[: len(whole) // 2], name="item 3")
    facts = inspect_audio(tmp_path / "cut.wav")
    assert facts.seconds == pytest.approx(1, abs=3e-3) and facts.seconds + facts.missing_seconds == pytest.approx(2)


def test_a_cut_that_is_not_heard_does_no_harm(tmp_path):
    whole = wav_bytes(tone(2, 16000))
    for share, max_seconds in ((0.995, 30), (0.5, 0.9)):  # too little to matter; behind the window
        (tmp_path / "cut.wav").write_bytes(whole[: int(len(whole) * share)])
        expected = read_audio(whole, max_seconds)
        heard = read_audio(tmp_path / "cut.wav", max_seconds)
        np.testing.assert_array_equal(heard, expected[: len(heard)])
        assert len(heard) >= 0.99 * len(expected)


def test_a_wav_file_written_into_a_pipe_is_not_taken_for_cut(tmp_path):
    whole = wav_bytes(tone(1, 16000))
    place = whole.index(b"data") + 4
    (tmp_path / "pipe.wav").write_bytes(whole[:place] + struct.pack("<I", 0xFFFFFFFF) + whole[place + 4 :])
    assert inspect_audio(tmp_path / "pipe.wav").missing_seconds == 0
    assert len(read_audio(tmp_path / "pipe.wav")) == 16000


@pytest.mark.parametrize("use", [read_audio, inspect_audio])
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.raw", wav_bytes(tone(1, 16000)), "not readable as audio"),  # headerless, by its name
        ("a.wav", wav_bytes(np.full(800, np.inf, dtype=np.float32)), "holds NaN or infinite samples"),
        ("a.wav", wav_bytes(np.zeros(800, dtype=np.float32)), "is silent"),
        ("a.wav", wav_bytes(np.zeros(0, dtype=np.float32)), "holds no samples"),
        ("a.wav", wav_bytes(tone(1, 16000)).replace(struct.pack("<I", 16000), struct.pack("<I", 3)), "3 samples a sec"),
    ],
    ids=["headerless", "infinite", "silent", "no samples", "rate"],
)
def test_reading_and_inspecting_refuse_alike(tmp_path, use, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AudioError, match=rf"{name}: .*{message}"):
        use(tmp_path / name)


@pytest.mark.parametrize("use", [read_audio, inspect_audio])
@pytest.mark.parametrize("name", ["gone.wav", "x" * 5000, "nul\0.wav", "half a pair \ud800.wav"])
def test_names_that_no_file_can_have(tmp_path, use, name):
    with pytest.raises(AudioError, match="no such audio file"):
        use(tmp_path / name)


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """One of: cut, bits flipped anywhere, bits flipped in the header, bytes of the header zeroed, another header."""
    data = bytearray(content)
    kind = rng.integers(6)
    if kind == 0:
        return bytes(data[: rng.integers(len(data))])
    if kind == 1:
        for place in rng.integers(len(data), size=rng.integers(1, 60)):
            data[place] ^= 1 << rng.integers(8)
    elif kind == 2:
        for place in rng.integers(64, size=rng.integers(1, 6)):
            data[place] ^= 1 << rng.integers(8)
    elif kind == 3:
        start = rng.integers(64)
        data[start : start + rng.integers(1, 16)] = bytes(8)
    elif kind == 4:
        data[: rng.integers(4, 64)] = rng.choice(
            [b"RIFF\x24\0\0\0WAVEfmt ", b"fLaC\0\0\0\x22", b"OggS", b"FORM", b"ID3\x04"]
        )
    else:
        data[rng.integers(len(data)) :] = bytes(rng.integers(256, size=rng.integers(400), dtype=np.uint8))
    return bytes(data)


def test_what_is_not_done_in_time_is_named():
    with pytest.raises(pytest.fail.Exception, match=r"clip7\.wav: not done after 0\.05 s"):
        in_time(0.05, "clip7.wav", time.sleep, 0.3)
    assert in_time(20, "clip8.wav", max, 1, 2) == 2


def test_300_damaged_files_are_read_or_named(tmp_path):
    """Never another exception, a hang, or sound that is not finite; names lie, since some formats go by the name."""
    rng = np.random.default_rng(5)
    originals = []
    for suffix, subtype in (
        ("wav", "PCM_16"),
        ("wav", "FLOAT"),
        ("flac", None),
        ("ogg", None),
        ("mp3", None),
        ("aiff", None),
    ):
        soundfile.write(tmp_path / f"a.{suffix}", tone(0.3, 16000) + 0.1, 16000, subtype=subtype)
        originals.append((suffix, (tmp_path / f"a.{suffix}").read_bytes()))
    outcomes = {"read": 0, "refused": 0}
    for number in range(300):
        suffix, content = originals[number % len(originals)]
        if rng.random() < 0.2:
            suffix = rng.choice(["wav", "flac", "mp3", "ogg", "raw", "txt", "au", "gsm", "vox", "w64"])
        path = tmp_path / f"clip{number}.{suffix}"
        path.write_bytes(damage(content, rng))
        for use in (read_audio, inspect_audio):
            try:
                found = in_time(20, f"{use.__name__} of {path.name}", use, path)
                outcomes["read"] += 1
                if use is read_audio:
                    assert np.isfinite(found).all() and 0 < len(found) <= 480_000
                else:
                    assert found.seconds > 0 and found.missing_seconds >= 0
            except AudioError as error:
                assert str(path) in str(error)
                outcomes["refused"] += 1
    assert min(outcomes.values()) > 100  # both happen


def test_log_mel_masks_the_padding(model, clips):
    features, mask = log_mel(model.feature_extractor, clips)
    assert features.shape == (3, 80, 3000) and features.dtype == torch.float32
    assert mask.sum(dim=1).tolist() == [80, 230, 510]  # 10 ms frames of 0.8, 2.3 and 5.1 s
    alone, _ = log_mel(model.feature_extractor, clips[1:2])
    torch.testing.assert_close(features[1:2], alone)


def test_log_mel_refuses_stereo(model):
    with pytest.raises(AudioError, match=r"expected mono samples \[n\], found shape \(2, 16000\)"):
        log_mel(model.feature_extractor, [np.ones((2, 16000), dtype=np.float32)])
