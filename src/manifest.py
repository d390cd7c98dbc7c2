"""Training manifests: a JSON list, or JSON Lines, of samples; read and checked before anything expensive starts.

    python -m src.manifest check data/librispeech.json

finds everything wrong with a manifest and its audio in one pass (src/manifest_check.py).
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.files import write_file

REQUIRED = {
    "audio_id": str,
    "audio_filepath": str,
    "input": str,
    "target": str,
    "transcription": str,
    "dataset": str,
    "duration": (int, float),
}
LONGEST = 86_400  # seconds; a longer clip is a mistake


class ManifestError(ValueError):
    """A manifest that cannot be used; the message names the file, the entry and the key."""


@dataclass(frozen=True)
class Sample:
    """One training sample."""

    audio_id: str
    audio_filepath: Path  # resolved against the manifest's folder
    input: str  # the instruction
    target: str  # the answer to learn
    transcription: str
    dataset: str
    duration: float  # seconds
    extra: Mapping[str, Any]  # keys that nothing here reads, passed through


@dataclass(frozen=True)
class Entry:
    """One parsed entry of a manifest, right or wrong."""

    place: str  # "line 3" in JSON Lines, "line 3, entry 2" in a JSON list; both count from 1
    value: Any
    problems: tuple[str, ...]  # why it cannot be a sample, in words


def read_manifest(path: str | os.PathLike) -> list[Sample]:
    """Read a manifest; relative audio paths resolve against its folder.

    Raises ManifestError when the file is missing, is neither a JSON list nor JSON Lines, is empty, or has an entry
    with a missing key or a value of the wrong type; the message names the entry and says what was expected.
    """
    samples, folder = [], Path(path).parent
    for entry in read_entries(path):
        if entry.problems:
            raise ManifestError(f"manifest {path}, {entry.place}: {'; '.join(entry.problems)}")
        samples.append(to_sample(entry.value, folder))
    return samples


def to_sample(value: Mapping[str, Any], folder: Path) -> Sample:
    """The sample of an entry without problems."""
    known = {key: value[key] for key in REQUIRED} | {"audio_filepath": folder / value["audio_filepath"]}
    return Sample(**known, extra={key: value[key] for key in value if key not in REQUIRED})


def read_entries(path: str | os.PathLike) -> Iterator[Entry]:
    """Yield every entry, the wrong ones with their problems.

    Raises ManifestError where nothing more can be read, or there is nothing to read.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise ManifestError(f"manifest {path} is not UTF-8 text: {error}") from None
        raise ManifestError(f"manifest {path} cannot be read: {getattr(error, 'strerror', error)}") from None
    parsed = parse_list(text, path) if text.lstrip().startswith("[") else parse_lines(text)
    empty = True
    for place, value, problem in parsed:
        empty = False
        yield Entry(place, value, (problem,) if problem else tuple(problems_of(value)))
    if empty:
        raise ManifestError(f"manifest {path} is empty: it has no samples to train on")


def parse_lines(text: str) -> Iterator[tuple[str, Any, str]]:
    """Yield (place, value, problem) for each line of JSON Lines; the problem is empty where the line is JSON."""
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: strings may hold other line separators
        if line.strip():
            try:
                yield f"line {number}", json.loads(line), ""
            except (ValueError, RecursionError) as error:
                yield f"line {number}", None, f"not valid JSON: {error}"


def parse_list(text: str, path: str | os.PathLike) -> Iterator[tuple[str, Any, str]]:
    """Yield (place, value, "") for each element of a JSON list, telling the line that each begins on.

    Raises ManifestError where the text stops being JSON: what follows cannot be told apart.
    """
    parser, number, line, counted = json.JSONDecoder(), 0, 1, 0  # `line` holds the line breaks before `counted`
    position, delimiter = text.index("["), "["
    try:
        while delimiter != "]":
            position = skip_space(text, position + 1)
            if delimiter == "[" and text[position : position + 1] == "]":
                break  # an empty list
            value, end = parser.raw_decode(text, position)
            number, line, counted = number + 1, line + text.count("\n", counted, position), position
            yield f"line {line}, entry {number}", value, ""
            position = skip_space(text, end)
            delimiter = text[position : position + 1]
            if delimiter not in (",", "]"):
                raise json.JSONDecodeError("Expecting ',' or ']'", text, position)
        rest = skip_space(text, position + 1)
        if rest < len(text):
            raise json.JSONDecodeError("Extra data after the list", text, rest)
    except json.JSONDecodeError as error:
        raise ManifestError(f"manifest {path} is not valid JSON: {error}") from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, lists in lists in lists
        raise ManifestError(f"manifest {path} is not valid JSON behind line {line}: {error}") from None


def skip_space(text: str, position: int) -> int:
    """The next position that holds no JSON white space."""
    while text[position : position + 1] in (" ", "\t", "\n", "\r"):
        position += 1
    return position


def problems_of(value: Any) -> Iterator[str]:
    """Say in words why a parsed entry cannot be a sample; nothing for one that can."""
    if not isinstance(value, dict):
        yield f"expected an object with keys, found {type(value).__name__}"
        return
    missing = [key for key in REQUIRED if key not in value]
    if missing:
        yield f"missing {', '.join(missing)}; every sample needs {', '.join(REQUIRED)}"
    for key, kind in REQUIRED.items():
        if key not in value:
            continue
        found = value[key]
        if not isinstance(found, kind) or isinstance(found, bool):
            yield f"{key} is {shorten(found)}; expected {'a number' if key == 'duration' else 'a string'}"
        elif kind is str and not is_unicode(found):
            yield f"{key} is {shorten(found)}, which holds half a surrogate pair; expected Unicode text"
        elif kind is not str and not 0 < found < LONGEST:
            yield f"duration is {shorten(found)}; expected seconds, more than 0 and less than a day"


def is_unicode(text: str) -> bool:
    """Whether a string can be encoded; JSON's \\u escapes can spell strings that no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shorten(value: Any, limit: int = 60) -> str:
    """A value in a message: lists and objects by their type, the rest as `ascii` gives it, cut where it gets long."""
    if isinstance(value, (list, dict)):
        return f"a {type(value).__name__}"
    text = ascii(value)
    return text if len(text) <= limit else f"{text[:limit]}..."


def write_manifest(path: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Write a manifest, one entry a line: JSON Lines if the name ends in .jsonl, else a JSON list."""
    lines = [json.dumps(entry, ensure_ascii=False) for entry in entries]
    text = "".join(f"{line}\n" for line in lines) if path.suffix == ".jsonl" else "[\n" + ",\n".join(lines) + "\n]\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, text)


if __name__ == "__main__":
    import sys

    from src.manifest_check import main

    sys.exit(main())
