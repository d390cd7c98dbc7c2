"""Audio of any length, one window of the encoder after another."""

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import librosa
import numpy as np

from src.audio import AudioError, check_not_cut, check_waveform, mix_down, open_sound
from src.configuration_DIFFA import SAMPLE_RATE

REMAINDER_SECONDS = 0.1  # a shorter rest is no window of its own; encoders of MP3 pad by as much
MOST_VALUES = 8 * 192_000  # a second, over all channels, of a stranger's sound: small files can unpack to a lot


@dataclass(frozen=True)
class Window:
    """What the encoder hears at once."""

    waveform: np.ndarray  # float32 [n], 16 kHz
    start: float  # seconds from the recording's start
    is_last: bool  # nothing follows

    @property
    def end(self) -> float:
        return self.start + len(self.waveform) / SAMPLE_RATE


def read_windows(source: str | os.PathLike | bytes, seconds: float, name: str = "") -> Iterator[Window]:
    """Windows of a file, or of the bytes of one, one at a time in memory; silent ones are left out.

    The first is what `read_audio` gives. `seconds` is a window's length, `name` what to call `bytes` in messages.
    Raises AudioError as `read_audio` does, possibly after some windows.
    """
    name = (name or "audio bytes") if isinstance(source, bytes) else os.fspath(source)
    length, start, heard = int(seconds * SAMPLE_RATE), 0.0, False
    with open_sound(source, name) as sound:
        check_not_cut(sound, name)
        rate = sound.samplerate
        while len(samples := sound.read(int(seconds * rate), dtype="float32", always_2d=True)):  # [n, channels]
            waveform = mix_down(samples)
            if rate != SAMPLE_RATE and waveform.any():
                check_waveform(waveform, name)
                waveform = librosa.resample(waveform, orig_sr=rate, target_sr=SAMPLE_RATE)
            if waveform.any():  # of a sample or two, resampling leaves nothing
                check_waveform(waveform, name)
                is_last = sound.frames - sound.tell() < REMAINDER_SECONDS * rate
                heard = True
                yield Window(np.ascontiguousarray(waveform[:length], dtype=np.float32), start, is_last)
                if is_last:
                    return
            start += seconds
    if not heard:
        raise AudioError(f"{name}: " + ("is silent (every sample is zero)" if start else "holds no samples"))


def first_window(
    source: str | os.PathLike | bytes, seconds: float, max_seconds: float, name: str = ""
) -> tuple[Window, float]:
    """The first window that is not silent of sound that strangers sent, and how many seconds the whole takes.

    Raises AudioError as `read_windows` does, and, before anything is decoded, for more than `max_seconds` or
    `MOST_VALUES`.
    """
    name = (name or "audio bytes") if isinstance(source, bytes) else os.fspath(source)
    with open_sound(source, name) as sound:
        length, density = sound.frames / sound.samplerate, sound.samplerate * sound.channels
    if length > max_seconds:
        raise AudioError(f"{name}: is {length:.0f} s long; at most {max_seconds:g} s are taken, cut it")
    if density > MOST_VALUES:
        raise AudioError(f"{name}: holds {density} values a second; at most {MOST_VALUES} are taken, mix it down")
    with closing(read_windows(source, seconds, name)) as windows:
        return next(windows), length
