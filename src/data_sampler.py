"""The order of samples, with what is random about each one's masks.

Both are a function of the seed, the epoch and the place in it. Nothing comes from global random state, so that a run
that was interrupted and resumed sees the same masks as one that was not, with any number of workers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices

from src.configuration_DIFFA import SEEDS
from src.masked_diffusion import TIME_SAMPLING, Masking, training_times, validation_maskings
from src.mixture import Mixture


@dataclass(frozen=True)
class Draw:
    """One place in an epoch."""

    index: int  # of the sample in the dataset
    masking: Masking


class TrainingSampler(Sampler[Draw]):
    """Every sample once an epoch, or what a mixture draws, shuffled.

    The last update is filled up from the epoch's beginning.

    Args:
        num_samples: of the dataset.
        update_size: samples of one optimizer step, of all processes together. They follow each other in the order that
            `__iter__` gives, which is how accelerate deals batches out to processes.
        seed: of the run.
        time_sampling: see `masked_diffusion.training_times`.
        lengths: of the samples, to put ones of similar length into a batch; None for any.
        mixture: which samples make an epoch, where they are of several manifests; None for all.
    """

    def __init__(
        self,
        num_samples: int,
        update_size: int,
        seed: int,
        time_sampling: str = TIME_SAMPLING[0],
        lengths: Sequence[int] | None = None,
        mixture: Mixture | None = None,
    ) -> None:
        self.mixture = mixture or Mixture((num_samples,))
        self.update_size = update_size
        self.seed = seed
        self.time_sampling = time_sampling
        self.lengths = None if lengths is None else np.array(lengths)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """accelerate calls it at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-sum(self.mixture.counts) // self.update_size) * self.update_size

    def __iter__(self) -> Iterator[Draw]:
        random = np.random.default_rng((self.seed, self.epoch))
        order = np.resize(self.order(random), len(self))
        times = training_times(random, len(self), self.update_size, self.time_sampling)
        seeds = random.integers(SEEDS, size=len(self))
        for index, time, seed in zip(order.tolist(), times.tolist(), seeds.tolist(), strict=True):
            yield Draw(index, Masking(time, seed))

    def order(self, random: np.random.Generator) -> np.ndarray:
        """Indices of the epoch's samples."""
        drawn = self.mixture.drawn(self.seed, self.epoch)
        if self.lengths is None:
            return drawn[random.permutation(len(drawn))]
        generator, lengths = torch.Generator().manual_seed(int(random.integers(SEEDS))), self.lengths[drawn].tolist()
        return drawn[get_length_grouped_indices(lengths, self.update_size, generator=generator)]


class EvaluationSampler(Sampler[Draw]):
    """Every sample once, in order, masked the same way each time (`masked_diffusion.validation_maskings`)."""

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[Draw]:
        for index, masking in enumerate(validation_maskings(self.num_samples)):
            yield Draw(index, masking)
