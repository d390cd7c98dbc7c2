"""Checkpoints of a training run: written under a temporary name, and renamed when they are complete."""

import errno
import json
import os
import re
import shutil
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from src.checkpoint import CheckpointError
from src.files import write_file

RUN_RECORD = "run.json"  # what a run ran with, beside its checkpoints
FINAL = ("model.safetensors", "config.json", "trainer_state.json", RUN_RECORD)  # files of a run, beside its checkpoints
SETTINGS = "settings.json"  # in each checkpoint: what a run that goes on from it must keep
UNFINISHED = "unfinished"  # the folder, beside the checkpoints, where the next one is written
CONTENTS = "contents.json"  # in each checkpoint: its files and their sizes in bytes


def finish(folder: Path, checkpoint: Path) -> None:
    """Put the list of contents into a folder, bring it to the disk, and make it `checkpoint`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in files}
    write_file(folder / CONTENTS, json.dumps(sizes, indent=1) + "\n")
    for path in (*folder.rglob("*"), folder):  # a machine that loses power does not lose what was renamed before
        sync(path)
    replaced = folder.with_name(f"replaced-{folder.name}")
    if checkpoint.exists():
        checkpoint.rename(replaced)
    folder.rename(checkpoint)
    sync(checkpoint.parent)
    shutil.rmtree(replaced, ignore_errors=True)  # the old one only goes once the new one is sure to stay


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if not (path.is_dir() and error.errno == errno.EINVAL):  # some file systems cannot do it for folders
            raise
    finally:
        os.close(handle)


def is_complete(checkpoint: Path) -> bool:
    """Whether a checkpoint holds every file it was finished with, at its full size."""
    try:
        sizes = json.loads((checkpoint / CONTENTS).read_text())
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


def checkpoints(output_dir: Path) -> list[Path]:
    """The `checkpoint-N` folders of a run, the latest first."""
    found = (path for path in output_dir.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name))
    return sorted(found, key=step_of, reverse=True)


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint's name tells."""
    return int(checkpoint.name.rpartition("-")[2])


def last_complete(output_dir: Path) -> Path | None:
    """The latest checkpoint to go on from; None if there is none."""
    return next((path for path in checkpoints(output_dir) if is_complete(path)), None)


def put_aside_incomplete(output_dir: Path) -> list[Path]:
    """Rename incomplete checkpoints, so that nothing takes them for good ones; returns their new names."""
    aside = []
    for path in checkpoints(output_dir):
        if not is_complete(path):
            new = path.with_name(f"incomplete-{path.name}")
            shutil.rmtree(new, ignore_errors=True)
            aside.append(path.rename(new))
    return aside


def put_aside(output_dir: Path) -> Path | None:
    """Move a run's checkpoints and final files into a new folder beside them, so that another run can start afresh.

    Left there, a checkpoint of more steps would count as later than the new run's. Returns the folder; None if the run
    has left no weights.
    """
    final = [path for name in FINAL if (path := output_dir / name).exists()]
    if not checkpoints(output_dir) and output_dir / "model.safetensors" not in final:
        return None
    return move_aside(output_dir, [*checkpoints(output_dir), *final])


def put_aside_later(output_dir: Path, step: int) -> Path | None:
    """Move checkpoints of more than `step` steps into a new folder beside the others, so that a run can go back there.

    Left there, they would count as later than those to come, which would be deleted in their place. Returns the folder;
    None where there are none.
    """
    later = [path for path in checkpoints(output_dir) if step_of(path) > step]
    return move_aside(output_dir, later) if later else None


def move_aside(output_dir: Path, paths: Sequence[Path]) -> Path:
    aside = next(path for number in count(1) if not (path := output_dir / f"overwritten-{number}").exists())
    aside.mkdir()
    for path in paths:
        path.rename(aside / path.name)
    return aside


def check_complete(checkpoint: Path) -> None:
    """Raise CheckpointError unless a checkpoint is complete."""
    if not is_complete(checkpoint):
        raise CheckpointError(
            f"{checkpoint} is not a complete checkpoint of a training run: files that its {CONTENTS} lists are missing "
            "or cut short, or it has no such list; resume from another one"
        )
