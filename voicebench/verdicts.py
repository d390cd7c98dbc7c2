"""The file of a judge model's verdicts, `<result>.judge.jsonl`: a line with the settings, then one line per verdict.

A verdict belongs to a question, a response and, where there is one, a reference, told by their digest; so it is never
taken for a verdict on anything else, and equal answers to equal questions are judged once.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evaluation.journal import append_lines, differences, is_written, read_lines
from evaluation.result_files import BenchmarkFileError, Result, answer_of
from src.files import write_file
from voicebench.subsets import ANSWER_FIELDS

RATED = "result-"  # VoiceBench's name of a result with verdicts begins with it
SCORE = "score"  # VoiceBench's field with a judge's replies


@dataclass(frozen=True)
class JudgeQuestion:
    """What the judge is asked about one item."""

    key: str
    prompt: str
    response: str
    reference: str | None = None

    @property
    def digest(self) -> str:
        content = json.dumps([self.prompt, self.response, self.reference], ensure_ascii=False)
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def questions_of(result: Result, kind: str) -> list[JudgeQuestion]:
    """The answered items of a result, `kind` being open or qa. Raises BenchmarkFileError naming a missing field."""
    questions = []
    for name, record in result.items.items():
        response = answer_of(record, ANSWER_FIELDS)
        if response is None:
            continue  # nothing was answered, so there is nothing to judge
        try:
            reference = None if kind == "open" else record["reference"]
            reference = " / ".join(map(str, reference)) if isinstance(reference, list) else reference
            questions.append(JudgeQuestion(name, str(record["prompt"]), response, reference))
        except KeyError as missing:
            raise BenchmarkFileError(
                f"{result.path} item {name}: no field {missing}: is this a result of this subset?"
            ) from None
    return questions


def verdict_path(result: Path) -> Path:
    return result.with_name(f"{result.name}.judge.jsonl")


@dataclass
class Verdicts:
    """The verdicts on disk."""

    path: Path
    settings: dict  # everything they depend on but the answers
    ratings: dict[str, dict[int, float]] = field(default_factory=dict)  # digest -> sample -> 1 to 5, or 0 and 1
    replies: dict[str, dict[int, str]] = field(default_factory=dict)  # digest -> sample -> what the judge said
    by_item: bool = False  # instead of by digest: each item was judged on its own, equal answers or not

    @classmethod
    def read(cls, path: Path) -> "Verdicts":
        """Raises BenchmarkFileError if the file is none of verdicts. Half a line of a killed run is skipped."""
        first, *entries = read_lines(path) or [{}]  # perhaps no line is whole
        if not isinstance(first.get("settings"), dict):
            raise BenchmarkFileError(f"{path} does not begin with a judge's settings. Delete it, or pass --overwrite")
        verdicts = cls(path, first["settings"])
        for entry in entries:
            verdicts.keep(entry["digest"], entry["sample"], entry["reply"], entry["rating"])
        return verdicts

    def append(self, question: JudgeQuestion, sample: int, reply: str, rating: float) -> None:
        """Put one verdict on disk."""
        entry = {"key": question.key, "digest": question.digest, "sample": sample, "rating": rating, "reply": reply}
        append_lines(self.path, self.settings, [entry])
        self.keep(question.digest, sample, reply, rating)

    def name_of(self, question: JudgeQuestion) -> str:
        return question.key if self.by_item else question.digest

    def ratings_of(self, question: JudgeQuestion) -> dict[int, float]:
        """By sample; empty where it was not judged."""
        return self.ratings.get(self.name_of(question), {})

    def replies_of(self, question: JudgeQuestion) -> dict[int, str]:
        return self.replies.get(self.name_of(question), {})

    def keep(self, digest: str, sample: int, reply: str, rating: float) -> None:
        self.ratings.setdefault(digest, {})[sample] = rating
        self.replies.setdefault(digest, {})[sample] = reply

    def check_settings(self, wanted: Mapping) -> None:
        """Raise BenchmarkFileError naming what `wanted` has otherwise than these verdicts."""
        different = differences(self.settings, wanted)
        if different:
            raise BenchmarkFileError(
                f"{self.path} holds verdicts made otherwise: {different}. "
                "Judge in the same way, or pass --overwrite to start afresh"
            )

    def check_answers(self, questions: Iterable[JudgeQuestion]) -> None:
        """Raise BenchmarkFileError if some verdicts are on answers that the result does not hold (any more)."""
        strangers = self.ratings.keys() - {question.digest for question in questions}
        if strangers:
            raise BenchmarkFileError(
                f"{self.path}: {len(strangers)} of the answers judged there are not in the result (any more): it was "
                "answered anew since. Judge it anew: voicebench/judge.py with --overwrite"
            )


def read_verdicts(result: Result, kind: str) -> Verdicts | None:
    """The verdicts beside a result, or else in it, if there are any. Raises BenchmarkFileError if they are on other
    answers, or are none.
    """
    path = verdict_path(result.path)
    if not is_written(path):
        return verdicts_inside(result, kind)
    verdicts = Verdicts.read(path)
    if verdicts.settings.get("kind") != kind:
        raise BenchmarkFileError(
            f"{path}: verdicts of kind {verdicts.settings.get('kind')!r}, wanted {kind!r}: pass the "
            "result that they were made of"
        )
    verdicts.check_answers(questions_of(result, kind))
    return verdicts


def verdicts_inside(result: Result, kind: str) -> Verdicts | None:
    """What VoiceBench's own judge, api_judge.py, put into a result as `score`: its replies, three to an answer."""
    from voicebench.parsing import parse_rating, parse_vote  # with what asks endpoints, which scorers do without

    parse = {"open": parse_rating, "qa": parse_vote}[kind]
    settings = {"kind": kind, "model": "the judge whose replies are in the file", "samples": 0}
    verdicts = Verdicts(result.path, settings, by_item=True)
    for question in questions_of(result, kind):
        replies = result.items[question.key].get(SCORE)
        if replies is None:
            continue
        if not isinstance(replies, list) or not all(isinstance(reply, (str, int, float)) for reply in replies):
            found = f"{SCORE} must be a list, found {replies!r:.60}"
            raise BenchmarkFileError(f"{result.path} item {question.key}: {found}")
        for sample, reply in enumerate(map(str, replies)):
            rating = parse(reply)
            if rating is None:
                raise BenchmarkFileError(
                    f"{result.path} item {question.key}: {reply!r:.60} in {SCORE} is no verdict: judge it anew"
                )
            verdicts.keep(verdicts.name_of(question), sample, reply, rating)
        verdicts.settings["samples"] = max(verdicts.settings["samples"], len(replies))
    return verdicts if verdicts.ratings else None


def write_rated(result: Result, kind: str, verdicts: Verdicts) -> Path:
    """Write the answers with their verdicts as VoiceBench's evaluate.py reads them, to `result-` and the result's name.

    Each line has `score`, a list of texts: ratings, or votes. What was never answered has none, or is voted down.
    """
    questions = {question.key: question for question in questions_of(result, kind)}
    lines = []
    for name, record in result.items.items():
        question = questions.get(name)
        if kind == "open":
            score = [f"{rating:g}" for rating in verdicts.ratings_of(question).values()] if question else []
        else:
            score = [reply.strip() for reply in verdicts.replies_of(question).values()] if question else ["No"]
        answer = answer_of(record, ANSWER_FIELDS) or ""
        lines.append(json.dumps({**record, ANSWER_FIELDS[0]: answer, SCORE: score}, ensure_ascii=False) + "\n")
    path = result.path.with_name(f"{RATED}{result.path.name}")
    write_file(path, "".join(lines))
    return path
