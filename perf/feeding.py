"""How long a device would wait for audio: a stand-in that takes fixed seconds a batch, fed as the model is.

    python perf/feeding.py [--batch_size 8] [--batch_seconds 2] [--json FILE]

Benchmarks are fed by `evaluation.prefetch`, training by the processes of a DataLoader. Beside each stands the same work
done between two batches, as it is without anything ahead. The idle share is the part of the time from the second batch
on in which the stand-in waits; the first batch has nothing to hide behind.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that this also runs by path

import numpy as np
import soundfile
import torch
from torch.utils.data import DataLoader
from transformers import WhisperFeatureExtractor

from evaluation.prefetch import batches_of, new_readers, read_ahead, read_sounds
from perf import measure
from src.audio import log_mel, read_audio
from src.files import write_file
from src.flag_types import positive_number, whole_number

FILE_RATE = 44_100  # Hz, of the files: resampling is part of what is fed
ROWS = ("benchmarks, one after the other", "benchmarks, ahead", "training, one after the other", "training, ahead")


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="feeding_") as name:
        files = write_clips(Path(name), args.batch_size * args.batches, args.clip_seconds)
        extractor = WhisperFeatureExtractor(feature_size=args.mel_bins)
        feeds = (
            one_after_the_other(extractor, files, args.batch_size),
            benchmark_feed(extractor, files, args.batch_size),
            training_feed(extractor, files, args.batch_size, workers=0),
            training_feed(extractor, files, args.batch_size, args.workers),
        )
        shares = {row: idle_share(feed, args.batch_seconds) for row, feed in zip(ROWS, feeds, strict=True)}
    print(f"idle share of a device that takes {args.batch_seconds:g} s a batch of {args.batch_size} clips")
    for row, share in shares.items():
        print(f"  {row:34} {share:6.1%}")
    if args.json:
        settings = {name: value for name, value in vars(args).items() if name != "json"}
        result = {**measure.machine(torch.device("cpu")), "settings": settings, "idle_share": shares}
        write_file(args.json, json.dumps(result, indent=1) + "\n")
    return 0


def write_clips(folder: Path, count: int, seconds: float) -> list[Path]:
    """FLAC files of noise, of the same length."""
    rng, paths = np.random.default_rng(0), [folder / f"{index}.flac" for index in range(count)]
    for path in paths:
        soundfile.write(path, rng.normal(0, 0.1, int(seconds * FILE_RATE)), FILE_RATE, subtype="PCM_16")
    return paths


def idle_share(feed: Iterable[object], batch_seconds: float) -> float:
    """The part of the time from the second batch on in which the stand-in, which sleeps, waits for its next batch."""
    batches, waited = iter(feed), []
    while True:
        start = time.perf_counter()
        if next(batches, None) is None:
            break
        waited.append(time.perf_counter() - start)
        time.sleep(batch_seconds)
    idle = sum(waited[1:])
    return idle / (idle + batch_seconds * (len(waited) - 1))


def one_after_the_other(extractor: WhisperFeatureExtractor, files: Sequence[Path], size: int) -> Iterator[torch.Tensor]:
    for start in range(0, len(files), size):
        yield features_of(extractor, files[start : start + size])


def features_of(extractor: WhisperFeatureExtractor, files: Sequence[Path]) -> torch.Tensor:
    """Log-mel features [B, n_mels, F]."""
    return log_mel(extractor, [read_audio(file) for file in files])[0]


def benchmark_feed(extractor: WhisperFeatureExtractor, files: Sequence[Path], size: int) -> Iterator[object]:
    with new_readers() as readers:

        def read(batch: list[int]) -> object:
            clips = [files[index] for index in batch]
            return read_sounds(clips, [path.name for path in clips], extractor, readers)

        yield from read_ahead(batches_of(range(len(files)), files, size), read)


def training_feed(
    extractor: WhisperFeatureExtractor, files: Sequence[Path], size: int, workers: int
) -> Iterator[torch.Tensor]:
    return iter(DataLoader(files, size, num_workers=workers, collate_fn=partial(features_of, extractor)))


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch_size", type=whole_number(1), default=8, help="clips a batch (default 8)")
    parser.add_argument(
        "--batches",
        type=whole_number(2),
        default=6,
        help="of each row; the first does not count (default 6)",
    )
    parser.add_argument("--batch_seconds", type=positive_number, default=2.0, help="a batch (default 2)")
    parser.add_argument(
        "--clip_seconds", type=positive_number, default=30.0, help="of each clip (default 30, a window)"
    )
    parser.add_argument("--mel_bins", type=whole_number(1), default=80, help="80 for Whisper-small, 128 for large-v3")
    parser.add_argument("--workers", type=whole_number(1), default=2, help="training's reading processes (default 2)")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
