"""What is replayed when; a stand-in takes the place of CUDA's graphs, which need a GPU (perf/gpu.sh compares there)."""

from collections.abc import Callable

import pytest
import torch

from src import cuda_graphs
from src.cuda_graphs import MAX_POSITIONS, MIN_PASSES, PassGraphs
from src.generation_options import GenerationOptions


def record(call: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
    """As CUDA does it: what is replayed reads and writes the tensors of the call that was recorded."""
    output = torch.full_like(call(), torch.nan)

    def replay() -> None:
        output.copy_(call())

    return replay, output


@pytest.fixture
def graphs(monkeypatch) -> PassGraphs:
    monkeypatch.setattr(cuda_graphs, "record", record)
    return PassGraphs(enabled=True)


def test_the_second_run_is_recorded_and_later_ones_replay_it(graphs):
    source, calls = torch.zeros(3), []

    def call(name: str) -> Callable[[], torch.Tensor]:
        return lambda: calls.append(name) or source + 1

    for value, name in enumerate("abcd"):
        source.fill_(value)
        assert graphs.run("key", 3, call(name)).tolist() == [value + 1.0] * 3
    assert calls == ["a", "b", "b", "b", "b"]  # recording calls once more in this stand-in, as it computes nothing
    graphs.run("another key", 3, call("e"))
    graphs.forget()
    graphs.run("key", 3, call("f"))
    assert calls[5:] == ["e", "f"]


def test_large_passes_and_few_passes_are_not_recorded(graphs, monkeypatch):
    monkeypatch.setattr(cuda_graphs, "record", None)
    for _ in range(3):
        graphs.run("key", MAX_POSITIONS + 1, lambda: torch.zeros(1))
    assert PassGraphs.of(torch.device("cuda"), MIN_PASSES).enabled
    assert not PassGraphs.of(torch.device("cuda"), MIN_PASSES - 1).enabled
    assert not PassGraphs.of(torch.device("cpu"), MIN_PASSES).enabled


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"cache": "prefix"},
        {"cache": "dual"},
        {"cache": "dual", "refresh_interval": 3},
        {"cache": "dual", "cfg_scale": 1.0},
        {"cache": "dual", "stop_at_eos": True},
        {"temperature": 0.5, "seed": 3},
    ],
    ids=str,
)
def test_replayed_passes_give_the_same_tokens(model, clips, monkeypatch, settings):
    options = GenerationOptions(steps=16, block_length=8, max_new_tokens=16, **settings)
    questions = ["What is it?", "Who speaks, and how many words are said?", "Is it music?"]
    expected = model.generate(clips, questions, options, return_ids=True)
    recordings = []
    monkeypatch.setattr(cuda_graphs, "record", lambda call: recordings.append(call) or record(call))
    monkeypatch.setattr(PassGraphs, "of", classmethod(lambda cls, device, num_passes: cls(enabled=True)))
    assert torch.equal(model.generate(clips, questions, options, return_ids=True), expected)
    assert len(recordings) >= 2  # in each block one
