"""A corpus's files as people have them: unpacked deeper, renamed to another case, saved in another encoding."""

import codecs
from collections.abc import Callable
from pathlib import Path

from src.errors import UserError

SOUND = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".sph")  # endings of audio files
MAX_NAMES_SHOWN = 8


class CorpusError(UserError):
    """A corpus that is not as its publisher ships it, or flags that do not fit it; the message says what to do."""


def any_case(pattern: str) -> str:
    """A glob pattern in which case does not count."""
    in_brackets, parts = False, []
    for character in pattern:
        in_brackets = character == "[" or (in_brackets and character != "]")
        both = character.lower() + character.upper()
        parts.append(f"[{both}]" if len(both) == 2 and both[0] != both[1] and not in_brackets else character)
    return "".join(parts)


def member(folder: Path, *names: str) -> Path:
    """`folder`/names, in the case that it has there; as it is spelled where there is none."""
    for name in names:
        found = folder / name
        if not found.exists() and folder.is_dir():
            same = (path for path in folder.iterdir() if path.name.casefold() == name.casefold())
            found = next(same, found)
        folder = found
    return folder


def find_files(folder: Path, *patterns: str) -> list[Path]:
    """Files by patterns of their paths in any case, sorted; without hidden ones, which a Macintosh leaves."""
    paths = {path for pattern in patterns for path in folder.glob(any_case(pattern))}
    return sorted(path for path in paths if not path.name.startswith("."))


def find_audio(folder: Path, *patterns: str) -> list[Path]:
    """`find_files` of those that are audio by their names."""
    return [path for path in find_files(folder, *patterns) if path.suffix.lower() in SOUND]


def find_roots(root: Path, marker: str, layout: str) -> list[Path]:
    """The folders that hold `marker`, as one archive or several unpack: the root, or up to two folders below it.

    Raises CorpusError where there is none, with what is expected (`layout`) and what is there instead.
    """
    folders = [root, *sorted(folder for depth in ("*", "*/*") for folder in root.glob(depth) if folder.is_dir())]
    found = [folder for folder in folders if member(folder, marker).exists()]
    if not found:
        there = sorted(path.name for path in root.glob("[!.]*"))
        shown = ", ".join(there[:MAX_NAMES_SHOWN]) + (", ..." if len(there) > MAX_NAMES_SHOWN else "")
        raise CorpusError(
            f"{root} holds no {marker}, nor does a folder in it. Expected {layout}; found {shown or 'nothing'}"
        )
    return found


def read_text(path: Path) -> str:
    """A text file in UTF-8, in UTF-16 with its mark, or else in Windows-1252, as corpora of the 2000s have it.

    Raises CorpusError where it cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror}; check the path") from None
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def read_lines(path: Path) -> list[str]:
    """The lines of `read_text`, whatever they end with."""
    return read_text(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")


def by_any_case(names: dict) -> Callable[[str], object]:
    """Looks names up of which a corpus may have changed the case; None for one that is not there."""
    folded = {name.casefold(): value for name, value in names.items()}
    return lambda name: folded.get(name.casefold())
