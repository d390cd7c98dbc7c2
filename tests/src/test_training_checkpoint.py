import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from src import training_checkpoint
from src.checkpoint import CheckpointError
from src.training_checkpoint import check_complete, finish, is_complete, last_complete, put_aside, put_aside_incomplete


def checkpoint(run: Path, step: int) -> Path:
    folder = run / "unfinished" / f"checkpoint-{step}"
    (folder / "global_step1").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights" * 10)
    (folder / "global_step1" / "optim.pt").write_bytes(b"moments" * 20)
    finish(folder, run / folder.name)
    return run / folder.name


def test_a_finished_checkpoint_lists_its_files_and_their_sizes(tmp_path):
    folder = checkpoint(tmp_path, 3)
    assert is_complete(folder) and not (tmp_path / "unfinished" / "checkpoint-3").exists()
    sizes = json.loads((folder / "contents.json").read_text())
    assert sizes == {"model.safetensors": 70, "global_step1/optim.pt": 140}
    check_complete(folder)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "model.safetensors").write_bytes(b"weights"),
        lambda folder: (folder / "global_step1" / "optim.pt").unlink(),
        lambda folder: (folder / "contents.json").unlink(),
        lambda folder: (folder / "contents.json").write_text('{"model.saf'),
        lambda folder: [path.unlink() for path in folder.rglob("*") if path.is_file()],
    ],
)  # fmt: skip
def test_a_damaged_checkpoint_is_passed_over(tmp_path, damage):
    good, bad = checkpoint(tmp_path, 9), checkpoint(tmp_path, 10)
    assert last_complete(tmp_path) == bad  # by number, not by name
    damage(bad)
    assert last_complete(tmp_path) == good
    with pytest.raises(CheckpointError, match=r"checkpoint-10 is not a complete checkpoint of a training run"):
        check_complete(bad)
    assert put_aside_incomplete(tmp_path) == [tmp_path / "incomplete-checkpoint-10"]
    assert [path.name for path in sorted(tmp_path.glob("checkpoint-*"))] == ["checkpoint-9"]
    assert put_aside_incomplete(tmp_path) == []


def test_an_earlier_run_is_put_aside_whole(tmp_path):
    assert put_aside(tmp_path / "nowhere") is None
    (tmp_path / "run.json").touch()  # of a start that left no weights
    assert put_aside(tmp_path) is None
    for number in (1, 2):
        checkpoint(tmp_path, 10 * number)
        (tmp_path / "run.json").touch()
        (tmp_path / "model.safetensors").touch()
        aside = tmp_path / f"overwritten-{number}"
        assert put_aside(tmp_path) == aside and is_complete(aside / f"checkpoint-{10 * number}")
        assert {path.name for path in aside.iterdir()} == {f"checkpoint-{10 * number}", "run.json", "model.safetensors"}
    assert {path.name for path in tmp_path.iterdir()} == {"overwritten-1", "overwritten-2", "unfinished"}


def test_there_may_be_none(tmp_path):
    assert last_complete(tmp_path) is None and last_complete(tmp_path / "nowhere") is None
    (tmp_path / "checkpoint-best").mkdir()  # not one of training's own
    assert last_complete(tmp_path) is None and put_aside_incomplete(tmp_path) == []


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path):
    (checkpoint(tmp_path, 3) / "stale").touch()
    assert not (checkpoint(tmp_path, 3) / "stale").exists() and is_complete(tmp_path / "checkpoint-3")


def test_a_checkpoint_is_on_the_disk_before_it_takes_anothers_place(tmp_path, monkeypatch):
    old, synced, removed = checkpoint(tmp_path, 3), [], []
    remove = shutil.rmtree
    monkeypatch.setattr(training_checkpoint, "sync", synced.append)
    monkeypatch.setattr(shutil, "rmtree", lambda path, **_: (removed.append((path.name, synced[-1])), remove(path)))
    checkpoint(tmp_path, 3)
    new = tmp_path / "unfinished" / "checkpoint-3"
    files = {new / "model.safetensors", new / "global_step1" / "optim.pt", new / "contents.json"}
    assert set(synced[:-1]) == files | {new / "global_step1", new} and synced[-1] == tmp_path
    assert removed == [("replaced-checkpoint-3", tmp_path)] and is_complete(old)


def test_folders_are_synced_where_the_file_system_can(tmp_path, monkeypatch):
    def refuse(_):
        raise OSError(errno.EINVAL, "Invalid argument")

    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file"):
        training_checkpoint.sync(path)
    monkeypatch.setattr(os, "fsync", refuse)
    training_checkpoint.sync(tmp_path)
    with pytest.raises(OSError, match="Invalid argument"):
        training_checkpoint.sync(tmp_path / "file")
