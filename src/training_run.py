"""The folder of a training run: which checkpoint a start goes on from, and the record of what the run ran with."""

import dataclasses
import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import IntervalStrategy

from src.checkpoint import CheckpointError
from src.files import write_file
from src.modeling_DIFFA import DIFFAModel
from src.provenance import git_state, versions
from src.training_arguments import DataArguments, DIFFATrainingArguments, ModelArguments, effective_batch_size
from src.training_checkpoint import (
    FINAL,
    RUN_RECORD,
    check_complete,
    last_complete,
    put_aside,
    put_aside_incomplete,
    put_aside_later,
)
from src.training_settings import Settings

LOCK = ".lock"  # in the output folder, for as long as a run is under way


@contextmanager
def output_locked(training_args: DIFFATrainingArguments) -> Iterator[None]:
    """Keep other runs out of the output folder while this one goes on; its first process does so for all.

    The lock is this process's: it goes when the process ends, however it ends. Raises CheckpointError where another
    process has it, naming that one's host and id, and where the folder cannot be written to.
    """
    if training_args.process_index > 0:
        yield
        return
    path = Path(training_args.output_dir) / LOCK
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise CheckpointError(
            f"{path.parent} cannot be written to ({error.strerror}): choose another --output_dir"
        ) from None
    with file:
        lock(file, path.parent)
        yield


def lock(file: TextIO, folder: Path) -> None:
    """Take a file's lock, which processes that are forked do not share, and write into it who has it."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            print(f"warning: {folder}: no locks there ({error.strerror}); let no other run write into it", flush=True)
            return
        file.seek(0)
        raise CheckpointError(
            f"{folder} is in use by another run, {file.read().strip() or 'which has just started'}: wait for its end, "
            "end it, or choose another --output_dir"
        ) from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()


def last_checkpoint(training_args: DIFFATrainingArguments) -> Path | None:
    """The checkpoint to go on from: the one asked for, else the last complete one in the output folder, if any.

    Nothing is moved yet. Raises CheckpointError where a new run would write over what another one ended with.
    """
    if training_args.resume_from_checkpoint:
        checkpoint = Path(training_args.resume_from_checkpoint)
        check_complete(checkpoint)
        return checkpoint
    return None if training_args.overwrite_output_dir else check_not_final(Path(training_args.output_dir))


def make_way(training_args: DIFFATrainingArguments, checkpoint: Path | None) -> None:
    """Move aside what the run to come must not find in its folder, once nothing can refuse it any more."""
    output_dir = Path(training_args.output_dir)
    with training_args.main_process_first(local=False):
        if training_args.resume_from_checkpoint:
            step = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME)).global_step
            if aside := put_aside_later(output_dir, step):
                print(f"{aside}: the checkpoints of more than {step} steps are there now", flush=True)
            return
        if training_args.overwrite_output_dir and (aside := put_aside(output_dir)):
            print(f"{aside}: what {output_dir} held of an earlier run is there now", flush=True)
        for path in put_aside_incomplete(output_dir):
            print(f"{path}: this checkpoint is incomplete, so it was given another name and is not used", flush=True)


def find_best(state: TrainerState, checkpoint: Path) -> str:
    """Let the state that a checkpoint brings name the best one where it lies now: beside that checkpoint, since the
    folder may have been moved, else where the state says, since the run may have begun in another folder.

    Where it is gone, the state forgets it. Returns what is to be told.
    """
    if not state.best_model_checkpoint:
        return ""
    best = checkpoint.parent / Path(state.best_model_checkpoint).name
    for place in (best, Path(state.best_model_checkpoint)):
        if place.exists():
            state.best_model_checkpoint = str(place)
            return ""
    state.best_model_checkpoint = state.best_metric = None
    return f"{best}, the best checkpoint so far, is gone and does not count any more"


def check_not_final(output_dir: Path) -> Path | None:
    """The last complete checkpoint, if any. Raises CheckpointError where there is none, and what a run ended with."""
    checkpoint = last_complete(output_dir)
    if not checkpoint and (output_dir / FINAL[0]).exists():
        raise CheckpointError(
            f"{output_dir} holds {FINAL[0]}, what a run ended with, and no checkpoint to go on from: training would "
            "write over it. Choose another --output_dir, or pass --overwrite_output_dir True, which moves it aside"
        )
    return checkpoint


def has_ended(output_dir: Path, step: int) -> bool:
    """Whether the output folder holds the adapters of a run that ended at a step; its state is written after them."""
    model, state = output_dir / FINAL[0], output_dir / TRAINER_STATE_NAME
    return model.exists() and state.exists() and TrainerState.load_from_json(str(state)).global_step == step


def evaluation_is_due(args: DIFFATrainingArguments, state: TrainerState, last_step: int) -> bool:
    """Whether a checkpoint was written where an evaluation should have been, which a request to stop prevented.

    The last step ends an epoch as well, wherever in it the run ends.
    """
    if args.eval_strategy == IntervalStrategy.STEPS:
        is_time = state.global_step % state.eval_steps == 0 and state.global_step >= args.eval_delay
    else:
        epoch_ends = state.epoch == round(state.epoch) or state.global_step >= last_step
        is_time = args.eval_strategy == IntervalStrategy.EPOCH and epoch_ends and state.epoch >= args.eval_delay
    evaluated = any(entry["step"] == state.global_step and "eval_loss" in entry for entry in state.log_history)
    return is_time and state.global_step > 0 and not evaluated


def describe(model: DIFFAModel, num_samples: int, training_args: DIFFATrainingArguments) -> None:
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    print(
        f"{num_samples} samples, effective batch size {effective_batch_size(training_args)}; "
        f"training {trained / 1e6:.1f} M of {total / 1e6:.1f} M parameters",
        flush=True,
    )
    print(training_args.precision, flush=True)


def write_run(
    model_args: ModelArguments,
    data_args: DataArguments,
    training_args: DIFFATrainingArguments,
    settings: Settings,
) -> None:
    """Write `run.json` beside the checkpoints: options, precision, versions, and `fixed_settings`."""
    run = {
        "model": dataclasses.asdict(model_args),
        "data": dataclasses.asdict(data_args),
        "training": training_args.to_dict(),  # Trainer's own way: it blanks tokens
        "precision": dataclasses.asdict(training_args.precision),
        "versions": versions(),
        "git": git_state(),
        **settings,
    }
    folder = Path(training_args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / RUN_RECORD, json.dumps(run, indent=2, default=str) + "\n")
