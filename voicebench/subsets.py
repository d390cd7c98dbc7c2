"""VoiceBench's subsets, what each is scored by, and how a result file tells which one it answers."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from evaluation.journal import meta_path
from evaluation.result_files import BenchmarkFileError
from evaluation.scoreboard import split_in_name

EVALUATORS = {  # subset -> the name that VoiceBench gives to its rule
    "alpacaeval": "open",
    "commoneval": "open",
    "wildvoice": "open",
    "sd-qa": "qa",
    "mmsu": "mcq",
    "openbookqa": "mcq",
    "bbh": "bbh",
    "ifeval": "ifeval",
    "advbench": "harm",
    "alpacaeval_full": "open",
}
ID_FIELDS = ("id", "key", "question_id")
ANSWER_FIELDS = ("response",)


def key(record: dict) -> str:
    """What an item is told by. Raises KeyError where it has no id: then its place in the file has to do."""
    for name in ID_FIELDS:
        if record.get(name) is not None:
            return str(record[name])
    raise KeyError(ID_FIELDS[0])


def key_or_prompt(record: dict) -> str:
    """As `key`, but the question itself stands in for an id: files with other items cannot be matched by place."""
    return str(record["prompt"]) if not any(record.get(name) is not None for name in ID_FIELDS) else key(record)


def recognise(path: Path, records: Iterable[dict]) -> str | None:
    """The subset of a result: from its `subset` or `data` field, else as its `.meta.json` has it, else from a name
    `{model}-{subset}-{split}-audio`; None if none of these tells.

    Raises BenchmarkFileError for a file that holds several subsets.
    """
    named = {str(record.get("subset") or record.get("data") or "") for record in records}
    if len(named) > 1:
        raise BenchmarkFileError(f"{path}: holds several subsets ({', '.join(sorted(named))}); score them one by one")
    for subset in (*named, told_beside(path).get("subset")):
        if subset in EVALUATORS:
            return subset
    for name in sorted(EVALUATORS, key=len, reverse=True):
        if re.search(rf"(?:^|[-_./]){re.escape(name)}(?=[-_.])", path.name):
            return name
    return None


def split_of_result(path: Path, subset: str | None) -> str | None:
    """The split that a result answers: as its `.meta.json` has it, else from its name; None if neither tells."""
    return told_beside(path).get("split") or (split_in_name(path.name, subset) if subset else None)


def told_beside(result: Path) -> dict:
    """What the `.meta.json` beside a result tells of it; nothing where there is none. Raises BenchmarkFileError."""
    meta = meta_path(result)
    try:
        return json.loads(meta.read_text(encoding="utf-8")) if meta.exists() else {}
    except ValueError as error:
        raise BenchmarkFileError(f"{meta}: not JSON ({error}). Delete it, and pass --evaluator") from None


def evaluator_of(path: Path, subset: str | None) -> str:
    """The rule of `subset`. Raises BenchmarkFileError where the subset is not known."""
    if subset is None:
        raise BenchmarkFileError(
            f"{path}: the subset cannot be told from the file. Pass --evaluator, or name the file "
            f"MODEL-SUBSET-SPLIT-audio.jsonl with one of {', '.join(EVALUATORS)}"
        )
    return EVALUATORS[subset]
