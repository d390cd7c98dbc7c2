"""Files of JSON records, as a JSON list or as JSON Lines: read element by element, with the line of each."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.errors import UserError, is_unicode

BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # Windows editors put it before UTF-8 text
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
MAX_EXCERPT = 60  # characters of what was found, in a message


class JSONFileError(UserError):
    """A file of which nothing more can be read; the message names the file, the line and what was found there."""


@dataclass(frozen=True)
class JSONRecord:
    """One element of the list, or one line."""

    place: str  # "line 3" in JSON Lines, "line 3, entry 2" in a JSON list; both count from 1
    value: Any  # None where there is a problem
    problem: str = ""  # why a line is no JSON


def read_json_records(path: str | os.PathLike) -> Iterator[JSONRecord]:
    """Yield every element of a JSON list, or of JSON Lines every line that is not blank. The text is UTF-8.

    A line that is not JSON is yielded with its problem. Raises JSONFileError when the file cannot be opened, and where
    a JSON list stops being JSON: what follows cannot be told apart.
    """
    try:
        data = Path(path).read_bytes().removeprefix(BYTE_ORDER_MARK)
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        raise JSONFileError(f"{path} cannot be read: {getattr(error, 'strerror', error)}; check the path") from None
    if data.startswith(UTF_16_MARKS):
        raise JSONFileError(f"{path} line 1: not UTF-8 text but UTF-16, found byte 0x{data[0]:02x}; save it as UTF-8")
    return list_records(data, path) if data.lstrip().startswith(b"[") else line_records(data)


def line_records(data: bytes) -> Iterator[JSONRecord]:
    for number, line in enumerate(data.splitlines(), 1):  # of bytes: at \n, \r\n and \r; of str it breaks at others too
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            yield JSONRecord(place, json.loads(line.decode(), object_pairs_hook=different_keys))
        except (ValueError, RecursionError) as error:
            yield JSONRecord(place, None, problem_of(error))


def list_records(data: bytes, path: str | os.PathLike) -> Iterator[JSONRecord]:
    line, number = 1, 0
    try:
        text = data.decode()
        parser, delimiter, position, counted = (
            json.JSONDecoder(object_pairs_hook=different_keys),
            "[",
            text.index("["),
            0,
        )
        while delimiter != "]":
            position = skip_space(text, position + 1)
            if delimiter == "[" and text[position : position + 1] == "]":
                break  # an empty list
            value, end = parser.raw_decode(text, position)
            number, line, counted = number + 1, line + text.count("\n", counted, position), position
            yield JSONRecord(f"line {line}, entry {number}", value)
            position = skip_space(text, end)
            delimiter = text[position : position + 1]
            if delimiter not in (",", "]"):
                raise json.JSONDecodeError("Expecting ',' or ']'", text, position)
        rest = skip_space(text, position + 1)
        if rest < len(text):
            raise json.JSONDecodeError("Extra data after the list", text, rest)
    except (ValueError, RecursionError) as error:
        place = f"line {line_of(error)}" if line_of(error) else f"after line {line}"
        raise JSONFileError(f"{path} {place}: {problem_of(error)}") from None


def different_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Raises ValueError for a key that is there twice with two values: either may be meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        for key, value in pairs:
            if found[key] != value:
                raise ValueError(
                    f"the key {key!a} is there twice, with {shorten(value)} and {shorten(found[key])}: keep one"
                )
    return found


def skip_space(text: str, position: int) -> int:
    """The next position that holds no JSON white space."""
    while text[position : position + 1] in (" ", "\t", "\n", "\r"):
        position += 1
    return position


def line_of(error: Exception) -> int | None:
    """The line of an error in a text, where it tells."""
    if isinstance(error, UnicodeDecodeError):
        return error.object.count(b"\n", 0, error.start) + 1
    return getattr(error, "lineno", None)


def problem_of(error: Exception) -> str:
    """Why something is no JSON, and what was found in its place."""
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 text: {error.reason}, found byte 0x{error.object[error.start]:02x}"
    if isinstance(error, json.JSONDecodeError):
        found = error.doc[error.pos :].partition("\n")[0].rstrip()
        excerpt = shorten(found) if found else "the end of the line"
        return f"not JSON: {error.msg.removesuffix(' at')} at column {error.colno}, found {excerpt}"
    if isinstance(error, RecursionError):
        return "not JSON that can be read: lists or objects are nested too deeply"
    return f"not JSON that can be read: {error}"  # a number of thousands of digits


def is_unicode_value(value: Any) -> bool:
    """Whether UTF-8 can hold all texts in a value; JSON's \\u escapes can spell half of a surrogate pair."""
    return is_unicode(json.dumps(value, ensure_ascii=False))


def shorten(value: Any, limit: int = MAX_EXCERPT) -> str:
    """A value in a message: lists and objects by their type, the rest as `ascii` gives it, cut where it gets long."""
    if isinstance(value, (list, dict)):
        return f"a {type(value).__name__}"
    text = ascii(value)
    return text if len(text) <= limit else f"{text[:limit]}..."
