"""Audio in: any file libsndfile reads (WAV, FLAC, MP3, OGG) becomes 16 kHz mono float32, window by window."""

import io
import math
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

import numpy as np
import soundfile
import soxr
import torch
from transformers import WhisperFeatureExtractor

from src.configuration_DIFFA import SAMPLE_RATE, WINDOW_SECONDS
from src.errors import UserError

MIN_RATE, MAX_RATE = 1_000, 768_000  # Hz; beyond, the header is damaged
BLOCK_FRAMES = 2**20  # read at a time when a whole file is inspected
# libsndfile's log of a WAV file: bytes that the header promises, bytes that are there
PROMISED_BYTES = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)
MAX_MISSING_SHARE = 0.01  # of what a header promises; a file that lacks more was cut
UNKNOWN_LENGTH = 0x7FF00000  # bytes; programs that write into a pipe promise more than this and mean "to the end"
MIN_WINDOW_SECONDS = 0.1  # a shorter remainder is no window of its own; encoders of MP3 pad by as much
MAX_VALUES = 8 * 192_000  # a second, over all channels, of an untrusted file: small ones can unpack to a lot


class AudioError(UserError):
    """Audio that cannot be used; the message names the file and what is wrong with it."""


@dataclass(frozen=True)
class AudioFacts:
    """What a whole file holds."""

    seconds: float  # that can be decoded
    missing_seconds: float  # that the header promises beyond those: the file was cut


@dataclass(frozen=True)
class Window:
    """What the encoder hears at once."""

    waveform: np.ndarray  # float32 [n], 16 kHz
    start: float  # seconds from the recording's start
    is_last: bool  # nothing follows

    @property
    def end(self) -> float:
        return self.start + len(self.waveform) / SAMPLE_RATE


def read_audio(source: str | os.PathLike | bytes, max_seconds: float = WINDOW_SECONDS, name: str = "") -> np.ndarray:
    """Read a file, or the bytes of one, mix it down and resample it.

    Args:
        source: path, or the encoded file itself (benchmarks in Parquet carry audio so).
        max_seconds: what follows is cut off; the encoder hears one window.
        name: what to call `bytes` in messages.

    Returns:
        float32 [n] at 16 kHz, 1 <= n <= max_seconds * 16000.

    Raises:
        AudioError: missing, unreadable, empty, silent, or not finite; a WAV file that was cut, where more than 1 % of
            what would be heard is not there any more.
    """
    name = (name or "audio bytes") if isinstance(source, bytes) else os.fspath(source)
    with open_sound(source, name) as sound:
        rate, window = sound.samplerate, int(max_seconds * sound.samplerate)
        check_not_cut(sound, name, window)
        samples = sound.read(frames=window, dtype="float32", always_2d=True)  # [n, channels]
    waveform = mix_down(samples)
    check_waveform(waveform, name)
    if rate != SAMPLE_RATE:
        waveform = resample(waveform, rate)
        check_waveform(waveform, name)
    return np.ascontiguousarray(waveform[: int(max_seconds * SAMPLE_RATE)], dtype=np.float32)


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
                waveform = resample(waveform, rate)
            if waveform.any():  # of a sample or two, resampling leaves nothing
                check_waveform(waveform, name)
                is_last = sound.frames - sound.tell() < MIN_WINDOW_SECONDS * rate
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
    """The first window of an untrusted file that is not silent, and how many seconds the whole file lasts.

    Raises AudioError as `read_windows` does, and, before anything is decoded, for more than `max_seconds` or
    `MAX_VALUES`.
    """
    name = (name or "audio bytes") if isinstance(source, bytes) else os.fspath(source)
    with open_sound(source, name) as sound:
        length, density = sound.frames / sound.samplerate, sound.samplerate * sound.channels
    if length > max_seconds:
        raise AudioError(f"{name}: is {length:.0f} s long; at most {max_seconds:g} s are taken, cut it")
    if density > MAX_VALUES:
        raise AudioError(f"{name}: holds {density} values a second; at most {MAX_VALUES} are taken, mix it down")
    with closing(read_windows(source, seconds, name)) as windows:
        return next(windows), length


def inspect_audio(path: str | os.PathLike) -> AudioFacts:
    """Decode a whole file, block by block.

    Raises AudioError for whatever `read_audio` would refuse, but for a file that was cut: it says what is missing.
    """
    name = os.fspath(path)
    frames, silent = 0, True
    with open_sound(path, name) as sound:
        promised, rate = max(sound.frames, promised_frames(sound)), sound.samplerate
        while len(block := sound.read(BLOCK_FRAMES, dtype="float32", always_2d=True)):  # [n, channels]
            mono = mix_down(block)
            if not np.isfinite(mono).all():
                raise AudioError(f"{name}: holds NaN or infinite samples")
            frames, silent = frames + len(block), silent and not mono.any()
    if frames == 0:
        raise AudioError(f"{name}: holds no samples")
    if silent:
        raise AudioError(f"{name}: is silent (every sample is zero)")
    return AudioFacts(frames / rate, max(0, promised - frames) / rate)


def check_not_cut(sound: soundfile.SoundFile, name: str, window: int | None = None) -> None:
    """Raise AudioError for a WAV file that was cut, where over 1 % of what would be heard is gone.

    `window`: how many frames would be heard at most; None for all.
    """
    promised, rate = promised_frames(sound), sound.samplerate
    if 0 < sound.frames < (1 - MAX_MISSING_SHARE) * min(promised, promised if window is None else window):
        raise AudioError(
            f"{name}: the file is cut: {sound.frames / rate:.2f} s are left of the {promised / rate:.2f} s that its "
            "header promises"
        )


def promised_frames(sound: soundfile.SoundFile) -> int:
    """How many frames the header of a WAV file promises, which may not be there; 0 where it does not tell.

    Other formats tell no reliable number (MP3: an estimate), or none that differs from what is there (Ogg).
    """
    found = PROMISED_BYTES.search(sound.extra_info)
    if not found or int(found[1]) >= UNKNOWN_LENGTH or int(found[2]) == 0:
        return 0
    return round(sound.frames * int(found[1]) / int(found[2]))


@contextmanager
def open_sound(source: str | os.PathLike | bytes, name: str) -> Iterator[soundfile.SoundFile]:
    """Open a file, or the bytes of one; what goes wrong then, or while reading, becomes an AudioError."""
    if not isinstance(source, bytes):
        check_file(source)
    try:
        with soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else os.fspath(source)) as sound:
            if not MIN_RATE <= sound.samplerate <= MAX_RATE:
                raise AudioError(f"{name}: its header is damaged, it says {sound.samplerate} samples a second")
            yield sound
    except AudioError:
        raise
    except (soundfile.LibsndfileError, RuntimeError, OSError, TypeError, ValueError, MemoryError) as error:
        raise AudioError(f"{name}: not readable as audio ({error or type(error).__name__})") from None


def check_file(path: str | os.PathLike) -> None:
    """Raise AudioError unless there is a file with something in it. Cheap: nothing is read."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: names that no file can have
        status = None
    if status is None or not stat.S_ISREG(status.st_mode):
        raise AudioError(f"{os.fspath(path)}: no such audio file")
    if status.st_size == 0:
        raise AudioError(f"{os.fspath(path)}: the file is empty (0 bytes)")


def mix_down(samples: np.ndarray) -> np.ndarray:
    """float32 [n, channels] to [n]; what is not finite stays so, for the caller to find."""
    with np.errstate(invalid="ignore", over="ignore"):
        return samples.mean(axis=1)


def resample(waveform: np.ndarray, rate: int) -> np.ndarray:
    """float32 [n] at `rate` Hz to 16 kHz by soxr's HQ, as librosa does: ceil(n * 16000 / rate) samples, zeros last."""
    resampled = soxr.resample(waveform, rate, SAMPLE_RATE, quality="HQ")
    length = math.ceil(len(waveform) * (SAMPLE_RATE / rate))
    return np.pad(resampled[:length], (0, max(0, length - len(resampled))))


def check_waveform(waveform: np.ndarray, name: str = "waveform") -> None:
    """Raise AudioError unless `waveform` is one-dimensional, not empty, finite and not silent."""
    if waveform.ndim != 1:
        raise AudioError(f"{name}: expected mono samples [n], found shape {waveform.shape}")
    if len(waveform) == 0:
        raise AudioError(f"{name}: holds no samples")
    if not np.isfinite(waveform).all():
        raise AudioError(f"{name}: holds NaN or infinite samples")
    if not waveform.any():
        raise AudioError(f"{name}: is silent (every sample is zero)")


def window_seconds(feature_extractor: WhisperFeatureExtractor) -> float:
    """How much audio the encoder hears at once: 30 s for public checkpoints."""
    return feature_extractor.n_samples / SAMPLE_RATE


def log_mel(
    feature_extractor: WhisperFeatureExtractor, waveforms: Sequence[np.ndarray]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Whisper's log-mel features of whole windows.

    Args:
        feature_extractor: the checkpoint's own; it knows the window and the number of mel bins.
        waveforms: float32 [n] at 16 kHz each; cut at the window's end.

    Returns:
        `input_features` float32 [B, n_mels, F] and `feature_attention_mask` int [B, F], 1 where there is sound.

    Raises AudioError for a waveform that `check_waveform` refuses.
    """
    for waveform in waveforms:
        check_waveform(np.asarray(waveform))
    features = feature_extractor(
        list(waveforms),
        sampling_rate=SAMPLE_RATE,
        padding="max_length",
        truncation=True,
        return_attention_mask=True,
        return_tensors="pt",
    )
    return features.input_features, features.attention_mask
