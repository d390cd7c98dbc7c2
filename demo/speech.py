"""Speech made on the spot by espeak-ng: many speakers and accents, slow or fast, low or high, with each word's time.

espeak-ng comes as a Python wheel (`espeakng_loader`) and is called in-process. Its library keeps global state, so one
process holds one instance, and the flutter of a voice goes on from clip to clip: the same calls in the same order in
a fresh process give the same samples, a different order does not.
"""

import ctypes
import re
from dataclasses import dataclass
from functools import cache

import espeakng_loader
import numpy as np
import soxr

from src.configuration_DIFFA import SAMPLE_RATE

WINDOW = 4.0  # seconds; the tiny Whisper's window, which every clip fits
ACCENTS = (
    "en-us", "en-us-nyc", "en", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029",
)  # fmt: skip

# Median fundamental frequency in Hz by gender and pitch, and words per minute (espeak's measure) by speed. The bands
# are apart, so that an attribute is a fact of the sound and not an opinion.
PITCH_HZ = {
    ("male", "low"): (75.0, 95.0),
    ("male", "high"): (125.0, 148.0),
    ("female", "low"): (165.0, 190.0),
    ("female", "high"): (240.0, 280.0),
}
SPEED_WPM = {"slow": (108.0, 122.0), "fast": (185.0, 210.0)}
RANGE = (25, 65)  # espeak's intonation range, of 100
THROAT = (0.93, 1.07)  # formants of training clips are stretched by up to this: one speaker becomes many
LEAD_SECONDS = (0.05, 0.25)  # silence before the first word
LEVEL = (0.1, 0.9)  # peak amplitude
NOISE_DB = (30.0, 60.0)  # white noise below the peak


@dataclass(frozen=True)
class Speaker:
    """An espeak voice variant.

    `f0` is what was measured on it, in Hz, at the espeak pitches CALIBRATION; `length` how long it takes over a
    sentence beside variant m3, at the same words per minute.
    """

    name: str
    gender: str
    f0: tuple[int, int, int, int]
    length: float = 1.0


@dataclass(frozen=True)
class Voice:
    """A speaker with an accent."""

    speaker: Speaker
    accent: str

    @property
    def name(self) -> str:
        return f"{self.accent}+{self.speaker.name}"


@dataclass(frozen=True)
class Word:
    """A word of an utterance; times in seconds from the clip's start."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Utterance:
    """A clip, float32 [n] at SAMPLE_RATE within [-1, 1], and its words in order."""

    samples: np.ndarray
    words: tuple[Word, ...]


CALIBRATION = (0, 25, 60, 99)  # espeak pitches at which Speaker.f0 was measured
# (espeak variant, median f0 in Hz at the pitches CALIBRATION, length): measured, see tests/demo/test_speech.py.
_FEMALE = (
    ("f1", (110, 139, 197, 303), 1.07), ("f2", (125, 152, 211, 320), 1.07), ("f3", (140, 167, 225, 332), 1.04),
    ("f4", (109, 138, 196, 306), 1.09), ("f5", (126, 157, 224, 347), 1.07), ("Alicia", (160, 201, 276, 417), 1.24),
    ("Andrea", (147, 185, 269, 427), 0.85), ("Annie", (183, 203, 251, 345), 1.02),
    ("anika", (171, 212, 295, 453), 0.85), ("aunty", (77, 117, 203, 364), 1.07),
    ("belinda", (131, 172, 256, 412), 1.02), ("grandma", (142, 163, 212, 303), 1.02),
    ("linda", (131, 171, 255, 412), 1.07), ("shelby", (129, 148, 188, 262), 1.02),
    ("steph", (104, 137, 206, 335), 1.02),
)  # fmt: skip
_MALE = (
    ("m1", (63, 74, 102, 156), 1.03), ("m2", (62, 76, 111, 176), 1.04), ("m3", (69, 82, 112, 171), 1.0),
    ("m4", (66, 75, 101, 151), 1.11), ("m5", (67, 80, 111, 170), 1.03), ("m6", (64, 78, 110, 170), 1.03),
    ("m7", (74, 86, 113, 168), 1.02), ("m8", (59, 68, 92, 139), 1.03), ("Alex", (56, 76, 118, 196), 1.02),
    ("Andy", (59, 73, 105, 168), 1.1), ("Denis", (63, 76, 107, 166), 1.03), ("Diogo", (66, 81, 113, 174), 1.02),
    ("Gene", (60, 73, 104, 162), 1.03), ("Henrique", (76, 88, 115, 165), 1.02), ("Hugo", (75, 88, 115, 162), 1.02),
    ("Jacky", (80, 92, 126, 193), 1.03), ("Lee", (58, 72, 105, 168), 1.07), ("Mario", (82, 92, 117, 170), 1.02),
    ("Michael", (80, 91, 117, 171), 1.02), ("Mike", (64, 72, 96, 144), 1.03), ("Reed", (75, 91, 124, 187), 1.01),
    ("Tweaky", (67, 80, 111, 172), 1.02), ("adam", (64, 78, 109, 168), 1.01), ("antonio", (73, 88, 119, 179), 0.86),
    ("benjamin", (64, 79, 109, 168), 1.01), ("boris", (70, 83, 111, 168), 1.03), ("croak", (70, 84, 116, 177), 1.03),
    ("ed", (86, 100, 134, 200), 1.02), ("edward", (64, 79, 109, 168), 1.03), ("edward2", (64, 79, 109, 168), 1.01),
    ("grandpa", (73, 88, 115, 172), 1.03), ("gustave", (79, 90, 119, 176), 1.02), ("ian", (56, 66, 90, 139), 1.03),
    ("iven", (68, 79, 108, 162), 1.02), ("iven4", (67, 79, 108, 162), 1.02), ("john", (67, 80, 112, 171), 1.02),
    ("klatt", (69, 80, 110, 167), 1.03), ("klatt2", (69, 80, 110, 167), 1.03), ("klatt3", (67, 79, 110, 167), 1.03),
    ("klatt4", (65, 79, 109, 168), 1.03), ("klatt5", (64, 79, 109, 168), 1.03), ("klatt6", (64, 78, 109, 168), 1.01),
    ("marcelo", (76, 82, 106, 149), 1.03), ("max", (69, 81, 111, 168), 1.03), ("michel", (67, 82, 113, 174), 1.02),
    ("miguel", (74, 88, 119, 177), 1.02), ("mike2", (59, 72, 96, 144), 1.01), ("norbert", (66, 80, 112, 172), 1.02),
    ("pablo", (76, 92, 121, 182), 1.04), ("paul", (60, 68, 93, 143), 1.03), ("pedro", (66, 79, 111, 171), 0.86),
    ("quincy", (65, 74, 95, 143), 1.03), ("robert", (77, 85, 107, 154), 1.03), ("sandro", (63, 76, 107, 163), 1.03),
    ("travis", (75, 83, 112, 173), 1.03), ("victor", (61, 73, 104, 162), 1.03),
)  # fmt: skip
SPEAKERS = {
    name: Speaker(name, gender, f0, length)
    for gender, rows in (("female", _FEMALE), ("male", _MALE))
    for name, f0, length in rows
}
TEST_VOICES = tuple(
    Voice(SPEAKERS[name], accent)
    for accent, name in (
        ("en-us", "f2"), ("en", "f2"), ("en-gb-x-rp", "f4"), ("en-us-nyc", "linda"), ("en-us", "Annie"),
        ("en-029", "steph"), ("en-us", "m3"), ("en-gb-scotland", "m7"), ("en-gb-x-gbclan", "Mario"),
        ("en-us-nyc", "ed"), ("en", "pablo"), ("en-gb-x-gbcwmd", "Alex"),
    )
)  # fmt: skip
_TEST_SPEAKERS = {voice.speaker for voice in TEST_VOICES}
TRAIN_VOICES = tuple(
    Voice(speaker, accent) for speaker in SPEAKERS.values() if speaker not in _TEST_SPEAKERS for accent in ACCENTS
)


def random_voice(rng: np.random.Generator, gender: str, test: bool) -> Voice:
    """A voice of that gender, from the test voices or from the training voices."""
    voices = [voice for voice in (TEST_VOICES if test else TRAIN_VOICES) if voice.speaker.gender == gender]
    return voices[rng.integers(len(voices))]


def speak(text: str, voice: Voice, speed: str, pitch: str, rng: np.random.Generator, throat: float = 1.0) -> Utterance:
    """Say a text of lower-case words.

    `speed` (slow, fast) and `pitch` (low, high, for the voice's gender) are bands in which `rng` draws; it also draws
    the liveliness of the intonation, the silence before the first word, and espeak's own breath noise. `throat`
    stretches the formants by that factor and leaves pitch and speed alone. Raises ValueError if the text is too long
    for WINDOW.
    """
    low, high = PITCH_HZ[voice.speaker.gender, pitch]
    reach = np.array(voice.speaker.f0) * throat
    f0 = rng.uniform(max(low, reach[0]), min(high, reach[-1]))
    espeak = _espeak()
    espeak.set_voice(voice.name)
    espeak.set_parameters(
        rate=round(rng.uniform(*SPEED_WPM[speed]) * voice.speaker.length / throat),
        pitch=round(float(np.interp(np.log(f0), np.log(reach), CALIBRATION))),
        range_=int(rng.integers(*RANGE)),
    )
    samples, starts = espeak.synthesize(_pronounced(text), seed=int(rng.integers(2**31)))
    samples = soxr.resample(samples, espeak.sample_rate * throat, SAMPLE_RATE, quality="MQ")
    samples = np.trim_zeros(samples, "b")
    lead = rng.uniform(*LEAD_SECONDS)
    samples = np.concatenate([np.zeros(round(lead * SAMPLE_RATE), np.float32), samples])
    if len(samples) > WINDOW * SAMPLE_RATE:
        raise ValueError(f"{text!r} takes {len(samples) / SAMPLE_RATE:.2f} s, longer than {WINDOW} s; shorten it")
    return Utterance(samples, _words(text, starts, lead, throat, len(samples) / SAMPLE_RATE))


def random_utterance(text: str, gender: str, speed: str, pitch: str, test: bool, rng: np.random.Generator) -> Utterance:
    """Say a text with a voice drawn from the test or the training voices; only training voices vary in throat."""
    throat = 1.0 if test else rng.uniform(*THROAT)
    return speak(text, random_voice(rng, gender, test), speed, pitch, rng, throat)


def record(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The clip as a cheap microphone hears it: another level and a little white noise; float32 [n], never clipped."""
    peak = rng.uniform(*LEVEL)
    noise = 10 ** (-rng.uniform(*NOISE_DB) / 20) * rng.standard_normal(len(samples), dtype=np.float32)
    mix = samples / max(np.abs(samples).max(), 1e-6) + noise
    return (peak / max(np.abs(mix).max(), 1e-6) * mix).astype(np.float32)


_OPTION_LETTERS = re.compile(r"\ba (\w+) b (\w+) c (\w+) d (?=\w+$)")


def _pronounced(text: str) -> str:
    """The text as espeak must read it: the letters of spoken options by name, or "a" would be the article."""
    return _OPTION_LETTERS.sub(r"ay \1 bee \2 see \3 dee ", text)


def _words(text: str, starts: dict[int, float], lead: float, throat: float, duration: float) -> tuple[Word, ...]:
    """Give every word its time. `starts` has seconds by word index; espeak runs some short words together
    ("in the"), whose time is then shared out by length."""
    texts = text.split()
    known = sorted(starts)
    words = []
    for first, after in zip(known, [*known[1:], len(texts)], strict=True):
        start = lead + starts[first] / throat
        end = lead + starts[after] / throat if after < len(texts) else duration
        lengths = [len(word) for word in texts[first:after]]
        edges = start + (end - start) * np.cumsum([0, *lengths]) / sum(lengths)
        words += [Word(texts[first + i], float(edges[i]), float(edges[i + 1])) for i in range(len(lengths))]
    return tuple(words)


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # in characters, from 1
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # milliseconds
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_SYNTH_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER
_LIST_TERMINATED, _WORD = 0, 1  # espeak_EVENT_TYPE
_SYNCHRONOUS, _UTF8, _BY_CHARACTER = 2, 1, 1


class _Espeak:
    """The espeak-ng library of this process."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        self.sample_rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, 0)
        if self.sample_rate <= 0:
            raise RuntimeError(f"espeak-ng did not start with the data in {data.decode()}; reinstall espeakng-loader")
        self._chunks: list[np.ndarray] = []
        self._word_events: list[tuple[int, int]] = []
        self._callback = _SYNTH_CALLBACK(self._receive)  # kept here, or Python would free it while espeak holds it
        self._library.espeak_SetSynthCallback(self._callback)

    def set_voice(self, name: str) -> None:
        if self._library.espeak_SetVoiceByName(name.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {name!r}")

    def set_parameters(self, rate: int, pitch: int, range_: int) -> None:
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, range_)):
            self._library.espeak_SetParameter(parameter, value, 0)

    def synthesize(self, text: str, seed: int) -> tuple[np.ndarray, dict[int, float]]:
        """Samples, float32 [n] at `sample_rate`, and the start in seconds of each word espeak reported, by index."""
        self._chunks.clear()
        self._word_events.clear()
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        encoded = text.encode()
        self._library.espeak_Synth(encoded, len(encoded) + 1, 0, _BY_CHARACTER, 0, _UTF8, None, None)
        if not self._chunks:
            raise RuntimeError(f"espeak-ng made no sound of {text!r}")
        starts = {text[: position - 1].count(" "): milliseconds / 1000 for position, milliseconds in self._word_events}
        return np.concatenate(self._chunks).astype(np.float32) / 32768, starts

    def _receive(self, samples, count: int, events) -> int:
        if count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        for event in events:
            if event.type == _LIST_TERMINATED:
                break
            if event.type == _WORD:
                self._word_events.append((event.text_position, event.audio_position))
        return 0


@cache
def _espeak() -> _Espeak:
    return _Espeak()
