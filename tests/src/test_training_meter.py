import pytest
import torch

from src import training_meter
from src.training_meter import TrainingMeter


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(training_meter.time, "perf_counter", lambda: now[0])
    return now


def batch(t: list[float], masked: list[int], frames: list[int]) -> dict[str, torch.Tensor]:
    labels = torch.full((len(t), 10), -100)
    mask = torch.zeros(len(t), 3000)
    for row, (count, length) in enumerate(zip(masked, frames, strict=True)):
        labels[row, :count] = 7
        mask[row, :length] = 1
    return {"t": torch.tensor(t), "labels": labels, "feature_attention_mask": mask}


def test_figures_are_means_by_masking_rate_and_rates_by_the_clock(clock):
    meter = TrainingMeter(torch.device("cpu"), hop_length=160)
    meter.add(batch([0.1, 0.15, 1.0], [1, 3, 10], [100, 200, 300]), torch.tensor([2.0, 10.0, 50.0]))
    meter.add(batch([0.2], [2], [400]), torch.tensor([5.0]))
    clock[0] += 6
    meter.leave_out(2.0)
    figures = meter.read(lambda sums: sums)
    assert figures.pop("memory_gib") > 0.01
    assert figures == pytest.approx(
        {
            "loss_t0.0-0.2": 12 / 4,  # of four masked tokens
            "loss_t0.2-0.4": 5 / 2,
            "loss_t0.8-1.0": 50 / 10,
            "samples_per_second": 4 / 4,
            "audio_seconds_per_second": 10.0 / 4,
        }
    )


def test_reading_starts_over_and_adds_up_over_processes(clock):
    meter = TrainingMeter(torch.device("cpu"), hop_length=160)
    meter.add(batch([0.5], [1], [100]), torch.tensor([9.0]))
    clock[0] += 1
    meter.read(lambda sums: sums)
    meter.add(batch([0.5], [2], [100]), torch.tensor([4.0]))
    clock[0] += 1
    figures = meter.read(lambda sums: 3 * sums)
    assert figures["loss_t0.4-0.6"] == 2.0 and figures["samples_per_second"] == 3.0
    assert figures["audio_seconds_per_second"] == 3.0


def test_a_sample_without_masked_tokens_is_no_trouble(clock):
    meter = TrainingMeter(torch.device("cpu"), hop_length=160)
    meter.add(batch([0.01], [0], [100]), torch.tensor([0.0]))
    clock[0] += 1
    assert not [name for name in meter.read(lambda sums: sums) if name.startswith("loss")]
