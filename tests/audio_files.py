"""Sound in files of many formats, made as the tests need them."""

import io

import av
import numpy as np
import soundfile

WITH_SOUNDFILE = {  # libsndfile's format and subtype
    "wav": ("WAV", "PCM_16"), "float": ("WAV", "FLOAT"), "aiff": ("AIFF", "PCM_16"), "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"), "w64": ("W64", "PCM_16"), "rf64": ("RF64", "PCM_16"), "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS"), "mp3": ("MP3", "MPEG_LAYER_III"), "gsm": ("WAV", "GSM610"),
    "adpcm": ("WAV", "MS_ADPCM"), "ima": ("WAV", "IMA_ADPCM"), "nms": ("WAV", "NMS_ADPCM_16"), "svx": ("SVX", "PCM_16"),
}  # fmt: skip
WITH_AV = {  # FFmpeg's muxer and encoder
    "webm": ("webm", "libopus"), "m4a": ("ipod", "aac"), "mp4": ("mp4", "aac"), "aac": ("adts", "aac"),
    "amr": ("amr", "libopencore_amrnb"), "3gp": ("3gp", "libopencore_amrnb"), "wma": ("asf", "wmav2"),
    "live": ("webm", "libopus"), "fragments": ("mp4", "aac"), "ac3": ("ac3", "ac3"), "eac3": ("eac3", "eac3"),
    "mp2": ("mp2", "mp2"), "ts": ("mpegts", "aac"), "ps": ("mpeg", "mp2"), "flv": ("flv", "aac"), "rm": ("rm", "ac3"),
    "voc": ("voc", "pcm_u8"), "alac": ("ipod", "alac"), "alac caf": ("caf", "alac"), "tta": ("tta", "tta"),
    "wv": ("wv", "wavpack"), "mka": ("matroska", "aac"),
}  # fmt: skip
RATES = {  # Hz, that codecs ask for
    **dict.fromkeys(("webm", "live", "opus", "ac3", "eac3", "rm"), 48_000),
    **dict.fromkeys(("flv", "ps"), 44_100), **dict.fromkeys(("amr", "3gp", "gsm", "nms"), 8_000),
}  # fmt: skip
OPTIONS = {"live": {"live": "1"}, "fragments": {"movflags": "empty_moov+frag_every_frame"}}  # of the muxer


def encode(samples: np.ndarray, rate: int, kind: str, **options: str) -> bytes:
    """A file of a kind, of float samples [n] or [n, channels]. `options`: of FFmpeg's muxer."""
    samples = np.asarray(samples, dtype=np.float32).reshape(len(samples), -1)
    file = io.BytesIO()
    if kind in WITH_SOUNDFILE:
        format_, subtype = WITH_SOUNDFILE[kind]
        soundfile.write(file, samples, rate, format=format_, subtype=subtype)
        return file.getvalue()
    muxer, encoder = WITH_AV[kind]
    options = OPTIONS.get(kind, {}) | options
    layout = "mono" if samples.shape[1] == 1 else "stereo"
    with av.open(file, "w", format=muxer, options=options) as container:
        stream = container.add_stream(encoder, rate=rate, layout=layout)
        stream.bit_rate = 12_200 if "amr" in encoder else 64_000
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        resampler = av.AudioResampler(format=stream.format.name, layout=layout, rate=rate)
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return file.getvalue()


def sweep(seconds: float, rate: int) -> np.ndarray:
    """float32 [n]: a tone that rises and falls, in a little noise; nothing in it repeats."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).standard_normal(len(time))
    return (0.3 * np.sin(2 * np.pi * (200 + 60 * np.sin(4.4 * time)) * time) + 0.02 * noise).astype(np.float32)


def sweep_file(kind: str, seconds: float = 3.0) -> bytes:
    """A sweep in a file of a kind, at 16 kHz or at what the codec asks for."""
    rate = RATES.get(kind, 16_000)
    return encode(sweep(seconds, rate), rate, kind)


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)
