"""The miniature's sounds and melodies hold what their attributes say."""

import numpy as np
import pytest

from demo import sounds, world
from demo.sounds import COUNTS, EVENT_KEYS, MUSIC_KEYS, make_music, make_sound
from src.configuration_DIFFA import SAMPLE_RATE


def bursts(samples: np.ndarray, gap_seconds: float) -> list[tuple[int, int]]:
    """Start and end sample of the loud stretches, those less than a gap apart taken as one."""
    loud = np.flatnonzero(np.abs(samples) > 0.02)
    breaks = np.flatnonzero(np.diff(loud) > gap_seconds * SAMPLE_RATE)
    return list(zip(loud[[0, *(breaks + 1)]], loud[[*breaks, -1]], strict=True))


def pitches(samples: np.ndarray) -> list[float]:
    """Lowest strong frequency of each note, in semitones."""
    found = []
    for start, end in bursts(samples, 0.01):
        note = samples[start:end]
        spectrum = np.abs(np.fft.rfft(note * np.hanning(len(note)), 8 * SAMPLE_RATE))
        spectrum = spectrum / spectrum.max()
        middle = spectrum[1:-1]
        peaks = np.flatnonzero((middle > 0.3) & (middle >= spectrum[2:]) & (middle > spectrum[:-2])) + 1
        found.append(69 + 12 * np.log2(peaks[0] / 8 / 440))
    return found


def spectra(samples: np.ndarray, length: int, step: int, padded: int) -> np.ndarray:
    """Magnitudes [frames, padded // 2 + 1] of Hann windows of `length` samples, every `step`."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, length)[::step]
    return np.abs(np.fft.rfft(frames * np.hanning(length), padded))


def spectral_flatness(samples: np.ndarray) -> float:
    """Geometric over arithmetic mean of the power spectrum, over all frames: 1 for white noise, near 0 for a tone."""
    samples = np.pad(samples, 64)  # a click is shorter than a frame
    power = np.maximum(spectra(samples, 128, 32, 128) ** 2, 1e-10)
    return float(np.mean(np.exp(np.log(power).mean(axis=1)) / power.mean(axis=1)))


@pytest.mark.parametrize("event", world.SOUND_ATTRIBUTES["event"])
def test_number_of_bursts_is_the_count(event):
    rng = np.random.default_rng(0)
    for count in world.SOUND_ATTRIBUTES["count"]:
        for test in (True, False):
            samples = make_sound(event, count, test, rng)
            assert len(bursts(samples, 0.15)) == COUNTS[count]
            assert samples.dtype == np.float32 and np.abs(samples).max() <= 1.0
            assert len(samples) <= 3.5 * SAMPLE_RATE


def test_events_differ_in_length_and_tone():
    rng = np.random.default_rng(1)
    first = {}
    for event in world.SOUND_ATTRIBUTES["event"]:
        samples = make_sound(event, "one", False, rng)
        ((start, end),) = bursts(samples, 0.15)
        first[event] = samples[start : end + 1]
    flatness = {event: spectral_flatness(part) for event, part in first.items()}
    assert len(first["click"]) < 0.04 * SAMPLE_RATE < 0.1 * SAMPLE_RATE < len(first["beep"]) < len(first["siren"])
    assert flatness["click"] > 0.05 and flatness["noise"] > 10 * flatness["beep"]


def test_siren_sweeps_an_octave():
    rng = np.random.default_rng(2)
    samples = make_sound("siren", "one", True, rng)
    ((start, end),) = bursts(samples, 0.15)
    f0 = spectra(samples[start:end], 512, 128, 8192).argmax(axis=1)  # the strongest bin
    peak = int(np.argmax(f0))
    assert 0.3 * len(f0) < peak < 0.7 * len(f0)
    assert f0[peak] / max(f0[0], f0[-1]) > 1.5


@pytest.mark.parametrize("test", [True, False])
@pytest.mark.parametrize("tempo", world.MUSIC_ATTRIBUTES["tempo"])
def test_melodies_move_as_they_say(tempo, test):
    rng = np.random.default_rng(3)
    for direction in world.MUSIC_ATTRIBUTES["direction"]:
        for _ in range(4):
            samples = make_music(direction, tempo, test, rng)
            assert np.abs(samples).max() <= 1.0 and len(samples) <= 3.8 * SAMPLE_RATE
            notes = pitches(samples)
            steps = np.diff(notes)
            assert 5 <= len(notes) <= 7
            if direction == "rising":
                assert (steps > 0.5).all()
            elif direction == "falling":
                assert (steps < -0.5).all()
            elif direction == "repeating":
                assert np.abs(steps).max() < 0.3
            else:
                assert (np.abs(steps) > 6.5).all() and (np.sign(steps[1:]) == -np.sign(steps[:-1])).all()


def test_slow_melodies_are_slower_whatever_the_number_of_notes():
    rng = np.random.default_rng(4)
    per_note = {}
    for tempo in ("slow", "fast"):
        notes = [bursts(make_music("rising", tempo, False, rng), 0.01) for _ in range(10)]
        per_note[tempo] = [(part[-1][0] - part[0][0]) / (len(part) - 1) / SAMPLE_RATE for part in notes]
    assert min(per_note["slow"]) > 2 * max(per_note["fast"])


def test_test_keys_never_train():
    for of in (EVENT_KEYS, MUSIC_KEYS):
        train, test = sounds.keys(of, False), sounds.keys(of, True)
        assert not set(train) & set(test) and sorted(train + test) == list(of)
        assert len(test) >= 5


def test_same_seed_same_sound():
    first, second = (make_sound("noise", "two", False, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first, second)
    other = make_sound("noise", "two", False, np.random.default_rng(6))
    assert len(other) != len(first) or not np.array_equal(other, first)
