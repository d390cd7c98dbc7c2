"""Mixtures of manifests: how many of the samples that training draws come from each, and which.

    TRAIN_DATASET="qa.json:0.95 asr.json:0.05" bash train_stage2.sh

A weight is a manifest's share of the samples drawn, once all weights are divided by their sum. An epoch is one pass
over the first manifest. From every other one so many samples come in it as its share asks for, one after another in
passes of its own, each in a new order: the next epoch goes on where this one stopped, and no sample comes twice before
all have come once. Which samples an epoch draws is a function of the seed and the epoch alone.
"""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from src.manifest import ManifestError

EXAMPLE = "qa.json:0.95 asr.json:0.05"


@dataclass(frozen=True)
class Mixture:
    """How samples are drawn from manifests that follow each other in one dataset."""

    sizes: tuple[int, ...]  # samples in each manifest
    weights: tuple[float, ...] = (1.0,)

    @property
    def shares(self) -> tuple[float, ...]:
        """Of the samples drawn, what part comes from each manifest."""
        return tuple(weight / sum(self.weights) for weight in self.weights)

    @property
    def counts(self) -> tuple[int, ...]:
        """Samples that an epoch draws from each manifest; at least one."""
        whole = self.sizes[0] / self.weights[0]
        return (self.sizes[0], *(max(1, round(whole * weight)) for weight in self.weights[1:]))

    @property
    def record(self) -> list[tuple[int, float]] | None:
        """What a run that goes on must share: sizes and shares; None for a single manifest."""
        return list(zip(self.sizes, self.shares, strict=True)) if len(self.sizes) > 1 else None

    def drawn(self, seed: int, epoch: int) -> np.ndarray:
        """Indices in the dataset of all samples of an epoch (from 0), manifest by manifest: int64 [sum of counts]."""
        starts = [0, *accumulate(self.sizes)]
        parts = [np.arange(self.sizes[0])]
        for number in range(1, len(self.sizes)):
            count = self.counts[number]
            parts.append(starts[number] + np.array(list(self.walk(seed, number, epoch * count, count)), dtype=np.int64))
        return np.concatenate(parts)

    def walk(self, seed: int, number: int, start: int, count: int) -> Iterator[int]:
        """So many places of an endless walk through a manifest, from `start` on: shuffled passes, one after another."""
        size, end = self.sizes[number], start + count
        for walked in range(start // size, -(-end // size)):
            order = np.random.default_rng((seed, walked, number)).permutation(size)
            yield from order[max(0, start - walked * size) : end - walked * size].tolist()

    def told(self, paths: Sequence[str]) -> str:
        """What an epoch draws, in words."""
        parts = zip(self.counts, self.sizes, self.shares, paths, strict=True)
        told = [f"{count} of {size} from {path} ({share:.1%})" for count, size, share, path in parts]
        return f"an epoch draws {sum(self.counts)} samples: {', '.join(told)}"


def parse_mixture(text: str) -> dict[str, float]:
    """Weights by manifest, of `PATH:WEIGHT PATH:WEIGHT ...`, or 1 of what is the path of a single manifest.

    A weight is what follows the last colon of a word, so that paths may have colons; those with white space can only
    be named alone. Raises ManifestError for weights that are none, and for a manifest that is named twice.
    """
    words = text.split()
    weights = [weight_of(word) for word in words]
    if os.path.exists(text) or weights == [None] * len(words):  # a path that does not exist is left to its reader
        return {text: 1.0}
    mixture: dict[str, float] = {}
    for word, weight in zip(words, weights, strict=True):
        path = word.rpartition(":")[0]
        if weight is None:
            raise ManifestError(
                f"{text!r}: {word!r} names no weight; a mixture is PATH:WEIGHT for each manifest, such as {EXAMPLE!r}"
            )
        if not (math.isfinite(weight) and weight > 0):
            raise ManifestError(
                f"{text!r}: the weight of {path} is {weight:g}; expected a number above 0 (leave out a manifest that "
                "nothing is to come from)"
            )
        if path in mixture:
            raise ManifestError(f"{text!r}: {path} is named twice; name it once, with the sum of its weights")
        mixture[path] = weight
    return mixture


def weight_of(word: str) -> float | None:
    """The number after the last colon; None where there is none, or the word as it is is a file's path."""
    path, colon, weight = word.rpartition(":")
    try:
        return float(weight) if colon and path and not os.path.exists(word) else None
    except ValueError:
        return None
