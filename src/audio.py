"""Audio in: any file becomes 16 kHz mono float32, window by window, or is refused for a reason that is named."""

import itertools
import logging
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import soxr
import torch
from transformers import WhisperFeatureExtractor

from src.audio_decoder import open_decoder
from src.configuration_DIFFA import SAMPLE_RATE, WINDOW_SECONDS
from src.decoder import AudioError, Decoder

MAX_MISSING_SHARE = 0.01  # of what a header promises; a file that lacks more was cut
MIN_WINDOW_SECONDS = 0.1  # a shorter remainder is no window of its own; encoders of MP3 pad by as much
MAX_VALUES = 8 * 192_000  # a second, over all channels, of an untrusted file: small ones can unpack to a lot
MIN_PEAK = 2.0**-16  # of full scale, -96 dB; below, every sample would be zero in 16 bits
MIN_RELATIVE_SWING = 1e-3  # around a constant, of its size, -60 dB; below, it is all there is
MIN_MIX = 0.01  # power of the channels' mean, by that of independent ones; below (-20 dB), they cancel each other
LOW_RATE = 8_000  # Hz, at which that is looked at: codecs leave differences higher up
GET_IT_WHOLE = "fetch it anew, or convert what is there to WAV"
logger = logging.getLogger("diffa")


@dataclass(frozen=True)
class AudioFacts:
    """What a whole file holds."""

    seconds: float  # that can be decoded
    missing_seconds: float  # that the header promises beyond those, or that are damaged
    silent_seconds: float = 0.0  # before the first sound
    warnings: tuple[str, ...] = ()  # what was done to make it usable
    ends_within_frame: bool = False  # it was cut, and nothing tells how much is missing


@dataclass(frozen=True)
class Window:
    """What the encoder hears at once."""

    waveform: np.ndarray  # float32 [n], 16 kHz
    start: float  # seconds from the recording's start
    is_last: bool  # nothing follows
    warnings: tuple[str, ...] = ()  # what was done to make it usable

    @property
    def end(self) -> float:
        return self.start + len(self.waveform) / SAMPLE_RATE


def read_audio(source: str | os.PathLike | bytes, max_seconds: float = WINDOW_SECONDS, name: str = "") -> np.ndarray:
    """Read a file, or the bytes of one, mix it down and resample it. What was odd about it is logged as a warning.

    Args:
        source: path, or the encoded file itself (benchmarks in Parquet carry audio so).
        max_seconds: what follows is cut off; the encoder hears one window.
        name: what to call `bytes` in messages.

    Returns:
        float32 [n] at 16 kHz, 1 <= n <= max_seconds * 16000.

    Raises:
        AudioError: missing, unreadable, empty, silent (or constant, or below -96 dB), or not finite; cut or damaged, so
            that more than 1 % of what would be heard is not there.
    """
    name = name_of(source, name)
    with open_decoder(source, name) as decoder:
        frames = int(max_seconds * decoder.rate)
        samples = decoder.read(frames)  # [n, channels]
        check_whole(decoder, name, len(samples), frames)
        waveform, warnings = mix_down(samples, decoder, name)
        silence = Level(waveform).silence
        waveform = resample(waveform, decoder.rate)[: int(max_seconds * SAMPLE_RATE)]
        if silence := silence or Level(waveform).silence:
            span = f" for its first {max_seconds:g} s, and no more is heard" if len(samples) == frames else ""
            raise AudioError(f"{name}: {silence}{span}")
    for warning in (*decoder.warnings, *warnings):
        logger.warning("%s: %s", name, warning)
    return waveform


def read_windows(source: str | os.PathLike | bytes, seconds: float, name: str = "") -> Iterator[Window]:
    """Windows of a file, or of the bytes of one, one at a time in memory; silent ones are left out.

    The first is what `read_audio` gives. `seconds` is a window's length, `name` what to call `bytes` in messages.
    Raises AudioError as `read_audio` does, possibly after some windows.
    """
    name, whole = name_of(source, name), Level()
    position = damaged = num_windows = 0
    with open_decoder(source, name) as decoder:
        frames, remainder = int(seconds * decoder.rate), int(MIN_WINDOW_SECONDS * decoder.rate)
        ahead = np.zeros((0, decoder.channels), np.float32)  # read behind a window, to see if it is the last
        for number in itertools.count():
            samples = np.concatenate((ahead, decoder.read(frames + remainder - len(ahead))))  # [n, channels]
            samples, ahead = samples[:frames], samples[frames:]
            check_whole(decoder, name, len(samples), frames, position, damaged)
            position, damaged = position + len(samples), decoder.damaged
            waveform, warnings = mix_down(samples, decoder, name)
            whole.add(waveform)
            at_end = len(ahead) < remainder
            if not Level(waveform).silence:
                waveform = resample(waveform, decoder.rate)[: int(seconds * SAMPLE_RATE)]
                if not Level(waveform).silence:
                    warnings = warnings if num_windows else (*decoder.warnings, *warnings)
                    is_last = at_end and not decoder.cut_off and not decoder.ends_within_frame
                    yield Window(waveform, number * seconds, is_last, warnings)
                    num_windows += 1
            if at_end:
                break
        heard = position + len(ahead)
        check_whole(decoder, name, heard, heard + decoder.cut_off + decoder.ends_within_frame, damaged_before=damaged)
    if not num_windows:
        raise AudioError(f"{name}: {whole.silence or 'is silent'}")


def first_window(
    source: str | os.PathLike | bytes, seconds: float, max_seconds: float, name: str = ""
) -> tuple[Window, float]:
    """The first window of an untrusted file that is not silent, and how many seconds the whole file lasts.

    Raises AudioError as `untrusted_windows` and `read_windows` do.
    """
    windows, length = untrusted_windows(source, seconds, max_seconds, name)
    with closing(windows):
        return next(windows), length


def untrusted_windows(
    source: str | os.PathLike | bytes, seconds: float, max_seconds: float, name: str = ""
) -> tuple[Iterator[Window], float]:
    """`read_windows` of an untrusted file, and how many seconds the whole of it lasts.

    Raises AudioError, before anything is decoded, for more than `max_seconds` or `MAX_VALUES`.
    """
    name = name_of(source, name)
    with open_decoder(source, name) as decoder:
        density = decoder.rate * decoder.channels
        if density > MAX_VALUES:
            raise AudioError(f"{name}: holds {density} values a second; at most {MAX_VALUES} are taken, mix it down")
        length = decoder.count_left(round(max_seconds * decoder.rate)) / decoder.rate
    if length > max_seconds:
        raise AudioError(f"{name}: is {length:.0f} s long; at most {max_seconds:g} s are taken, cut it")
    return read_windows(source, seconds, name), length


def inspect_audio(path: str | os.PathLike) -> AudioFacts:
    """Decode a whole file, block by block.

    Raises AudioError for whatever `read_audio` would refuse, but for a file that was cut or damaged: it says how much.
    """
    name, level = os.fspath(path), Level()
    num_frames, num_silent, warnings = 0, 0, ()
    with open_decoder(path, name) as decoder:
        for block in decoder.blocks():  # [n, channels]
            mono, more = mix_down(block, decoder, name)
            sounding = np.flatnonzero(np.abs(mono) >= MIN_PEAK)
            if num_silent == num_frames:
                num_silent += int(sounding[0]) if len(sounding) else len(mono)
            level.add(mono)
            num_frames, warnings = num_frames + len(mono), (*warnings, *more)
        if level.silence:
            raise AudioError(f"{name}: {level.silence}")
        missing = (decoder.damaged + decoder.cut_off) / decoder.rate
        warnings = tuple(dict.fromkeys((*decoder.warnings, *warnings)))
        silent, cut = num_silent / decoder.rate, decoder.ends_within_frame
        return AudioFacts(num_frames / decoder.rate, missing, silent, warnings, cut)


def name_of(source: str | os.PathLike | bytes, name: str) -> str:
    """What to call audio in messages."""
    return (name or "audio bytes") if isinstance(source, bytes) else os.fspath(source)


def check_whole(
    decoder: Decoder, name: str, heard: int, window: int, position: int = 0, damaged_before: int = 0
) -> None:
    """Raise AudioError where over 1 % of what would be heard is not there.

    `heard`: frames read from `position` on, of at most `window`. `damaged_before`: `decoder.damaged` at `position`.
    """
    lost = decoder.damaged - damaged_before + min(decoder.cut_off, window - heard)
    left = (position + heard) / decoder.rate
    if (heard or not position) and lost > MAX_MISSING_SHARE * min(window, heard + lost):
        whole = left + (decoder.damaged + decoder.cut_off) / decoder.rate
        kind = "damaged" if decoder.damaged > decoder.cut_off else "cut"
        raise AudioError(
            f"{name}: the file is {kind}: {left:.2f} s are left of the {whole:.2f} s that its header promises; "
            f"{GET_IT_WHOLE}"
        )
    if decoder.ends_within_frame and heard < window:
        raise AudioError(f"{name}: {cut_within_frame(left)}")


def cut_within_frame(seconds: float) -> str:
    """Why a file is refused that is cut after `seconds`."""
    return (
        f"the file is cut: it ends within a frame after {seconds:.2f} s, and nothing tells how much is missing; "
        f"{GET_IT_WHOLE}"
    )


def mix_down(samples: np.ndarray, decoder: Decoder, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """What a decoder read, [n, channels], as float32 [n]: the channels' mean, or the loudest where they cancel out.

    Returns warnings, too. Raises AudioError for what is not finite.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        if decoder.full_scale != 1:
            samples = samples / np.float32(decoder.full_scale)
        waveform = samples.mean(axis=1)
    if not np.isfinite(waveform).all():
        raise AudioError(f"{name}: holds NaN or infinite samples; export it anew")
    num_channels, step = samples.shape[1], max(1, decoder.rate // LOW_RATE)
    if num_channels == 1 or len(samples) < step:
        return waveform, ()
    low = samples[: len(samples) // step * step].reshape(-1, step, num_channels).mean(axis=1, dtype=np.float64)
    power, mixed = np.square(low).mean(axis=0), np.square(low.mean(axis=1)).mean()  # [channels], scalar
    if not power.any() or mixed * num_channels >= MIN_MIX * power.mean():
        return waveform, ()
    loudest = int(power.argmax())
    warning = f"its {num_channels} channels cancel each other out, so channel {loudest + 1} alone is heard"
    return np.ascontiguousarray(samples[:, loudest]), (warning,)


class Level:
    """The lowest and the highest of samples, and what they say of silence."""

    def __init__(self, waveform: Sequence[float] = ()) -> None:
        self.low, self.high = math.inf, -math.inf
        self.add(np.asarray(waveform))

    def add(self, waveform: np.ndarray) -> None:
        """Take in [n]."""
        if len(waveform):
            self.low, self.high = min(self.low, float(waveform.min())), max(self.high, float(waveform.max()))

    @property
    def silence(self) -> str:
        """Why there is nothing to hear; "" if there is something."""
        if self.low > self.high:
            return "holds no samples"
        peak, swing = max(-self.low, self.high), (self.high - self.low) / 2
        if peak == 0:
            return "is silent (every sample is zero)"
        if peak < MIN_PEAK:
            return f"is silent (its loudest sample is at {decibels(peak)} dB, and below {decibels(MIN_PEAK)} dB)"
        if swing < MIN_PEAK or swing < MIN_RELATIVE_SWING * peak:
            return f"is silent (its samples are a constant, {(self.low + self.high) / 2:.3g})"
        return ""


def decibels(peak: float) -> int:
    """Of full scale, 1."""
    return round(20 * math.log10(peak))


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
