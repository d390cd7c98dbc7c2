import io

import numpy as np
import pytest
import soundfile

from src.audio import AudioError, read_audio
from src.windows import first_window, read_windows

RATE = 8000


def write(path, seconds: float, silent: slice | None = None, rate: int = RATE):
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
    path = write(tmp_path / "a.wav", 2.5, rate=rate)
    first = next(read_windows(path, 1.0))
    assert first.waveform.dtype == np.float32
    assert np.array_equal(first.waveform, read_audio(path, 1.0))


def test_windows_follow_each_other_to_the_end(tmp_path):
    path = write(tmp_path / "a.wav", 2.5)
    windows = list(read_windows(path, 1.0))
    assert spans(windows) == [(0, 1, False), (1, 2, False), (2, 2.5, True)]
    whole = read_audio(path, 10)
    joined = np.concatenate([window.waveform for window in windows])
    assert joined.shape == whole.shape
    middle = slice(17600, 30400)  # 1.1 to 1.9 s: away from the edges, where resampling sees less
    assert np.abs(joined[middle] - whole[middle]).max() < 1e-3


@pytest.mark.parametrize(("seconds", "ends"), [(1.0, [1.0]), (1.05, [1.0]), (1.15, [1.0, 1.15]), (0.05, [0.05])])
def test_a_tiny_rest_is_no_window(tmp_path, seconds, ends):
    windows = list(read_windows(write(tmp_path / "a.wav", seconds), 1.0))
    assert [round(window.end, 3) for window in windows] == ends
    assert [window.is_last for window in windows] == [False] * (len(ends) - 1) + [True]


def test_a_file_that_was_cut_is_refused_before_its_first_window(tmp_path):
    path = write(tmp_path / "a.wav", 4.0)
    content = path.read_bytes()[: path.stat().st_size // 2]
    assert len(read_audio(content, 1.0)) == 16000  # whose window is whole
    with pytest.raises(AudioError, match=r"recording: the file is cut: 2\.00 s are left of the 4\.00 s"):
        next(read_windows(content, 1.0, "recording"))


def test_silent_windows_are_left_out(tmp_path):
    path = write(tmp_path / "a.wav", 4.0, silent=slice(1, 2))
    assert spans(read_windows(path, 1.0)) == [(0, 1, False), (2, 3, False), (3, 4, True)]


def test_bytes_are_read_as_files_are(tmp_path):
    path = write(tmp_path / "a.wav", 1.5)
    for ours, theirs in zip(read_windows(path.read_bytes(), 1.0), read_windows(path, 1.0), strict=True):
        assert np.array_equal(ours.waveform, theirs.waveform)


def test_the_length_that_a_pipe_wrote_is_not_believed(tmp_path):
    content = bytearray(write(tmp_path / "a.wav", 1.5).read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"  # as ffmpeg has it, which cannot know
    assert spans(read_windows(bytes(content), 1.0)) == [(0, 1, False), (1, 1.5, True)]


def test_unusable_audio_is_named(tmp_path):
    silent = write(tmp_path / "silent.wav", 2.5, silent=slice(0, 3))
    with pytest.raises(AudioError, match=r"silent\.wav: is silent"):
        list(read_windows(silent, 1.0))
    empty = io.BytesIO()
    soundfile.write(empty, np.zeros((0, 1)), RATE, format="WAV")
    with pytest.raises(AudioError, match="upload: holds no samples"):
        list(read_windows(empty.getvalue(), 1.0, "upload"))
    with pytest.raises(AudioError, match="audio bytes: not readable as audio"):
        list(read_windows(b"no sound at all", 1.0))
    broken = tmp_path / "nan.wav"
    soundfile.write(broken, np.array([0.1] * RATE + [np.nan] * RATE), RATE, subtype="FLOAT")
    windows = read_windows(broken, 1.0)
    next(windows)
    with pytest.raises(AudioError, match=r"nan\.wav: holds NaN"):
        next(windows)


def test_the_first_window_comes_with_the_length_of_the_whole(tmp_path):
    path = write(tmp_path / "a.wav", 3.0, silent=slice(0, 1))
    window, seconds = first_window(path, 1.0, max_seconds=3.0)
    assert (window.start, window.end, window.is_last, seconds) == (1.0, 2.0, False, 3.0)
    assert np.array_equal(window.waveform, next(read_windows(path, 1.0)).waveform)


def test_what_is_beyond_the_limits_is_refused_undecoded(tmp_path, monkeypatch):
    monkeypatch.setattr("src.windows.read_windows", lambda *_: pytest.fail("decoded for nothing"))
    content = write(tmp_path / "a.wav", 3.0).read_bytes()
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
