"""What a run's folder says of it, and whether a second start is the same run."""

import pytest

from src import training_run
from src.checkpoint import CheckpointError
from tests.src.test_training_arguments import parsed


def test_an_incomplete_checkpoint_is_not_resumed_from(tmp_path, capsys):
    (tmp_path / "checkpoint-3").mkdir()
    args = parsed(tmp_path, "--resume_from_checkpoint", str(tmp_path / "checkpoint-3"))[2]
    with pytest.raises(CheckpointError, match="checkpoint-3 is not a complete checkpoint"):
        training_run.last_checkpoint(args)
    assert training_run.last_checkpoint(parsed(tmp_path)[2]) is None
    assert "incomplete-checkpoint-3: this checkpoint is incomplete" in capsys.readouterr().out


def test_starting_over_puts_the_old_run_out_of_reach(tmp_path, capsys):
    """Its checkpoint-22000 would be the one to keep and to go on from, rather than the new run's checkpoint-1000."""
    (tmp_path / "checkpoint-22000").mkdir()
    (tmp_path / "checkpoint-22000" / "contents.json").write_text("{}")
    assert training_run.last_checkpoint(parsed(tmp_path)[2]) == tmp_path / "checkpoint-22000"
    assert training_run.last_checkpoint(parsed(tmp_path, "--overwrite_output_dir", "True")[2]) is None
    assert "overwritten-1: what " in capsys.readouterr().out
    assert (tmp_path / "overwritten-1" / "checkpoint-22000").exists()
    assert training_run.last_checkpoint(parsed(tmp_path)[2]) is None
