"""What is replayed when; a stand-in takes the place of CUDA's graphs, which need a GPU (perf/gpu.sh compares there)."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from src import cuda_graphs, llm_generate
from src.cuda_graphs import MAX_POSITIONS, MIN_PASSES, PassGraphs
from src.generation_options import GenerationOptions
from src.llm_generate import graphs_for


def record(call: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
    """As CUDA does it: what is replayed reads and writes the tensors of the call that was recorded."""
    output = torch.full_like(call(), torch.nan)

    def replay() -> None:
        output.copy_(call())

    return replay, output


@pytest.fixture
def graphs(monkeypatch) -> PassGraphs:
    monkeypatch.setattr(cuda_graphs, "record", record)
    return PassGraphs()


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
    many, few = (GenerationOptions(steps=n, block_length=n, max_new_tokens=n) for n in (MIN_PASSES, MIN_PASSES - 1))
    assert graphs_for(torch.device("cuda"), many)
    assert graphs_for(torch.device("cuda"), few) is None
    assert graphs_for(torch.device("cuda"), replace(many, threshold=0.9)) is None
    assert graphs_for(torch.device("cpu"), many) is None


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
    monkeypatch.setattr(llm_generate, "graphs_for", lambda device, options: PassGraphs())
    assert torch.equal(model.generate(clips, questions, options, return_ids=True), expected)
    assert len(recordings) >= 2  # in each block one
