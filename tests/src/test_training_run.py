import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers.trainer_callback import TrainerState

from src import training_run
from src.checkpoint import CheckpointError
from tests.src.test_training_arguments import parsed

ROOT = Path(__file__).parents[2]


def start(tmp_path: Path, *flags: str) -> Path | None:
    """What a start goes on from, after it has made way; choosing it moves nothing."""
    args = parsed(tmp_path, *flags)[2]
    before = sorted(tmp_path.rglob("*"))
    checkpoint = training_run.last_checkpoint(args)
    assert sorted(tmp_path.rglob("*")) == before
    training_run.make_way(args, checkpoint)
    return checkpoint


def test_an_incomplete_checkpoint_is_not_resumed_from(tmp_path, capsys):
    (tmp_path / "checkpoint-3").mkdir()
    args = parsed(tmp_path, "--resume_from_checkpoint", str(tmp_path / "checkpoint-3"))[2]
    with pytest.raises(CheckpointError, match="checkpoint-3 is not a complete checkpoint"):
        training_run.last_checkpoint(args)
    assert start(tmp_path) is None
    assert "incomplete-checkpoint-3: this checkpoint is incomplete" in capsys.readouterr().out


def test_starting_over_puts_the_old_run_out_of_reach(tmp_path, capsys):
    """Its checkpoint-22000 would be the one to keep and to go on from, rather than the new run's checkpoint-1000."""
    (tmp_path / "checkpoint-22000").mkdir()
    (tmp_path / "checkpoint-22000" / "contents.json").write_text("{}")
    assert start(tmp_path) == tmp_path / "checkpoint-22000"
    assert start(tmp_path, "--overwrite_output_dir", "True") is None
    assert "overwritten-1: what " in capsys.readouterr().out
    assert (tmp_path / "overwritten-1" / "checkpoint-22000").exists()
    assert start(tmp_path) is None


def test_going_back_puts_later_checkpoints_out_of_reach(tmp_path, capsys):
    """Else those to come would be deleted as the older ones, and the next start would go on from the abandoned run."""
    for step in (3, 6, 8):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
        (folder / "contents.json").write_text("{}")
    back = ["--resume_from_checkpoint", str(tmp_path / "checkpoint-6")]
    assert start(tmp_path, *back) == tmp_path / "checkpoint-6"
    assert "overwritten-1: the checkpoints of more than 6 steps are there now" in capsys.readouterr().out
    assert (tmp_path / "overwritten-1" / "checkpoint-8").exists() and (tmp_path / "checkpoint-3").exists()
    assert start(tmp_path) == start(tmp_path, *back) == tmp_path / "checkpoint-6"
    assert capsys.readouterr().out == "" and not (tmp_path / "overwritten-2").exists()


def test_what_a_run_ended_with_is_not_written_over(tmp_path):
    """The adapters of stage 1, for one, by stage 2, where the checkpoints beside them were removed to save space."""
    (tmp_path / "model.safetensors").touch()
    message = r"holds model\.safetensors, what a run ended with, and no checkpoint .*: training would write over it\. "
    with pytest.raises(CheckpointError, match=message + "Choose another --output_dir, or pass --overwrite_output_dir"):
        training_run.last_checkpoint(parsed(tmp_path)[2])
    assert start(tmp_path, "--overwrite_output_dir", "True") is None
    assert (tmp_path / "overwritten-1" / "model.safetensors").exists()


def test_the_best_checkpoint_is_looked_for_beside_the_last_and_where_it_was(tmp_path):
    """A run may have gone on in another folder, from a checkpoint of the first, which has the best one."""
    last, recorded = tmp_path / "B" / "checkpoint-4", tmp_path / "A" / "checkpoint-1"
    beside = last.with_name("checkpoint-1")

    def found() -> tuple[str, str | None, float | None]:
        state = TrainerState(best_model_checkpoint=str(recorded), best_metric=2.0)
        told = training_run.find_best(state, last)
        return told, state.best_model_checkpoint, state.best_metric

    recorded.mkdir(parents=True)
    assert found() == ("", str(recorded), 2.0)
    beside.mkdir(parents=True)
    assert found() == ("", str(beside), 2.0)
    recorded.rmdir()
    beside.rmdir()
    told, *best = found()
    assert told.startswith(f"{beside}, the best checkpoint so far, is gone") and best == [None, None]


HOLD = """
import sys, time
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
from src.training_run import output_locked
with output_locked(SimpleNamespace(process_index=0, output_dir=sys.argv[2])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_an_output_folder_is_one_runs_at_a_time(tmp_path):
    """Until its process ends, by kill -9 too, though the file stays and a process that it forked lives on."""
    args = SimpleNamespace(process_index=0, output_dir=str(tmp_path / "out"))
    hold = HOLD.replace("    print(", "    import os\n    if os.fork() == 0:\n        time.sleep(600)\n    print(")
    command = [sys.executable, "-c", hold, str(ROOT), args.output_dir]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout.readline() == "held\n"
        message = rf"out is in use by another run, process {process.pid} on {socket.gethostname()}: wait for its end, "
        with pytest.raises(CheckpointError, match=message), training_run.output_locked(args):
            pass
        with training_run.output_locked(SimpleNamespace(process_index=1, output_dir=args.output_dir)):
            pass  # the first process of a run has the lock for all
        process.kill()
        process.wait()
        with training_run.output_locked(args):
            assert (tmp_path / "out" / ".lock").read_text() == f"process {os.getpid()} on {socket.gethostname()}\n"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()


def test_an_output_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").touch()
    args = SimpleNamespace(process_index=0, output_dir=str(tmp_path / "file" / "out"))
    with pytest.raises(CheckpointError, match=r"file/out cannot be written to \(Not a directory\): choose another"):
        training_run.output_locked(args).__enter__()
