import io
import struct
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from src.audio import (
    AudioError,
    first_window,
    inspect_audio,
    log_mel,
    read_audio,
    read_windows,
    resample,
    window_seconds,
)
from src.configuration_DIFFA import ROOT
from tests.audio_files import RATES, encode, sweep, tone


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


def test_resampling_gives_the_samples_that_librosa_gave():
    """Computed by librosa 0.11: the length, and every 20th sample, of chirps."""
    expected = {
        8000: (162, [0.000736, -0.980604, 0.209548, -0.99647, -0.999421, 0.241803, -0.408973, 0.905266, 0.974939]),
        44100: (161, [-0.036012, -0.023805, -0.001929, 0.001815, -0.000315, 0.000146, -0.00082, 0.00267, 0.0]),
        48000: (161, [0.139299, 0.059615, -0.010229, 0.00103, 3e-06, -0.000132, 0.000927, -0.003433, 0.0]),
    }
    for rate, (length, samples) in expected.items():
        chirp = np.sin(np.arange(rate // 100 + 1) ** 1.5 / 7).astype(np.float32)
        found = resample(chirp, rate)
        assert found.dtype == np.float32 and len(found) == length
        np.testing.assert_allclose(found[::20], samples, atol=2e-6)


def test_reading_audio_imports_neither_numba_nor_librosa():
    """They cost every worker seconds at its first resampled clip."""
    code = (
        "import sys, numpy as np, src.audio; src.audio.resample(np.ones(800, np.float32), 8000); "
        "assert not {'numba', 'librosa'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


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


AT_3_HZ = wav_bytes(tone(1, 16000)).replace(struct.pack("<I", 16000), struct.pack("<I", 3))


@pytest.mark.parametrize("use", [read_audio, inspect_audio])
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.wav", b"RIFF" + bytes(100), "not readable as audio"),
        ("a.wav", wav_bytes(np.full(800, np.inf, dtype=np.float32)), "holds NaN or infinite samples"),
        ("a.wav", wav_bytes(np.zeros(800, dtype=np.float32)), "is silent"),
        ("a.wav", wav_bytes(np.zeros(0, dtype=np.float32)), "holds no samples"),
        ("a.wav", AT_3_HZ, "its header contradicts itself: 3 samples a second"),
    ],
    ids=["header", "infinite", "silent", "no samples", "rate"],
)
def test_reading_and_inspecting_refuse_alike(tmp_path, use, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AudioError, match=rf"{name}: .*{message}"):
        use(tmp_path / name)


@pytest.mark.parametrize("name", ["a.raw", "a.mp3", "a.vox", "a", "a.m3u8"])
def test_a_files_name_plays_no_part(tmp_path, name):
    (tmp_path / name).write_bytes(wav_bytes(tone(1, 16000)))
    np.testing.assert_array_equal(read_audio(tmp_path / name), tone(1, 16000))


@pytest.mark.parametrize("use", [read_audio, inspect_audio])
@pytest.mark.parametrize("name", ["gone.wav", "x" * 5000, "nul\0.wav", "half a pair \ud800.wav"])
def test_names_that_no_file_can_have(tmp_path, use, name):
    with pytest.raises(AudioError, match="no such audio file"):
        use(tmp_path / name)


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg", "m4a", "webm"])
def test_channels_that_cancel_each_other_are_named_and_one_is_heard(kind, caplog):
    rate = RATES.get(kind, 16000)
    voice = sweep(2, rate)
    content = encode(np.stack((0.9 * voice, -voice), axis=1), rate, kind)
    waveform = read_audio(content, name="clip")
    assert np.abs(np.corrcoef(waveform[1000:30000], sweep(2, 16000)[1000:30000])[0, 1]) > 0.9
    warning = "its 2 channels cancel each other out, so channel 2 alone is heard"
    assert caplog.messages == [f"clip: {warning}"]
    assert first_window(content, 30, 60)[0].warnings == (warning,)


@pytest.mark.parametrize("other", [0.0, 1.0, -0.5])
def test_channels_that_do_not_cancel_are_mixed(other, caplog):
    voice = sweep(2, 16000)
    waveform = read_audio(encode(np.stack((voice, other * voice), axis=1), 16000, "float"))
    np.testing.assert_allclose(waveform, (1 + other) / 2 * voice, atol=1e-6)
    assert caplog.messages == []


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("level", "kind", "message"),
    [
        (0.5, "wav", r"is silent \(its samples are a constant, 0\.5\)"),
        (-0.25, "flac", r"is silent \(its samples are a constant, -0\.25\)"),
        (1e-3, "float", r"is silent \(its samples are a constant, 0\.001\)"),
        (1e-7, "float", r"is silent \(its loudest sample is at -140 dB, and below -96 dB\)"),
        (0.0, "m4a", r"is silent \(every sample is zero\)"),
    ],
)
def test_what_is_no_sound_is_named_for_what_it_is(tmp_path, channels, level, kind, message):
    path = tmp_path / "a"
    path.write_bytes(encode(np.full((16000, channels), level), 16000, kind))
    for use in (read_audio, inspect_audio, lambda path: list(read_windows(path, 0.3))):
        with pytest.raises(AudioError, match=rf"/a: {message}$"):
            use(path)


def test_faint_noise_is_silence_and_a_faint_voice_is_not():
    voice = sweep(1, 16000) / np.abs(sweep(1, 16000)).max()
    with pytest.raises(AudioError, match="its loudest sample is at -97 dB, and below -96 dB"):
        read_audio(encode(voice * 10 ** (-97 / 20), 16000, "float"))
    assert len(read_audio(encode(voice * 10 ** (-95 / 20), 16000, "float"))) == 16000
    assert len(read_audio(encode(0.5 + voice * 1e-2, 16000, "float"))) == 16000  # on a constant


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "m4a"])
def test_a_long_silence_before_the_sound_is_told_from_silence(tmp_path, kind):
    path = tmp_path / "late"
    path.write_bytes(encode(np.concatenate((np.zeros(31 * 16000), sweep(2, 16000))), 16000, kind))
    with pytest.raises(AudioError, match=r"late: is silent \(.*\) for its first 30 s, and no more is heard$"):
        read_audio(path)
    window, seconds = first_window(path, 30, 60)
    assert (window.start, window.is_last, seconds) == (30, True, pytest.approx(33, abs=0.01))
    assert inspect_audio(path).silent_seconds == pytest.approx(31, abs=0.1)


def test_log_mel_masks_the_padding(model, clips):
    features, mask = log_mel(model.feature_extractor, clips)
    assert features.shape == (3, 80, 3000) and features.dtype == torch.float32
    assert mask.sum(dim=1).tolist() == [80, 230, 510]  # 10 ms frames of 0.8, 2.3 and 5.1 s
    alone, _ = log_mel(model.feature_extractor, clips[1:2])
    torch.testing.assert_close(features[1:2], alone)


def test_log_mel_refuses_stereo(model):
    with pytest.raises(AudioError, match=r"expected mono samples \[n\], found shape \(2, 16000\)"):
        log_mel(model.feature_extractor, [np.ones((2, 16000), dtype=np.float32)])


def test_the_window_comes_from_the_feature_extractor(model):
    assert window_seconds(model.feature_extractor) == 30.0


# -- windows --------------------------------------------------------------------------------------------------------

RATE = 8000


def write_noise(path, seconds: float, silent: slice | None = None, rate: int = RATE):
    """A file of noise, stereo; `silent` is a part of it, in seconds."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (round(seconds * rate), 2))
    if silent:
        noise[round(silent.start * rate) : round(silent.stop * rate)] = 0
    soundfile.write(path, noise, rate, subtype="PCM_16")
    return path


def spans(windows) -> list[tuple[float, float, bool]]:
    return [(window.start, round(window.end, 3), window.is_last) for window in windows]


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_the_first_window_is_what_read_audio_gives(tmp_path, rate):
    path = write_noise(tmp_path / "a.wav", 2.5, rate=rate)
    first = next(read_windows(path, 1.0))
    assert first.waveform.dtype == np.float32
    assert np.array_equal(first.waveform, read_audio(path, 1.0))


def test_windows_follow_each_other_to_the_end(tmp_path):
    path = write_noise(tmp_path / "a.wav", 2.5)
    windows = list(read_windows(path, 1.0))
    assert spans(windows) == [(0, 1, False), (1, 2, False), (2, 2.5, True)]
    whole = read_audio(path, 10)
    joined = np.concatenate([window.waveform for window in windows])
    assert joined.shape == whole.shape
    middle = slice(17600, 30400)  # 1.1 to 1.9 s: away from the edges, where resampling sees less
    assert np.abs(joined[middle] - whole[middle]).max() < 1e-3


@pytest.mark.parametrize(("seconds", "ends"), [(1.0, [1.0]), (1.05, [1.0]), (1.15, [1.0, 1.15]), (0.05, [0.05])])
def test_a_tiny_rest_is_no_window(tmp_path, seconds, ends):
    windows = list(read_windows(write_noise(tmp_path / "a.wav", seconds), 1.0))
    assert [round(window.end, 3) for window in windows] == ends
    assert [window.is_last for window in windows] == [False] * (len(ends) - 1) + [True]


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_windows_of_a_file_that_was_cut_come_as_far_as_they_are_whole_then_it_is_named(tmp_path, suffix):
    path = write_noise(tmp_path / f"a.{suffix}", 4.0)
    content = path.read_bytes()[: int(path.stat().st_size * 0.6)]
    assert len(read_audio(content, 1.0)) == 16000
    windows = read_windows(content, 1.0, "recording")
    heard = [next(windows), next(windows)]
    with pytest.raises(AudioError, match=r"recording: the file is cut: 2\.\d\d s are left of the 4\.00 s"):
        next(windows)
    assert spans(heard) == [(0, 1, False), (1, 2, False)]


def test_silent_windows_are_left_out(tmp_path):
    path = write_noise(tmp_path / "a.wav", 4.0, silent=slice(1, 2))
    assert spans(read_windows(path, 1.0)) == [(0, 1, False), (2, 3, False), (3, 4, True)]


def test_windows_of_bytes_are_those_of_the_file(tmp_path):
    path = write_noise(tmp_path / "a.wav", 1.5)
    for ours, theirs in zip(read_windows(path.read_bytes(), 1.0), read_windows(path, 1.0), strict=True):
        assert np.array_equal(ours.waveform, theirs.waveform)


def test_the_length_that_a_pipe_wrote_is_not_believed(tmp_path):
    content = bytearray(write_noise(tmp_path / "a.wav", 1.5).read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"  # as ffmpeg has it, which cannot know
    assert spans(read_windows(bytes(content), 1.0)) == [(0, 1, False), (1, 1.5, True)]


def test_unusable_audio_is_named(tmp_path):
    silent = write_noise(tmp_path / "silent.wav", 2.5, silent=slice(0, 3))
    with pytest.raises(AudioError, match=r"silent\.wav: is silent"):
        list(read_windows(silent, 1.0))
    empty = io.BytesIO()
    soundfile.write(empty, np.zeros((0, 1)), RATE, format="WAV")
    with pytest.raises(AudioError, match="upload: holds no samples"):
        list(read_windows(empty.getvalue(), 1.0, "upload"))
    with pytest.raises(AudioError, match="audio bytes: not readable as audio"):
        list(read_windows(b"no sound at all", 1.0))
    with pytest.raises(AudioError, match="upload: holds no samples"):  # cut right behind its header
        list(read_windows(silent.read_bytes()[:44], 1.0, "upload"))
    broken = tmp_path / "nan.wav"
    soundfile.write(broken, np.concatenate((tone(1, RATE), np.full(RATE, np.nan))), RATE, subtype="FLOAT")
    windows = read_windows(broken, 1.0)
    next(windows)
    with pytest.raises(AudioError, match=r"nan\.wav: holds NaN"):
        next(windows)


def test_the_first_window_comes_with_the_length_of_the_whole(tmp_path):
    path = write_noise(tmp_path / "a.wav", 3.0, silent=slice(0, 1))
    window, seconds = first_window(path, 1.0, max_seconds=3.0)
    assert (window.start, window.end, window.is_last, seconds) == (1.0, 2.0, False, 3.0)
    assert np.array_equal(window.waveform, next(read_windows(path, 1.0)).waveform)


def test_what_is_beyond_the_limits_is_refused_undecoded(tmp_path, monkeypatch):
    monkeypatch.setattr("src.audio.read_windows", lambda *_: pytest.fail("decoded for nothing"))
    content = write_noise(tmp_path / "a.wav", 3.0).read_bytes()
    with pytest.raises(AudioError, match=r"^sent: is 3 s long; at most 2\.5 s are taken, cut it$"):
        first_window(content, 1.0, max_seconds=2.5, name="sent")
    many = tmp_path / "many.flac"
    soundfile.write(many, np.full((1000, 8), 0.1), 384_000)
    with pytest.raises(AudioError, match=r"many\.flac: holds 3072000 values a second; at most 1536000 are taken, mix"):
        first_window(many, 1.0, max_seconds=60)


def test_what_resampling_leaves_nothing_of_is_silent(tmp_path):
    soundfile.write(tmp_path / "click.wav", np.full(1, 0.5), 48_000)
    with pytest.raises(AudioError, match=r"click\.wav: is silent"):
        next(read_windows(tmp_path / "click.wav", 1.0))
