"""Checkpoints of a training run. Each is written under another name, and gets its own when it is whole."""

import json
import os
import re
import shutil
from pathlib import Path

from src.checkpoint import CheckpointError
from src.files import write_file

UNFINISHED = "unfinished"  # the folder, beside the checkpoints, where the next one is written
CONTENTS = "contents.json"  # in each checkpoint: its files and their sizes in bytes


def finish(folder: Path, checkpoint: Path) -> None:
    """Put the list of contents into a folder, bring it to the disk, and make it `checkpoint`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in files}
    write_file(folder / CONTENTS, json.dumps(sizes, indent=1) + "\n")
    for path in (*files, folder / CONTENTS):  # a machine that loses power does not lose what was renamed before
        with path.open("rb") as file:
            os.fsync(file.fileno())
    if checkpoint.exists():
        shutil.rmtree(checkpoint)
    folder.rename(checkpoint)


def is_complete(checkpoint: Path) -> bool:
    """Whether a checkpoint holds every file it was finished with, at its full size."""
    try:
        sizes = json.loads((checkpoint / CONTENTS).read_text())
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


def checkpoints(output_dir: Path) -> list[Path]:
    """The `checkpoint-N` folders of a run, the latest first."""
    numbers = {path: re.fullmatch(r"checkpoint-(\d+)", path.name) for path in output_dir.glob("checkpoint-*")}
    return sorted((path for path in numbers if numbers[path]), key=lambda path: -int(numbers[path][1]))


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


def check_complete(checkpoint: Path) -> None:
    """Raise CheckpointError unless a checkpoint is complete."""
    if not is_complete(checkpoint):
        raise CheckpointError(
            f"{checkpoint} is not a complete checkpoint of a training run: files that its {CONTENTS} lists are missing "
            "or cut short, or it has no such list; resume from another one"
        )
