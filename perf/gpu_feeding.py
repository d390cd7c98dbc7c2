"""Part `feeding` of perf/gpu.py: clips a second that this machine reads and turns into log-mel, and that its GPU hears.

What training and decoding take is in their own parts; the report sets it beside this.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from transformers import WhisperConfig

from perf import measure
from perf.gpu_model import feature_extractor, random_model, shape_of
from perf.gpu_record import Record
from src.audio import log_mel, read_audio
from src.configuration_DIFFA import SAMPLE_RATE

KINDS = {"wav, 16 kHz": ("wav", SAMPLE_RATE), "flac, 44.1 kHz": ("flac", 44_100)}
CLIPS = {True: 8, False: 32}  # by dry run
CHUNK = 4  # clips a task


def measure_all(record: Record) -> None:
    shape, cores = shape_of(record.dry_run), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    cores = min(cores, 2 if record.dry_run else 16)
    torch.set_num_threads(1)
    count, extractor = CLIPS[record.dry_run], feature_extractor(shape, WhisperConfig(**shape.whisper))
    with tempfile.TemporaryDirectory(prefix="gpu_feeding_") as name:
        files = {kind: write_clips(Path(name), *KINDS[kind], count, shape.window_seconds) for kind in KINDS}
        for kind, paths in files.items():
            record.row(f"read {kind}, 1 thread", lambda paths=paths: rate(lambda: read_all(paths), len(paths)))
        waveforms = read_all(files["wav, 16 kHz"])
        record.row("log-mel, 1 thread", lambda: rate(lambda: mel_all(extractor, waveforms), count))
        paths = files["flac, 44.1 kHz"]
        record.row("both, 1 thread", lambda: rate(lambda: prepare(extractor, paths), count))
        threads = partial(ThreadPoolExecutor, cores)
        record.row(f"both, {cores} threads", lambda: spread(threads, extractor, paths, cores))
        processes = partial(ProcessPoolExecutor, cores, mp_context=get_context("spawn"), initializer=one_thread)
        record.row(f"both, {cores} processes", lambda: spread(processes, extractor, paths, cores))
    if record.device.type == "cuda":
        record.row("log-mel on the device", lambda: rate(
            lambda: mel_on(record.device, extractor, waveforms), count, record.device))  # fmt: skip
    record.row("encoder and adapters on the device", lambda: encoder(record, waveforms))


def write_clips(folder: Path, ending: str, sample_rate: int, count: int, seconds: float) -> list[Path]:
    rng, paths = np.random.default_rng(0), [folder / f"{sample_rate}-{index}.{ending}" for index in range(count)]
    for path in paths:
        soundfile.write(path, rng.normal(0, 0.1, int(seconds * sample_rate)), sample_rate, subtype="PCM_16")
    return paths


def read_all(paths: Sequence[Path]) -> list[np.ndarray]:
    return [read_audio(path) for path in paths]


def mel_all(extractor: Any, waveforms: Sequence[np.ndarray]) -> None:
    for waveform in waveforms:
        log_mel(extractor, [waveform])


def mel_on(device: torch.device, extractor: Any, waveforms: Sequence[np.ndarray]) -> None:
    extractor(list(waveforms), sampling_rate=SAMPLE_RATE, return_tensors="pt", device=str(device))


def prepare(extractor: Any, paths: Sequence[Path]) -> int:
    mel_all(extractor, read_all(paths))
    return len(paths)


def one_thread() -> None:
    torch.set_num_threads(1)


def rate(call: Callable[[], object], clips: int, device: torch.device | None = None) -> dict[str, Any]:
    call()
    seconds = measure.seconds_of(call, device or torch.device("cpu"))
    return {"clips_a_second": clips / seconds, "milliseconds_a_clip": 1e3 * seconds / clips}


def spread(pool_of: Callable[[], Executor], extractor: Any, paths: Sequence[Path], workers: int) -> dict[str, Any]:
    """Several workers, once they have started."""
    paths = list(paths) * max(1, 2 * CHUNK * workers // len(paths))
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    with pool_of() as pool:
        return rate(lambda: list(pool.map(partial(prepare, extractor), chunks)), len(paths))


@torch.inference_mode()
def encoder(record: Record, waveforms: Sequence[np.ndarray]) -> dict[str, Any]:
    """Stage 2's audio embeddings of windows that lie on the device already, at LLaDA-8B's width."""
    shape = shape_of(record.dry_run)
    one_layer = replace(shape, llm=shape.llm | {"n_layers": 1})  # of the LLM, which does nothing here
    model = random_model(one_layer, record.device)
    features, mask = (tensor.to(record.device) for tensor in log_mel(model.feature_extractor, waveforms[:16]))
    return rate(lambda: model.encode_audio(features, mask), len(features), record.device)
