"""What training logs beside loss, learning rate and gradient norm: parts of the loss, throughput, memory."""

import resource
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch

from src.configuration_DIFFA import IGNORE_INDEX, SAMPLE_RATE
from src.precision import WITHOUT_FLOAT64

NUM_BINS = 5  # of the masking rate, over (0, 1)
GIBIBYTE = 1 << 30
MAX_CLOCK_ERROR = 5.0  # seconds between two ways to measure a time, which begin and end a little apart


class Meter(ABC):
    """Sums since the last reading. Nothing waits for the device until they are read."""

    def __init__(self, device: torch.device, hop_length: int) -> None:
        """`hop_length`: audio samples a log-mel frame."""
        self.device = device
        self.frame_seconds = hop_length / SAMPLE_RATE
        self.restart()

    def zeros(self, *size: int) -> torch.Tensor:
        return torch.zeros(size, dtype=WITHOUT_FLOAT64.get(self.device.type, torch.float64), device=self.device)

    def restart(self) -> None:
        self.samples = self.zeros(1)
        self.frames = self.zeros(1)  # log-mel, of sound
        self.start = time.perf_counter()

    def count(self, batch: Mapping[str, torch.Tensor]) -> None:
        self.samples += len(batch["feature_attention_mask"])
        self.frames += batch["feature_attention_mask"].sum()

    def leave_out(self, seconds: float) -> None:
        """Time that went into something other than training."""
        self.start += seconds

    def read(self, add_up: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, float]:
        """Figures since the last reading, by the names they are logged under; starts over.

        `add_up` sums a tensor over processes; `memory_gib` is this one's peak.
        """
        seconds = time.perf_counter() - self.start
        *sums, samples, frames = add_up(torch.cat((self.sums(), self.samples, self.frames))).tolist()
        figures = self.figures(sums, samples) | {
            "samples_per_second": samples / seconds,
            "audio_seconds_per_second": frames * self.frame_seconds / seconds,
            "memory_gib": peak_bytes(self.device) / GIBIBYTE,
        }
        self.restart()
        return {name: round(value, 4) for name, value in figures.items()}

    @abstractmethod
    def sums(self) -> torch.Tensor:
        """What `figures` needs, [n]."""

    @abstractmethod
    def figures(self, sums: Sequence[float], samples: float) -> dict[str, float]:
        """What is logged of the loss, by name; `sums` are all processes'."""


class TrainingMeter(Meter):
    """Cross entropies of masked tokens by masking rate."""

    def restart(self) -> None:
        super().restart()
        self.cross_entropy = self.zeros(NUM_BINS)
        self.masked = self.zeros(NUM_BINS)  # tokens

    def add(self, batch: Mapping[str, torch.Tensor], cross_entropy: torch.Tensor) -> None:
        """Count a batch; `cross_entropy` [B] is each sample's, summed over its masked tokens."""
        self.count(batch)
        bins = (batch["t"] * NUM_BINS).long().clamp(max=NUM_BINS - 1)  # [B]
        masked = (batch["labels"] != IGNORE_INDEX).sum(dim=1)  # [B]
        self.cross_entropy.index_add_(0, bins, cross_entropy.to(self.cross_entropy.dtype))
        self.masked.index_add_(0, bins, masked.to(self.masked.dtype))

    def sums(self) -> torch.Tensor:
        return torch.cat((self.cross_entropy, self.masked))

    def figures(self, sums: Sequence[float], samples: float) -> dict[str, float]:
        """`loss_t0.2-0.4` is the mean cross entropy of a masked token, unweighted, in samples with such a masking rate;
        it is left out where there was none.
        """
        return {
            f"loss_t{index / NUM_BINS:.1f}-{(index + 1) / NUM_BINS:.1f}": total / count
            for index, (total, count) in enumerate(zip(sums[:NUM_BINS], sums[NUM_BINS:], strict=True))
            if count
        }


class PreferenceMeter(Meter):
    """Means over pairs, of what `PreferenceOutput.figures` gives."""

    def restart(self) -> None:
        super().restart()
        self.totals: dict[str, torch.Tensor] = {}  # each [1]

    def add(self, batch: Mapping[str, torch.Tensor], figures: Mapping[str, torch.Tensor]) -> None:
        """Count a batch; `figures` are each pair's, [B]."""
        self.count(batch)
        for name, values in figures.items():
            self.totals[name] = self.totals.get(name, self.zeros(1)) + values.sum()

    def sums(self) -> torch.Tensor:
        return torch.cat((self.zeros(0), *self.totals.values()))

    def figures(self, sums: Sequence[float], samples: float) -> dict[str, float]:
        return {name: total / samples for name, total in zip(self.totals, sums, strict=True)}


def peak_bytes(device: torch.device) -> int:
    """The most memory this process has held at once: the device's, or the process's resident memory on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def correct_runtime(logs: dict[str, float], split: str, seconds: float) -> None:
    """Put right what Trainer measured by the time of day, where that was set meanwhile; `seconds` is the truth."""
    told = logs.get(f"{split}_runtime")
    if told is not None and abs(told - seconds) > MAX_CLOCK_ERROR:
        logs[f"{split}_runtime"] = round(seconds, 4)
        for name in ("samples_per_second", "steps_per_second"):
            logs.pop(f"{split}_{name}", None)
