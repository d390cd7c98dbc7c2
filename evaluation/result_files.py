"""Benchmark and result files: JSON lists or JSON Lines of objects, read and checked."""

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.offered import right_choices, without_labels
from src.errors import UserError
from src.json_records import JSONFileError, is_unicode_value, read_json_records, shorten

# Fields that say what was asked, and those that say what is right: the same item has the same ones in every file.
# `prompt` is the question in VoiceBench alone: elsewhere it is what a model or a judge was told.
LETTERED = ("choice_a", "choice_b", "choice_c", "choice_d")
ASKED = ("question", "choices", *LETTERED)
AROUND = ("question", "prompt")  # which some runs keep with their own words around them
RIGHT = ("answer", "answer_gt", "official_answer", "transcription", "reference")
WHOLE_LINES = ". Expected a JSON list, or JSON Lines: one object a line, not one over several lines"


class BenchmarkFileError(UserError):
    """A benchmark or result file that cannot be used; the message names the file, the place and what to do."""


def read_entries(path: Path) -> tuple[list[tuple[str, dict]], list[str]]:
    """Read a JSON list or JSON Lines file of objects: ([(place, object)], broken entries as "FILE line N: reason").

    Places are "line 3" in JSON Lines, "line 3, entry 2" in a list. Raises BenchmarkFileError when the file is missing,
    or is a JSON list that cannot be parsed to its end.
    """
    if not Path(path).is_file():
        raise BenchmarkFileError(f"{path}: no such file. Check the path")
    entries, broken = [], []
    try:
        for record in read_json_records(path):
            if record.problem:
                broken.append(f"{path} {record.place}: {record.problem}")
            elif isinstance(record.value, dict):
                entries.append((record.place, record.value))
            else:
                broken.append(f"{path} {record.place}: expected an object, found {type(record.value).__name__}")
    except JSONFileError as error:
        raise BenchmarkFileError(f"{error}. Repair or rewrite the file") from None
    return entries, broken


def read_records(path: Path) -> tuple[list[dict], list[str]]:
    """The objects of `read_entries` without their places."""
    entries, broken = read_entries(path)
    return [entry for _, entry in entries], broken


def read_benchmark(
    path: Path,
    required: Mapping[str, type | tuple[type, ...]],
    source: str,
    problem_of: Callable[[dict], str] = lambda record: "",
    form: Callable[[dict], dict] = dict,
) -> list[dict]:
    """The records of a benchmark file, all of them sound.

    Args:
        required: fields that every record must have, and their types.
        source: where the file can be had; for the message when it is missing.
        problem_of: what else may be wrong with a record, in words; empty where nothing is.
        form: brings a record to the form that `required` describes.

    Raises BenchmarkFileError naming the file and the line of everything broken, before any model is loaded.
    """
    if not Path(path).is_file():
        raise BenchmarkFileError(f"{path}: no such file. {source}")
    entries, broken = read_entries(path)
    records = [(place, form(record)) for place, record in entries]
    check_records(path, records, broken, required, source, problem_of)
    return [record for _, record in records]


def check_records(
    path: Path,
    records: Sequence[tuple[str, dict]],
    broken: Sequence[str],
    required: Mapping[str, type | tuple[type, ...]],
    source: str,
    problem_of: Callable[[dict], str],
) -> None:
    """Raise BenchmarkFileError unless the records, given with their places in `path`, are sound; see `read_benchmark`.

    `broken` is what could not be read.
    """
    broken = list(broken)
    for place, record in records:
        for name, kinds in required.items():
            if not isinstance(record.get(name), kinds):
                wanted = " or ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
                found = repr(record[name]) if name in record else "no such field"
                broken.append(f"{path} {place}: {name} must be {wanted}, found {found}")
        broken += [
            f"{path} {place}: {name} holds half of a surrogate pair, found {shorten(value)}; expected Unicode text"
            for name, value in record.items()
            if not is_unicode_value([name, value])
        ]
        if problem := problem_of(record):
            broken.append(f"{path} {place}: {problem}")
    if broken:
        end = f"{len(broken)} problem(s) in {path}; nothing was started{WHOLE_LINES * (not records)}"
        raise BenchmarkFileError("\n".join([*broken[:20], end]))
    if not records:
        raise BenchmarkFileError(f"{path} holds no items. {source}")
    check_unique(path, [str(record["id"]) for _, record in records if "id" in record])


def check_unique(path: Path, keys: Sequence[str]) -> None:
    """Raise BenchmarkFileError naming the keys that occur more than once."""
    seen: set[str] = set()
    repeated = sorted({key for key in keys if key in seen or seen.add(key)})
    if repeated:
        raise BenchmarkFileError(
            f"{path}: {len(repeated)} item(s) occur more than once: {', '.join(repeated[:10])}"
            f"{', ...' if len(repeated) > 10 else ''}. Every item may be answered once; remove the others"
        )


@dataclass(frozen=True)
class Result:
    """A result file, read."""

    path: Path
    items: dict[str, dict]  # by their keys, in order
    missing: list[str]  # keys of the reference's items that it lacks
    broken: list[str]  # lines that could not be read
    asked_in: Sequence[str]  # fields that say what was asked


def read_result(
    path: Path,
    key: Callable[[dict], str],
    answer_fields: Sequence[str],
    reference: Path | None = None,
    read_reference: Callable[[Path], tuple[list[dict], list[str]]] = read_records,
    read: Callable[[Path], tuple[list[dict], list[str]]] = read_records,
    text: Callable[[dict], str] | None = None,
    asked_in: Sequence[str] = ASKED,
) -> Result:
    """Read a result file; with a reference, exactly the reference's items, those without an answer as errors.

    `key` names an item and raises KeyError where it cannot; without a reference, its place in the file does instead,
    with one its `text`, which several may share: the first there is then the first here. `asked_in`: see `Result`.
    Raises BenchmarkFileError for duplicates, a file without items or answers, and a reference with broken lines.
    """
    records, broken = read(path)
    if broken and not records:
        raise BenchmarkFileError("\n".join([*broken[:20], f"{path}: no items to score{WHOLE_LINES}"]))
    if records and not any(field in record for record in records for field in answer_fields):
        raise BenchmarkFileError(
            f"{path}: no item has a field {answer_fields[0]!r}. Is this a result of this benchmark?"
        )
    for number, record in enumerate(records, start=1):
        if isinstance(answer := answer_in(record, answer_fields), (list, dict)):
            field = next(field for field in answer_fields if record.get(field) is answer)
            raise BenchmarkFileError(f"{path} item {number}: {field} must be a text, found {answer!r:.60}")
    if not reference:
        text = None
    keys, missing = keys_of(path, records, key, text, numbered=reference is None), []
    if reference:
        wanted, broken_reference = read_reference(reference)
        if broken_reference:
            raise BenchmarkFileError("\n".join([*broken_reference[:20], f"{reference}: mend it, or pass another one"]))
        unanswered = [{k: v for k, v in record.items() if k not in (*answer_fields, "error")} for record in wanted]
        asked = dict(zip(keys_of(reference, wanted, key, text, numbered=False), unanswered, strict=True))
        answered = dict(zip(keys, records, strict=True))
        records, missing = complete(path, answered, asked)
        check_same_questions(path, reference, answered, asked, asked_in)
        keys = list(asked)
    if not records:
        raise BenchmarkFileError(f"{path}: no items to score")
    return Result(path, dict(zip(keys, records, strict=True)), missing, broken, asked_in)


def keys_of(
    path: Path,
    records: Sequence[dict],
    key: Callable[[dict], str],
    text: Callable[[dict], str] | None = None,
    numbered: bool = False,
) -> list[str]:
    """The records' keys; of one without, its `text` (from the second time on with a number), or where `numbered` allows
    it, its number. Raises BenchmarkFileError.
    """
    keys: list[str] = []
    repeated: Counter[str] = Counter()
    for number, record in enumerate(records, start=1):
        try:
            keys.append(key(record))
        except KeyError as error:
            if text:
                said = text(record)
                repeated[said] += 1
                keys.append(said if repeated[said] == 1 else f"{said} ({repeated[said]})")
            elif numbered:
                keys.append(str(number))
            else:
                raise BenchmarkFileError(
                    f"{path} item {number}: no field {error} to tell it by: add it, or is this "
                    "another benchmark's result?"
                ) from None
    check_unique(path, keys)
    return keys


def check_same_items(ours: Result, theirs: Result) -> None:
    """Raise BenchmarkFileError unless both results hold the same items, asked in the same way."""
    for result, other in ((ours, theirs), (theirs, ours)):
        alone = [name for name in result.items if name not in other.items]
        if alone:
            raise BenchmarkFileError(
                f"{other.path} lacks {len(alone)} item(s) of {result.path}: {', '.join(alone[:10])}. Finish that run, "
                "or pass --reference with the benchmark's own file: missing items then count as wrong"
            )
    for name, record in ours.items.items():
        other = theirs.items[name]
        if unlike := [*unlike_fields(record, other, ours.asked_in), *unlike_answers(record, other)]:
            raise BenchmarkFileError(
                f"item {name} has another {unlike[0]} in {theirs.path} than in {ours.path}: "
                "these are answers to different versions of the benchmark: compare those to one"
            )


def check_same_questions(
    path: Path,
    reference: Path,
    answered: Mapping[str, dict],
    asked: Mapping[str, dict],
    asked_in: Sequence[str],
) -> None:
    """Raise BenchmarkFileError where an item of the result was asked otherwise than the reference has it.

    Where the reference has another right answer, that counts, and a line says so: an answer key may be corrected.
    """
    unlike = {}
    for name, record in answered.items():
        found = unlike_fields(record, asked[name], asked_in)
        if fields := [field for field in found if not is_around(field, record[field], asked[name][field])]:
            unlike[name] = fields
    if unlike:
        name, [field, *_] = next(iter(unlike.items()))
        raise BenchmarkFileError(
            f"{path}: {len(unlike)} of {len(answered)} item(s) were asked otherwise than {reference} has them; of "
            f"item {name} {field} is {answered[name][field]!r:.100}, and there {asked[name][field]!r:.100}. Pass the "
            "version of the benchmark that was answered, or answer this one"
        )
    corrected = [name for name, record in answered.items() if unlike_answers(record, asked[name])]
    if corrected:
        print(
            f"warning: {reference} has another right answer than {path} to {len(corrected)} of {len(answered)} "
            f"item(s), and counts: {', '.join(corrected[:10])}",
            file=sys.stderr,
        )


def unlike_fields(one: Mapping, other: Mapping, names: Sequence[str]) -> list[str]:
    """Those of the fields that both records have, with different content.

    White space does not count, nor letters before all choices.
    """
    return [name for name in names if name in one and name in other and bare(one[name]) != bare(other[name])]


def unlike_answers(one: Mapping, other: Mapping) -> list[str]:
    """Those of the fields with the right answer that both records have, with an answer that is another choice."""
    asked = {**one, **other}
    listed = asked.get("choices")
    choices = listed if isinstance(listed, list) else [asked.get(field) for field in LETTERED]

    def is_same_choice(field: str) -> bool:
        right = right_choices(one[field], choices)
        return bool(right) and right == right_choices(other[field], choices)

    return [field for field in unlike_fields(one, other, RIGHT) if not is_same_choice(field)]


def is_around(field: str, ours: object, theirs: object) -> bool:
    """Whether a run kept its own words around the question."""
    return field in AROUND and isinstance(ours, str) and isinstance(theirs, str) and bare(theirs) in bare(ours)


def bare(value: object) -> object:
    """A text with single spaces; texts of a list without the letters that all of them bring."""
    if isinstance(value, list):
        return [bare(part) for part in without_labels(value)]
    return " ".join(value.split()) if isinstance(value, str) else value


def complete(path: Path, answered: Mapping[str, dict], asked: Mapping[str, dict]) -> tuple[list[dict], list[str]]:
    """The reference's items with the result's answers laid over them, both by key, and the keys that the result lacks.

    An item that the result lacks gets an `error`, so it counts as wrong. Raises BenchmarkFileError when the result
    holds items that the reference does not know.
    """
    strangers = sorted(answered.keys() - asked.keys())
    if strangers:
        raise BenchmarkFileError(
            f"{path}: {len(strangers)} item(s) are not in the reference: {', '.join(strangers[:10])}. "
            "Is this the benchmark file that was answered?"
        )
    missing = [name for name in asked if name not in answered]
    return [
        {**answered.get(name, {"error": "not in the result file"}), **record} for name, record in asked.items()
    ], missing


def answer_of(record: Mapping, fields: Sequence[str]) -> str | None:
    """What the item was answered, under the first of `fields` it has; None where no answer was made."""
    answer = answer_in(record, fields)
    return None if answer is None or record.get("error") else str(answer)


def answer_in(record: Mapping, fields: Sequence[str]) -> object:
    """What stands in the record as its answer, whatever its type and beside whatever error; None where nothing does."""
    return next((record[field] for field in fields if record.get(field) is not None), None)
