"""What the tests share: the golden checkpoints, figures and clips, read once."""

import functools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from src.audio import read_audio
from src.configuration_DIFFA import SAMPLE_RATE
from src.modeling_DIFFA import DIFFAModel
from tests.simulated_device import simulated  # noqa: F401 (a fixture)

GOLDEN = Path(__file__).parent / "golden"
GOLDEN2 = Path(__file__).parent / "golden2"  # DIFFA-2


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let each of the processes that run tests side by side begin with its share of the slow ones.

    Each gets an equal part of the list, and whoever is through takes from the others' ends: a slow test that stands
    there is waited for by all.
    """
    processes = getattr(config, "workerinput", {}).get("workercount", 1)
    groups = slow_groups(items)
    others = [item for item in items if not item.get_closest_marker("slow")]
    ordered = []
    for process in range(processes):
        share = [item for group in groups[process::processes] for item in group]
        rest = max(0, (len(items) - len(ordered)) // (processes - process) - len(share))
        ordered += share + others[:rest]
        del others[:rest]
    items[:] = ordered + others


def slow_groups(items: Iterable[pytest.Item]) -> list[list[pytest.Item]]:
    """The slow tests, by what takes long once for several: cases of one function, and modules that are slow as a whole.

    Apart, each process would start their server, or train what they compare with, for itself.
    """
    groups: dict[tuple[str, str], list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("slow"):
            module_is_slow = any(mark.name == "slow" for mark in item.getparent(pytest.Module).own_markers)
            function = "" if module_is_slow else item.name.partition("[")[0]
            groups.setdefault((str(item.path), function), []).append(item)
    return list(groups.values())


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """What a test draws does not hang on the tests before it, whose order changes from run to run."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_precision() -> Iterator[None]:
    """Every TrainingArguments leaves its precision in the environment, where the next of the process takes it from."""
    name = "ACCELERATE_MIXED_PRECISION"
    before = os.environ.pop(name, None)
    yield
    os.environ.pop(name, None)
    if before is not None:
        os.environ[name] = before


@pytest.fixture(scope="session")
def golden() -> dict[str, torch.Tensor]:
    """Tensors the published code computed."""
    return load_file(GOLDEN / "golden.safetensors")


@pytest.fixture(scope="session")
def golden_cases() -> dict:
    """What they were computed from."""
    return json.loads((GOLDEN / "golden.json").read_text())


@pytest.fixture(scope="session")
def clips() -> list:
    """Three waveforms of 0.8, 2.3 and 5.1 s."""
    return [read_audio(GOLDEN / f"clip{index}.wav") for index in range(3)]


@pytest.fixture
def model(_golden_model: DIFFAModel) -> Iterator[DIFFAModel]:
    """The golden DIFFA checkpoint in stage 2, as if just loaded. Tests share it: one that trains loads its own."""
    _golden_model.stage = 2
    before = contents(_golden_model)
    yield _golden_model.requires_grad_(False).eval()
    assert contents(_golden_model) == before, "this test changed the model that all share: load_golden() gives another"


def contents(model: DIFFAModel) -> tuple:
    """What differs as soon as one of its weights is written to, or as it would be saved with other settings."""
    tensors = [*model.parameters(), *model.buffers()]
    return sum(tensor._version for tensor in tensors), len(tensors), model.saved_modules, model.config.to_dict()


@pytest.fixture(scope="session")
def _golden_model() -> DIFFAModel:
    return load_golden()


def load_golden(whisper_path: Path = GOLDEN / "whisper") -> DIFFAModel:
    """A golden model of one's own, for tests that change it."""
    return DIFFAModel.from_pretrained(GOLDEN / "diffa_upstream", llm_path=GOLDEN / "llada", whisper_path=whisper_path)


@functools.cache
def _short_parts() -> TemporaryDirectory:
    """Removed at exit."""
    folder = TemporaryDirectory(prefix="short_parts_")
    short_encoder(Path(folder.name))
    return folder


def load_short() -> DIFFAModel:
    """The same with `short_encoder`: for tests that train."""
    return load_golden(short_encoder(Path(_short_parts().name)))


def short_encoder(folder: Path, golden: Path = GOLDEN) -> Path:
    """The golden encoder with a window of 4 s, written into a folder: where runs are compared with each other alone.

    A step takes a quarter of the time that 30 s of silence and speech do.
    """
    seconds, path = 4, folder / "short_whisper"
    if not path.exists():
        shutil.copytree(golden / "whisper", path)
        frames = seconds * 100  # of log-mel
        config = json.loads((path / "config.json").read_text()) | {"max_source_positions": frames // 2}
        (path / "config.json").write_text(json.dumps(config))
        window = {"chunk_length": seconds, "n_samples": seconds * SAMPLE_RATE, "nb_max_frames": frames}
        features = json.loads((path / "preprocessor_config.json").read_text()) | window
        (path / "preprocessor_config.json").write_text(json.dumps(features))
        weights = torch.load(path / "pytorch_model.bin", weights_only=True)
        for name in weights:
            if name.endswith("encoder.embed_positions.weight"):
                weights[name] = weights[name][: frames // 2].clone()
        torch.save(weights, path / "pytorch_model.bin")
    return path


def in_time(seconds: float, name: str, call: Callable, *arguments: Any, **settings: Any) -> Any:
    """What a call returns or raises; the test fails, by the case's name, where it takes longer than `seconds`.

    It runs in a thread of its own, so that a hang in a library is noticed as well as one in Python.
    """
    outcome = []

    def run() -> None:
        try:
            outcome.append((call(*arguments, **settings), None))
        except Exception as error:
            outcome.append((None, error))

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        pytest.fail(f"{name}: not done after {seconds:g} s")
    value, error = outcome[0]
    if error:
        raise error
    return value
