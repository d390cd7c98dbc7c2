"""The order of samples, and what is random about each one's masks.

A sampler decides both, as a function of the seed, the epoch and the place in it. Nothing comes from global random
state, so that a run that was killed and resumed sees the same masks as one that was not, with any number of workers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices

from src.configuration_DIFFA import SEEDS

TIME_SAMPLING = ("uniform", "stratified")


@dataclass(frozen=True)
class Masking:
    """What is random about one sample's masks."""

    time: float  # t, in (0, 1); the masking rate is t' = (1 - 1e-3) t + 1e-3
    seed: int  # decides which tokens

    @classmethod
    def random(cls) -> "Masking":
        """From torch's global random state."""
        return cls(torch.rand(()).item(), int(torch.randint(SEEDS, ())))


@dataclass(frozen=True)
class Draw:
    """One place in an epoch."""

    index: int  # of the samples
    masking: Masking


class TrainingSampler(Sampler[Draw]):
    """Every sample once an epoch, shuffled; the last update is filled up from the epoch's beginning.

    Args:
        num_samples: how many there are.
        update_size: samples of one optimizer step, of all processes together. They follow each other in the order that
            `__iter__` gives, which is how accelerate deals batches out to processes.
        seed: of the run.
        time_sampling: "uniform": each t on its own; "stratified": those of an update lie evenly over (0, 1), shifted
            by one random offset. Both are uniform for each sample. The second takes away what t itself adds to the
            variance of an update's loss: 1 to 6 % on the miniature, where the rest is which tokens are masked.
        lengths: of the samples, to put ones of similar length into a batch; None for any.
    """

    def __init__(
        self,
        num_samples: int,
        update_size: int,
        seed: int,
        time_sampling: str = "uniform",
        lengths: Sequence[int] | None = None,
    ) -> None:
        if time_sampling not in TIME_SAMPLING:
            raise ValueError(f"time_sampling is {time_sampling!r}; expected one of {', '.join(TIME_SAMPLING)}")
        self.num_samples = num_samples
        self.update_size = update_size
        self.seed = seed
        self.time_sampling = time_sampling
        self.lengths = lengths
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """accelerate calls it at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.num_samples // self.update_size) * self.update_size

    def __iter__(self) -> Iterator[Draw]:
        random = np.random.default_rng((self.seed, self.epoch))
        order = np.resize(self.order(random), len(self))
        times = self.times(random)
        seeds = random.integers(SEEDS, size=len(self))
        for index, time, seed in zip(order.tolist(), times.tolist(), seeds.tolist(), strict=True):
            yield Draw(index, Masking(time, seed))

    def order(self, random: np.random.Generator) -> np.ndarray:
        """Indices of all samples, int [num_samples]."""
        if self.lengths is None:
            return random.permutation(self.num_samples)
        generator = torch.Generator().manual_seed(int(random.integers(SEEDS)))
        return np.array(get_length_grouped_indices(self.lengths, self.update_size, generator=generator))

    def times(self, random: np.random.Generator) -> np.ndarray:
        """t of each place in the epoch, float64 [len(self)] in (0, 1)."""
        if self.time_sampling == "uniform":
            return random.random(len(self))
        strata = np.tile(np.arange(self.update_size), (len(self) // self.update_size, 1))  # [updates, update_size]
        offsets = random.random((len(strata), 1))
        return ((random.permuted(strata, axis=1) + offsets) / self.update_size).ravel()


class EvaluationSampler(Sampler[Draw]):
    """Every sample once, in order. Their t form a fixed even grid over (0, 1), and their masks are always the same.

    The seed of a sample's masks is its index, by which an evaluation tells it from the others.
    """

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[Draw]:
        strata = np.random.default_rng(0).permutation(self.num_samples)  # so that t has nothing to do with the order
        for index, stratum in enumerate(strata.tolist()):
            yield Draw(index, Masking((stratum + 0.5) / self.num_samples, index))
