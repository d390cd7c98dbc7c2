"""How a result file tells which of VoiceBench's subsets it answers, and by which rule that is scored."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from evaluation.benchmarks import SUBSETS, VOICEBENCH
from evaluation.journal import meta_path
from evaluation.result_files import BenchmarkFileError
from evaluation.scoreboard import split_in_name

ANSWER_FIELDS = VOICEBENCH.answer_fields


def question_of(record: dict) -> str:
    """What stands in for an id where there is none: files with other items cannot be matched by place."""
    return str(record.get("prompt"))


def recognise(path: Path, records: Iterable[dict]) -> str | None:
    """The subset of a result: from its `subset` or `data` field, else as its `.meta.json` has it, else from a name such
    as `{model}-{subset}-{split}-audio`; None if none of these tells. "alpacaeval_speaker" is no alpacaeval.

    Raises BenchmarkFileError for a file that holds several subsets.
    """
    named = {str(record.get("subset") or record.get("data") or "") for record in records}
    if len(named) > 1:
        raise BenchmarkFileError(f"{path}: holds several subsets ({', '.join(sorted(named))}); score them one by one")
    for subset in (*named, told_beside(path).get("subset")):
        if subset in SUBSETS:
            return subset
    for name in sorted(SUBSETS, key=len, reverse=True):
        splits = "|".join(map(re.escape, SUBSETS[name].splits))
        if re.search(rf"(?:^|[-_./]){re.escape(name)}(?=[-.]|_(?:{splits})[-_.])", path.name):
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
            f"MODEL-SUBSET-SPLIT-audio.jsonl with one of {', '.join(SUBSETS)}"
        )
    return SUBSETS[subset].rule
