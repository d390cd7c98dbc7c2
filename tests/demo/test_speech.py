"""The miniature's speech: words with their times, and attributes that are facts of the sound."""

import itertools
from pathlib import Path

import espeakng_loader
import numpy as np
import pytest

from demo import speech
from demo.speech import PITCH_HZ, SPEED_WPM, TEST_VOICES, TRAIN_VOICES, WINDOW, random_utterance, record, speak
from src.configuration_DIFFA import SAMPLE_RATE

SENTENCE = "the red dog finds two books"
OPTIONS = "what is red a tomato b rose c honey d grass"


def median_f0(samples: np.ndarray) -> float:
    """Hz, by autocorrelation over the loud part."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, 1024)[::256]
    power = (frames**2).mean(axis=1)
    frames = frames[power > 0.06 * power.max()] * np.hanning(1024)
    correlation = np.fft.irfft(np.abs(np.fft.rfft(frames, 2048)) ** 2)[:, :512]
    window = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(1024), 2048)) ** 2)[:512]
    correlation = correlation / correlation[:, :1] / (window / window[0])
    shortest, longest = SAMPLE_RATE // 400, SAMPLE_RATE // 60
    found = []
    for row in correlation[:, : longest + 1]:
        peaks = [lag for lag in range(shortest, longest) if row[lag - 1] < row[lag] >= row[lag + 1]]
        best = max((row[lag] for lag in peaks), default=0.0)
        found += [SAMPLE_RATE / lag for lag in peaks if row[lag] > 0.9 * best][:1]  # the shortest: no octave below
    return float(np.median(found))


def test_every_voice_exists():
    """espeak takes an unknown speaker for its default one without a word, so their files are looked for."""
    known = {file.name for file in (Path(espeakng_loader.get_data_path()) / "voices" / "!v").iterdir()}
    assert set(speech.SPEAKERS) <= known
    for accent in speech.ACCENTS:
        speech._espeak().set_voice(accent)
    with pytest.raises(ValueError, match="no voice 'en-moon'"):
        speech._espeak().set_voice("en-moon")


def test_test_speakers_never_train():
    train = {voice.speaker.name for voice in TRAIN_VOICES}
    test = {voice.speaker.name for voice in TEST_VOICES}
    assert not train & test
    assert len(TEST_VOICES) == len(set(TEST_VOICES)) == 12
    for gender in ("male", "female"):
        assert sum(voice.speaker.gender == gender for voice in TEST_VOICES) == 6
        assert len({voice.speaker for voice in TRAIN_VOICES if voice.speaker.gender == gender}) >= 10


def test_random_voices_keep_gender_and_split():
    rng = np.random.default_rng(0)
    for test, voices in ((True, TEST_VOICES), (False, TRAIN_VOICES)):
        for gender in ("male", "female"):
            drawn = [speech.random_voice(rng, gender, test) for _ in range(50)]
            assert {voice.speaker.gender for voice in drawn} == {gender}
            assert set(drawn) <= set(voices)


@pytest.mark.parametrize("speed", ["slow", "fast"])
def test_words_come_in_order_inside_the_clip(speed):
    utterance = speak(SENTENCE, TEST_VOICES[0], speed, "low", np.random.default_rng(1))
    assert [word.text for word in utterance.words] == SENTENCE.split()
    edges = [edge for word in utterance.words for edge in (word.start, word.end)]
    assert edges == sorted(edges) and all(word.start < word.end for word in utterance.words)
    low, high = speech.LEAD_SECONDS
    assert low <= edges[0] <= high + 0.02
    assert edges[-1] == pytest.approx(len(utterance.samples) / SAMPLE_RATE, abs=0.02)
    assert utterance.samples.dtype == np.float32 and np.abs(utterance.samples).max() <= 1


def test_word_times_match_the_sound():
    """The stops of "two" and the long vowel of "books" stand where they are said: quiet before, loud inside."""
    utterance = speak("two apples", TEST_VOICES[6], "slow", "low", np.random.default_rng(2))
    first, second = utterance.words
    loudness = np.abs(utterance.samples)
    lead = loudness[: int((first.start - 0.01) * SAMPLE_RATE)]
    said = loudness[int(first.start * SAMPLE_RATE) : int(first.end * SAMPLE_RATE)]
    assert lead.max() < 0.02 * said.max()
    vowel = loudness[int((second.start + 0.02) * SAMPLE_RATE) : int((second.start + 0.12) * SAMPLE_RATE)]
    assert vowel.max() > 0.3 * loudness.max()


def test_words_run_together_share_their_time():
    words = speech._words("a cat in the river", {0: 0.0, 1: 0.1, 2: 0.5, 4: 0.8}, lead=0.1, throat=1.0, duration=1.5)
    assert [word.text for word in words] == ["a", "cat", "in", "the", "river"]
    assert words[2].start == pytest.approx(0.6) and words[3].end == pytest.approx(0.9)
    assert words[2].end == words[3].start == pytest.approx(0.6 + 0.3 * 2 / 5)
    assert words[4].end == 1.5


def test_option_letters_are_said_by_name():
    assert speech._pronounced(OPTIONS) == "what is red ay tomato bee rose see honey dee grass"
    assert speech._pronounced("a red cat in the garden") == "a red cat in the garden"


def test_pitch_lies_in_the_band_of_gender_and_pitch():
    """Speakers hit each band, and the bands are apart, so gender and pitch can be told."""
    bands = sorted(PITCH_HZ.values())
    assert all(below[1] < above[0] for below, above in itertools.pairwise(bands))
    rng = np.random.default_rng(3)
    for speaker in {*list(speech.SPEAKERS.values())[::6], *(voice.speaker for voice in TEST_VOICES[::2])}:
        for pitch in ("low", "high"):
            low, high = PITCH_HZ[speaker.gender, pitch]
            found = median_f0(speak(SENTENCE, speech.Voice(speaker, "en-us"), "slow", pitch, rng).samples)
            assert 0.85 * low < found < 1.15 * high, (speaker.name, pitch, found)


def test_throat_moves_formants_but_not_pitch_or_speed():
    voice = TEST_VOICES[6]
    plain = speak(SENTENCE, voice, "fast", "low", np.random.default_rng(4), throat=1.0)
    stretched = speak(SENTENCE, voice, "fast", "low", np.random.default_rng(4), throat=1.2)
    assert median_f0(stretched.samples) == pytest.approx(median_f0(plain.samples), rel=0.06)
    assert len(stretched.samples) == pytest.approx(len(plain.samples), rel=0.06)

    def centroid(samples: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(samples)) ** 2
        return float((np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE) * power).sum() / power.sum())

    assert centroid(stretched.samples) > 1.05 * centroid(plain.samples)


def test_slow_is_slower_than_fast_for_every_test_voice():
    rng = np.random.default_rng(5)
    assert SPEED_WPM["slow"][1] < SPEED_WPM["fast"][0]
    for voice in TEST_VOICES:
        slow, fast = (speak(SENTENCE, voice, speed, "low", rng) for speed in ("slow", "fast"))
        assert slow.words[-1].end - slow.words[0].start > 1.3 * (fast.words[-1].end - fast.words[0].start)


def test_too_long_a_text_is_refused():
    with pytest.raises(ValueError, match=f"longer than {WINDOW} s; shorten it"):
        speak(" ".join([SENTENCE] * 3), TEST_VOICES[0], "slow", "low", np.random.default_rng(6))
    longest = random_utterance(OPTIONS, "female", "fast", "high", test=False, rng=np.random.default_rng(6))
    assert len(longest.samples) < WINDOW * SAMPLE_RATE


def test_recording_changes_level_and_adds_little_noise():
    clean = np.sin(np.linspace(0, 2000, SAMPLE_RATE)).astype(np.float32)
    recorded = record(clean, np.random.default_rng(7))
    peak = np.abs(recorded).max()
    assert speech.LEVEL[0] <= peak <= speech.LEVEL[1] and recorded.dtype == np.float32
    scale = float(recorded @ clean / (clean @ clean))
    noise_db = 20 * np.log10(np.std(recorded - scale * clean) / scale)
    assert -speech.NOISE_DB[1] - 1 < noise_db < -speech.NOISE_DB[0] + 1
