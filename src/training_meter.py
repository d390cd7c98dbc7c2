"""What training logs beside loss, learning rate and gradient norm: losses by masking rate, throughput, memory."""

import resource
import time
from collections.abc import Callable, Mapping

import torch

from src.configuration_DIFFA import IGNORE_INDEX, SAMPLE_RATE
from src.precision import WITHOUT_FLOAT64

NUM_BINS = 5  # of the masking rate, over (0, 1)
GIBIBYTE = 1 << 30
MAX_CLOCK_ERROR = 5.0  # seconds between two ways to measure a time, which begin and end a little apart


class TrainingMeter:
    """Sums since the last reading. Nothing waits for the device until they are read."""

    def __init__(self, device: torch.device, hop_length: int) -> None:
        """`hop_length`: audio samples a log-mel frame."""
        self.device = device
        self.frame_seconds = hop_length / SAMPLE_RATE
        self.restart()

    def restart(self) -> None:
        self.cross_entropy = torch.zeros(
            NUM_BINS, dtype=WITHOUT_FLOAT64.get(self.device.type, torch.float64), device=self.device
        )
        self.masked = torch.zeros_like(self.cross_entropy)  # tokens
        self.samples = torch.zeros((), dtype=self.cross_entropy.dtype, device=self.device)
        self.frames = torch.zeros_like(self.samples)  # log-mel, of sound
        self.start = time.perf_counter()

    def add(self, batch: Mapping[str, torch.Tensor], cross_entropy: torch.Tensor) -> None:
        """Count a batch; `cross_entropy` [B] is each sample's, summed over its masked tokens."""
        bins = (batch["t"] * NUM_BINS).long().clamp(max=NUM_BINS - 1)  # [B]
        masked = (batch["labels"] != IGNORE_INDEX).sum(dim=1)  # [B]
        self.cross_entropy.index_add_(0, bins, cross_entropy.to(self.cross_entropy.dtype))
        self.masked.index_add_(0, bins, masked.to(self.masked.dtype))
        self.samples += len(bins)
        self.frames += batch["feature_attention_mask"].sum()

    def leave_out(self, seconds: float) -> None:
        """Time that went into something other than training."""
        self.start += seconds

    def read(self, add_up: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, float]:
        """Figures since the last reading, by the names they are logged under; starts over.

        `loss_t0.2-0.4` is the mean cross entropy of a masked token, unweighted, in samples with such a masking rate;
        it is left out where there was none. `add_up` sums a tensor over processes; `memory_gib` is this one's peak.
        """
        seconds = time.perf_counter() - self.start
        sums = torch.cat((self.cross_entropy, self.masked, self.samples[None], self.frames[None]))
        *sums, samples, frames = add_up(sums).tolist()
        self.restart()
        figures = {
            f"loss_t{index / NUM_BINS:.1f}-{(index + 1) / NUM_BINS:.1f}": total / count
            for index, (total, count) in enumerate(zip(sums[:NUM_BINS], sums[NUM_BINS:], strict=True))
            if count
        }
        figures |= {
            "samples_per_second": samples / seconds,
            "audio_seconds_per_second": frames * self.frame_seconds / seconds,
            "memory_gib": peak_bytes(self.device) / GIBIBYTE,
        }
        return {name: round(value, 4) for name, value in figures.items()}


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
