"""Short answers held against a reference (sd-qa): PEDANT, the judge's votes, and whether the reference is in there.

The official score is the mean of two rates: answers that PEDANT (Li et al. 2024, arXiv 2402.11161; the library
qa-metrics) takes as right, and answers that most of the judge's votes take as right. Either is left open where it is
not to be had. PEDANT fetches its classifiers, pickles among them, from its authors when it starts.
"""

from collections.abc import Mapping

from evaluation.choices import words
from evaluation.intervals import mean_interval, rate_interval
from evaluation.result_files import BenchmarkFileError, Result, answer_of
from evaluation.scoring import format_interval, percent
from voicebench.scored import Scored
from voicebench.subsets import ANSWER_FIELDS
from voicebench.verdicts import questions_of, read_verdicts

NOT_INSTALLED = "not installed"
NO_JUDGE = "no judge"


def references_of(record: Mapping) -> list[str]:
    reference = record["reference"]
    return [str(text) for text in (reference if isinstance(reference, list) else [reference])]


def contains_reference(record: Mapping, response: str) -> bool:
    """Whether the words of (one of) the reference stand in a row in the response."""
    said = words(response)
    for text in references_of(record):
        wanted = words(text)
        if wanted and any(said[i : i + len(wanted)] == wanted for i in range(len(said) - len(wanted) + 1)):
            return True
    return False


def pedant_outcomes(result: Result) -> dict[str, bool] | str:
    """Whether PEDANT takes each answer as right, all in lower case as VoiceBench has it; or why it cannot be asked."""
    try:
        from qa_metrics.pedant import PEDANT  # imports for seconds and goes to the network
    except ImportError as missing:
        is_absent = str(missing.name).startswith("qa_metrics")  # else a library that it needs
        return NOT_INSTALLED if is_absent else f"{NOT_INSTALLED} ({missing})"
    try:
        pedant = PEDANT()
    except Exception as error:  # fetching and unpickling its classifiers raise many kinds, all of which mean: no PEDANT
        return f"installed, but its classifiers could not be loaded ({type(error).__name__}: {error})"
    outcomes = {}
    for name, record in result.items.items():
        references = [text.lower() for text in references_of(record)]
        response = (answer_of(record, ANSWER_FIELDS) or "").strip().lower()
        prompt = str(record.get("prompt") or "").lower()
        outcomes[name] = bool(response) and bool(pedant.evaluate(references, response, prompt))
    return outcomes


def judge_outcomes(result: Result) -> tuple[dict[str, bool], dict] | str:
    """What most of the votes say of each answer, and the judge's settings; or that there is no judge.

    An item that was never answered is wrong without a vote; an answer without votes, or with as many yes as no, is
    left out.
    """
    verdicts = read_verdicts(result, "qa")
    if verdicts is None or not verdicts.ratings:
        return NO_JUDGE
    questions = {question.key: question for question in questions_of(result, "qa")}
    outcomes = {}
    for name in result.items:
        votes = list(verdicts.ratings.get(questions[name].digest, {}).values()) if name in questions else [0.0]
        if votes and 2 * sum(votes) != len(votes):
            outcomes[name] = 2 * sum(votes) > len(votes)
    return (outcomes, verdicts.settings) if outcomes else NO_JUDGE


def score_qa(result: Result) -> Scored:
    """Raises BenchmarkFileError naming an item without a reference."""
    hits = {}
    for name, record in result.items.items():
        try:
            hits[name] = contains_reference(record, answer_of(record, ANSWER_FIELDS) or "")
        except KeyError as missing:
            raise BenchmarkFileError(f"{result.path} item {name}: no field {missing}") from None
    judged = judge_outcomes(result)
    votes, judge = judged if isinstance(judged, tuple) else (judged, None)
    columns = {"pedant": pedant_outcomes(result), "judge": votes, "contains_reference": hits}
    found = {column: outcomes for column, outcomes in columns.items() if isinstance(outcomes, dict)}
    scores = {
        "items": len(result.items),
        "errors": sum(answer_of(record, ANSWER_FIELDS) is None for record in result.items.values()),
        "official": None,
        "unjudged": [name for name in result.items if name not in votes] if "judge" in found else [],
        "judged_by": judge,
        "verdicts": [
            {"key": name} | {column: outcomes.get(name) for column, outcomes in found.items()} for name in result.items
        ],
    }
    for column, outcomes in columns.items():
        scores[column] = rate(outcomes) if column in found else outcomes
        if column in found:
            scores[f"{column}_interval"] = rate_interval(sum(outcomes.values()), len(outcomes))
    if {"pedant", "judge"} <= found.keys():
        scores["official"] = (scores["pedant"] + scores["judge"]) / 2
        scores["official_interval"] = mean_interval([(found["pedant"][name] + votes[name]) / 2 for name in votes])
    else:
        scores["not_scored"] = "the official score needs both PEDANT and a judge"
    return Scored(scores, format_qa(scores), found)


def format_qa(scores: Mapping) -> str:
    """A line for each of the rates, or why there is none."""
    lines = []
    for column, title in (
        ("official", "official, the mean of PEDANT and of the judge"),
        ("pedant", "PEDANT"),
        ("judge", "judge"),
        ("contains_reference", "contains the reference"),
    ):
        value = scores[column]
        if isinstance(value, float):
            lines.append(f"{title}: {percent(value)} {format_interval(scores[f'{column}_interval'])}")
        else:
            lines.append(f"{title}: {value or 'none'}")
    unjudged = scores["unjudged"]
    if unjudged:
        lines.append(f"{len(unjudged)} answer(s) without a majority of votes, not counted: {', '.join(unjudged[:20])}")
    return "\n".join(lines)


def rate(outcomes: Mapping[str, bool]) -> float:
    return sum(outcomes.values()) / len(outcomes)
