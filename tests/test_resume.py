"""Random configurations: a run that was stopped and goes on is one that was not, or the reason is named.

Drawn by a seed, so that every start of the tests takes the same. Twenty run in this process, through `train.main`; two
start processes, for ways to share memory, of which tests/test_train.py has more.
"""

import itertools
import json
import random
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import train
from src.checkpoint import CheckpointError
from src.sft_trainer import dLLMTrainer
from tests.conftest import GOLDEN, load_golden, short_encoder
from tests.test_train import (
    ROOT,
    kill_launcher,
    read_until_logged,
    run,
    same_course,
    stage2_environment,
    start,
    steps_logged,
    whole,  # noqa: F401  a fixture
)
from tests.test_train import STEPS as STEPS_FLAG

STEPS = 4
CONFIGURATIONS = 20
# What decides a run's course: a few of each kind, so that the uninterrupted runs are shared.
COURSES = [
    {"stage": "1", "loss_normalization": "update"},
    {"stage": "1", "loss_normalization": "published", "time_sampling": "stratified", "learn_padding": "False"},
    {"stage": "2", "loss_normalization": "published", "evaluated": "steps", "load_best_model_at_end": "True"},
    {"stage": "2", "loss_normalization": "update", "evaluated": "epoch", "gradient_checkpointing": "True"},
]
# Another setting in the second start, and how it is refused.
REFUSED = [
    ({"seed": "8"}, "order seed was 7, now 8"),
    ({"gradient_accumulation_steps": "3"}, "order effective_batch_size was"),
    ({"max_grad_norm": "0.5"}, "optimizer max_grad_norm was 1.0, now 0.5"),
    ({"max_seconds": "5"}, "objective max_seconds was 30.0, now 5.0"),
    ({"group_by_length": "True"}, "order group_by_length was False, now True"),
    ({"optim": "adamw_torch_fused"}, "optimizer optim was 'adamw_torch', now 'adamw_torch_fused'"),
]


def write_manifests(folder: Path) -> None:
    """Three clips to train on, so that every second update is filled up, and one to evaluate on."""
    words = ("one two three", "ten", "the speaker is male", "nine")
    entries = [
        {
            "audio_id": f"a{n}", "audio_filepath": str(GOLDEN / f"clip{n % 2}.wav"), "input": "Say it.", "target": word,
            "transcription": word, "dataset": "golden", "duration": 1.0 + n,
        }
        for n, word in enumerate(words)
    ]  # fmt: skip
    (folder / "train.json").write_text(json.dumps(entries[:3]))
    (folder / "dev.json").write_text(json.dumps(entries[3:4]))
    stage1 = load_golden()
    stage1.prepare_training(1)
    stage1.save_pretrained(folder / "stage1")


def flags_of(folder: Path, out: Path, settings: dict[str, str]) -> list[str]:
    flags = {
        "llm_path": str(GOLDEN / "llada"), "whisper_path": str(short_encoder(folder)), "output_dir": str(out),
        "train_dataset_path": str(folder / "train.json"), "max_steps": str(STEPS), "save_steps": "1", "seed": "7",
        "per_device_train_batch_size": "2", "logging_steps": "1", "bf16": "False", "use_cpu": "True",
        "report_to": "none", "disable_tqdm": "True", "warmup_steps": "1", "save_safetensors": "True",
    }  # fmt: skip
    settings = dict(settings)
    if evaluated := settings.pop("evaluated", None):
        flags |= {"eval_dataset_path": str(folder / "dev.json"), "eval_strategy": evaluated, "eval_steps": "1"}
        flags |= {"eval_wer_clips": "0"} if settings["stage"] == "1" else {}
        flags |= {"save_strategy": evaluated} if evaluated == "epoch" else {}
    if settings["stage"] == "2":
        flags["stage1_checkpoint"] = str(folder / "stage1")
    return [part for name, value in (flags | settings).items() for part in (f"--{name}", value)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    write_manifests(folder)
    return folder


class Runs:
    """Starts `train.main` in this process; a request to stop comes with a certain batch, of training or evaluation."""

    def __init__(self, monkeypatch) -> None:
        self.handlers, self.statuses, self.stop_at, self.batches = {}, [], None, itertools.count()
        monkeypatch.setattr(signal, "signal", lambda number, handler: self.handlers.__setitem__(number, handler))
        monkeypatch.setattr(train, "leave", self.statuses.append)
        self.monkeypatch = monkeypatch
        compute_loss = dLLMTrainer.compute_loss

        def watched(trainer, *args, **kwargs):
            if next(self.batches) == self.stop_at:
                self.handlers[signal.SIGTERM](signal.SIGTERM, None)
            return compute_loss(trainer, *args, **kwargs)

        monkeypatch.setattr(dLLMTrainer, "compute_loss", watched)

    def start(self, flags: list[str], stop_at: int | None = None) -> int:
        """The exit status."""
        self.stop_at, self.batches = stop_at, itertools.count()
        self.monkeypatch.setattr(sys, "argv", ["train.py", *flags])
        torch.manual_seed(99)  # another process has other random numbers
        train.main()
        return self.statuses.pop()


WHOLE: dict[int, Path] = {}  # the uninterrupted run of each course, made once


def uninterrupted(runs: Runs, folder: Path, course: int) -> Path:
    if course not in WHOLE:
        WHOLE[course] = folder / f"whole-{course}"
        assert runs.start(flags_of(folder, WHOLE[course], COURSES[course])) == 0
    return WHOLE[course]


def draw(number: int) -> dict:
    """A configuration: its course, how the first run ends, what is other in the second start."""
    dice = random.Random(number)
    course = dice.randrange(len(COURSES))
    ends = dice.choice(["killed", "stopped"])
    changes, reason = {}, None
    # another split of the update gives the same losses where nothing drops out and they are normalized by it
    kind = dice.choice(["none", "workers", "refused", *(["split"] if course == 0 else [])])
    if kind == "workers":
        changes = {"dataloader_num_workers": "1", "logging_steps": "1"}
    if kind == "split":
        changes = {"per_device_train_batch_size": "1", "gradient_accumulation_steps": "2"}
    if kind == "refused":
        changes, reason = dice.choice(REFUSED)
    return {
        "course": course, "ends": ends, "changes": changes, "reason": reason, "step": dice.randrange(1, STEPS),
        "batch": dice.randrange(STEPS - 1),
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("number", range(CONFIGURATIONS))
def test_a_run_that_goes_on_is_one_that_never_stopped_or_the_reason_is_named(tmp_path, monkeypatch, folder, number):
    drawn, runs, out = draw(number), Runs(monkeypatch), tmp_path / "out"
    settings = COURSES[drawn["course"]]
    expected = uninterrupted(runs, folder, drawn["course"])
    if drawn["ends"] == "stopped":
        assert runs.start(flags_of(folder, out, settings), stop_at=drawn["batch"]) == 128 + signal.SIGTERM
    else:  # what a kill after some checkpoint leaves
        for checkpoint in sorted(expected.glob("checkpoint-*")):
            if int(checkpoint.name.rpartition("-")[2]) <= drawn["step"]:
                shutil.copytree(checkpoint, out / checkpoint.name)
        out.mkdir(exist_ok=True)
    flags = flags_of(folder, out, settings | drawn["changes"])
    if drawn["reason"] and list(out.glob("checkpoint-*")):
        with pytest.raises(CheckpointError, match="is of a run with other settings: ") as refusal:
            runs.start(flags)
        assert drawn["reason"] in str(refusal.value)
        return
    assert runs.start(flags) == 0
    close = 1e-5 if "gradient_accumulation_steps" in drawn["changes"] else 0
    found, wanted = log_of(out), log_of(expected)
    assert found.keys() == wanted.keys() and found == pytest.approx(wanted, rel=close, abs=0)
    adapters, wanted_adapters = (load_file(run / "model.safetensors") for run in (out, expected))
    assert adapters.keys() == wanted_adapters.keys()
    for name, tensor in adapters.items():
        torch.testing.assert_close(tensor, wanted_adapters[name], rtol=10 * close, atol=10 * close)


def log_of(run: Path) -> dict[tuple[int, str], float]:
    """Losses by step and name."""
    log = json.loads((run / "trainer_state.json").read_text())["log_history"]
    return {(entry["step"], name): entry[name] for entry in log for name in ("loss", "eval_loss") if name in entry}


def test_the_drawn_configurations_are_of_every_kind():
    drawn = [draw(number) for number in range(CONFIGURATIONS)]
    assert {one["course"] for one in drawn} == set(range(len(COURSES)))
    assert {one["ends"] for one in drawn} == {"killed", "stopped"}
    assert 3 <= sum(bool(one["reason"]) for one in drawn) <= 10
    assert any("dataloader_num_workers" in one["changes"] for one in drawn)
    assert any("per_device_train_batch_size" in one["changes"] for one in drawn)


def draw_ways(number: int) -> tuple[str, str]:
    """How memory is shared out before and after a kill: no two the same."""
    before, after = random.Random(number).sample(("", "dp_config", "zero2", "zero3"), k=2)
    return before, after


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2])
def test_another_way_to_share_memory_goes_on_or_the_reason_is_named(tmp_path, whole, number):  # noqa: F811
    """One process; ZeRO-1 and ZeRO-2 share out the optimizer's state alike."""
    ways = draw_ways(number)
    configs = [way and str(ROOT / "config" / f"{way}.json") for way in ways]
    env = stage2_environment(tmp_path, DS_CONFIG=configs[0])
    process = start("train_stage2.sh", env, STEPS_FLAG)
    read_until_logged(process, 2)
    kill_launcher(process)
    again = run("train_stage2.sh", env | {"DS_CONFIG": configs[1]}, STEPS_FLAG)
    if set(ways) == {"dp_config", "zero2"}:
        assert again.returncode == 0 and steps_logged(again.stdout) <= 11, again.stderr[-3000:]
        same_course(tmp_path / "out", whole("2", "1"))
    else:
        assert again.returncode != 0 and "the optimizer's state was written under" in again.stderr
