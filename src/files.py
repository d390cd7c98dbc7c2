"""Writing files whole or not at all, and never over what was given as input."""

import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from src.errors import UserError

MAX_NAME_BYTES = 255  # of a file's name, on the usual file systems
LONGEST_SUFFIX = ".replies.jsonl.meta.json.partial"  # at most added to an output's name, for files beside it
NO_FILES = ("/dev", "/proc")  # folders of devices and of processes' open files, such as /dev/stdout


class OutputError(UserError):
    """A place that nothing can or may be written to; the message names it and says why."""


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name and rename it, so that a reader never sees half of it.

    A link is followed. Half a surrogate pair, which UTF-8 cannot hold, is written as JSON escapes it: `\\ud83d`.
    Raises OutputError for a device.
    """
    path = place_of(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_bytes(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)
    temporary.replace(path)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to write into, which gets its name `path` at the end, and does not stay where something fails.

    Raises OutputError where there is something at `path` already, other than an empty folder.
    """
    place = Path(os.path.realpath(path))
    if place.exists() and not (place.is_dir() and not any(place.iterdir())):
        raise OutputError(f"{path} holds something already; choose another folder, or remove it")
    temporary = place.with_name(f".{place.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
    temporary.mkdir(parents=True)
    try:
        yield temporary
        temporary.rename(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def place_of(path: Path) -> Path:
    """Where a file comes to lie: links are followed. Raises OutputError for a device and for a folder."""
    place = Path(os.path.realpath(path))
    for name in (Path(os.path.abspath(path)), place):
        if any(name.is_relative_to(folder) for folder in NO_FILES) and not name.is_relative_to("/dev/shm"):
            raise OutputError(f"{path} is a device, no file, and nothing can be renamed to it; pass a file's path")
    try:
        mode = place.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return place
    if stat.S_ISLNK(mode):
        raise OutputError(f"{path} is a link that leads back to itself; pass another path")
    if stat.S_ISDIR(mode):
        raise OutputError(f"{path} is a folder; pass the path of a file, perhaps one in it")
    if not stat.S_ISREG(mode):
        raise OutputError(f"{path} is a device, a pipe or a socket, no file; pass a file's path")
    return place


def check_outputs(outputs: Iterable[Path | None], inputs: Iterable[Path | None]) -> None:
    """Raise OutputError for a file that cannot be written, or that is one of the inputs; None stands for no path.

    For the start of a script, before anything is loaded: files that links and hard links lead to count as the same.
    """
    existing = {}
    for output in filter(None, outputs):
        try:
            place = place_of(output)
            check_parents(output, place)
            if place.exists():
                found = place.stat()
                existing[found.st_dev, found.st_ino] = output
        except OSError as error:  # a name that is too long, a folder that may not be looked into, a file as a folder
            raise OutputError(f"{shortened(output)} cannot be written: {error.strerror}; pass another path") from None
    for path in filter(None, inputs) if existing else ():
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            continue  # its reader says so
        if output := existing.get((found.st_dev, found.st_ino)):
            raise OutputError(f"{output} would be overwritten, and it is an input ({path}); choose another output")


def check_output_folder(folder: Path, inputs: Iterable[Path | str | None]) -> None:
    """Raise OutputError for a folder that cannot be made, or that is one of the input folders."""
    try:
        place = Path(os.path.realpath(folder))
        if place.exists() and not place.is_dir():
            raise OutputError(f"{folder} is no folder; pass another path")
        check_parents(folder, place / "file")
        same = [path for path in filter(None, inputs) if os.path.isdir(path) and os.path.realpath(path) == str(place)]
    except OSError as error:
        raise OutputError(f"{shortened(folder)} cannot be written: {error.strerror}; pass another path") from None
    if same:
        raise OutputError(f"{folder} would be overwritten, and it is an input ({same[0]}); choose another folder")


def check_parents(path: Path, place: Path) -> None:
    """Raise OutputError where `place`, which `path` leads to, has a name that is too long or lies under a file."""
    if len(os.fsencode(place.name)) + len(LONGEST_SUFFIX) + 1 > MAX_NAME_BYTES:
        raise OutputError(
            f"{shortened(path)}: the name has {len(os.fsencode(place.name))} bytes, expected at most "
            f"{MAX_NAME_BYTES - len(LONGEST_SUFFIX) - 1}; choose a shorter one"
        )
    parent = next(parent for parent in place.parents if parent.exists())
    if not parent.is_dir():
        raise OutputError(f"{path} lies under {parent}, which is a file, no folder; pass another path")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: nothing may be written in {parent}; pass another path")


def shortened(path: Path) -> str:
    text = str(path)
    return text if len(text) <= 80 else f"{text[:80]}..."
