import shutil

import pytest

from evaluation.runner import Parts
from tests.evaluation.small_runs import GOLDEN, EchoModel, question, write_lines


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)


@pytest.fixture
def folder(tmp_path):
    """An MMSU file of six questions about the three clips, and the clips."""
    for n in range(3):
        shutil.copy(GOLDEN / f"clip{n}.wav", tmp_path)
    write_lines(tmp_path / "mmsu.jsonl", [question(n) for n in range(6)])
    return tmp_path


@pytest.fixture
def echo(monkeypatch):
    model = EchoModel()
    monkeypatch.setattr(Parts, "load", lambda *_, **__: model)
    return model


@pytest.fixture
def no_model(monkeypatch):
    def load(*_, **__):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(Parts, "load", load)
