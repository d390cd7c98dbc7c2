from pathlib import Path

import pytest
import torch

from src import adapter_trainer
from src.checkpoint import CheckpointError
from src.training_checkpoint import is_complete
from tests.src.test_sft_trainer import trained


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("file write failed")])
def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(tmp_path, monkeypatch, error):
    save = torch.save

    def full_disk(value, path, *args, **kwargs):
        if "checkpoint-2" in str(path) and "optimizer" in str(path):
            Path(path).write_bytes(b"the first half")
            raise error
        save(value, path, *args, **kwargs)

    monkeypatch.setattr(torch, "save", full_disk)
    message = r"checkpoint-2 could not be written, with \d+ MB free on its disk: .*(No space|write failed).*"
    with pytest.raises(CheckpointError, match=message + r"The last complete checkpoint is .*checkpoint-1; make room"):
        trained(1, tmp_path, save_total_limit=1)
    assert is_complete(tmp_path / "checkpoint-1") and not (tmp_path / "checkpoint-2").exists()
    assert not (tmp_path / "unfinished").exists()
    monkeypatch.undo()
    trained(1, tmp_path, resume=tmp_path / "checkpoint-1", save_total_limit=1)
    assert is_complete(tmp_path / "checkpoint-2") and not (tmp_path / "checkpoint-1").exists()


def test_a_kill_while_a_checkpoint_is_written_leaves_nothing_that_looks_like_one(tmp_path, monkeypatch):
    class Killed(BaseException):
        """Like SIGKILL, no handler runs."""

    def kill(*_):
        monkeypatch.setattr(adapter_trainer.shutil, "rmtree", lambda *_, **__: None)
        raise Killed

    monkeypatch.setattr(adapter_trainer, "finish", kill)  # everything is written, but for the list of contents
    with pytest.raises(Killed):
        trained(1, tmp_path)
    assert not list(tmp_path.glob("checkpoint-*")) and (tmp_path / "unfinished" / "checkpoint-1").is_dir()
    monkeypatch.undo()
    trained(1, tmp_path)
    assert is_complete(tmp_path / "checkpoint-1") and not (tmp_path / "unfinished").exists()
