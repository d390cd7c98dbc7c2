"""Short answers held against a reference (sd-qa): PEDANT, the judge's votes, and whether the reference is in there.

The official score is the mean of two rates: answers that PEDANT (Li et al. 2024, arXiv 2402.11161; the library
qa-metrics) takes as right, and answers that most of the judge's votes take as right. Either is left open where it is
not to be had. PEDANT fetches its classifiers, pickles among them, from its authors when it starts; those of another
version than VoiceBench's take other answers as right, so they give no official score.

A vote counts by two rules: official, as VoiceBench has it, is a yes only if it is that word alone ("Yes." is a no);
strict goes by the sense.
"""

import importlib.metadata
from collections.abc import Mapping, Sequence

from evaluation.intervals import mean_interval, outcome_interval
from evaluation.result_files import BenchmarkFileError, Result, answer_of
from evaluation.scoring import format_interval, percent
from evaluation.terms import clean, find_row, terms_of, without_articles
from voicebench.scored import Scored
from voicebench.subsets import ANSWER_FIELDS
from voicebench.verdicts import questions_of, read_verdicts

PEDANT_VERSION = "0.2.17"  # of qa-metrics, with which VoiceBench's published scores were made
NOT_INSTALLED = "not installed"
NO_JUDGE = "no judge"


def references_of(record: Mapping) -> list[str]:
    reference = record["reference"]
    return [str(text) for text in (reference if isinstance(reference, list) else [reference])]


def contains_reference(record: Mapping, response: str) -> bool:
    """Whether the words of (one of) the reference, but for articles, stand in a row in the response."""

    def row(text: str) -> list[str]:
        cleaned = clean(text)
        return [term.word for term in without_articles(cleaned, terms_of(cleaned))]

    said, wanted = row(response), [row(text) for text in references_of(record)]
    return any(words and find_row(words, said) is not None for words in wanted)


def pedant_version() -> str | None:
    """The version of qa-metrics that is installed, if there is one."""
    try:
        return importlib.metadata.version("qa-metrics")
    except importlib.metadata.PackageNotFoundError:
        return None


def pedant_outcomes(result: Result) -> dict[str, bool] | str:
    """Whether PEDANT takes each answer as right, all in lower case as VoiceBench has it; or why it cannot be asked.

    An item that was never answered is wrong.
    """
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
        answered = answer_of(record, ANSWER_FIELDS)
        references = [text.lower() for text in references_of(record)]
        prompt = str(record.get("prompt") or "").lower()
        outcomes[name] = answered is not None and bool(pedant.evaluate(references, answered.strip().lower(), prompt))
    return outcomes


def official_vote(replies: Sequence[str]) -> float:
    """The chance that VoiceBench takes the replies as a yes: 1 or 0, unless several are equally frequent.

    The most frequent reply counts, in lower case, and is a yes if it reads "yes"; of equally frequent ones, which it is
    there changes from run to run.
    """
    said = [reply.strip().lower() for reply in replies]
    most = max(map(said.count, said))
    tied = {reply for reply in said if said.count(reply) == most}
    return ("yes" in tied) / len(tied)


def judge_outcomes(result: Result) -> tuple[dict[str, float], dict[str, bool], dict] | str:
    """What the votes say of each answer by the official rule and by the strict one, and the judge's settings; or that
    there is no judge.

    An item that was never answered is wrong without a vote; an answer without votes is left out, and by the strict rule
    one with as many yes as no.
    """
    verdicts = read_verdicts(result, "qa")
    if verdicts is None or not verdicts.ratings:
        return NO_JUDGE
    questions = {question.key: question for question in questions_of(result, "qa")}
    official, strict = {}, {}
    for name in result.items:
        if name not in questions:
            official[name], strict[name] = 0.0, False
            continue
        votes = list(verdicts.ratings_of(questions[name]).values())
        if votes:
            official[name] = official_vote(list(verdicts.replies_of(questions[name]).values()))
        if 2 * sum(votes) != len(votes):
            strict[name] = 2 * sum(votes) > len(votes)
    return (official, strict, verdicts.settings) if official else NO_JUDGE


def score_qa(result: Result) -> Scored:
    """Raises BenchmarkFileError naming an item without a reference."""
    hits = {}
    for name, record in result.items.items():
        try:
            hits[name] = contains_reference(record, answer_of(record, ANSWER_FIELDS) or "")
        except KeyError as missing:
            raise BenchmarkFileError(
                f"{result.path} item {name}: no field {missing}: is this a result of this subset?"
            ) from None
    judged = judge_outcomes(result)
    votes, votes_by_sense, judge = (judged, judged, None) if isinstance(judged, str) else judged
    pedant, version = pedant_outcomes(result), pedant_version()
    columns = {"pedant": pedant, "judge": votes, "judge_strict": votes_by_sense, "contains_reference": hits}
    found = {column: outcomes for column, outcomes in columns.items() if isinstance(outcomes, dict)}
    scores = {
        "items": len(result.items),
        "errors": sum(answer_of(record, ANSWER_FIELDS) is None for record in result.items.values()),
        "official": None,
        "pedant_version": version,
        "unjudged": [name for name in result.items if name not in votes] if "judge" in found else [],
        "no_majority": [name for name in votes if name not in votes_by_sense] if "judge" in found else [],
        "judged_by": judge,
        "verdicts": [
            {"key": name} | {column: outcomes.get(name) for column, outcomes in found.items()} for name in result.items
        ],
    }
    for column, outcomes in columns.items():
        scores[column] = rate(outcomes) if column in found else outcomes
        if column in found and outcomes:
            scores[f"{column}_interval"] = outcome_interval(list(outcomes.values()))
    if not {"pedant", "judge"} <= found.keys():
        scores["not_scored"] = "the official score needs both PEDANT and a judge"
    elif scores["unjudged"]:
        scores["not_scored"] = f"{len(scores['unjudged'])} answer(s) have no vote yet: run voicebench/judge.py again"
    elif version not in (None, PEDANT_VERSION):
        scores["not_scored"] = (
            f"PEDANT is of qa-metrics {version} here, published scores of {PEDANT_VERSION}, with other classifiers: "
            f"pip install qa-metrics=={PEDANT_VERSION}"
        )
    else:
        scores["official"] = (scores["pedant"] + scores["judge"]) / 2
        scores["official_interval"] = mean_interval([(pedant[name] + votes[name]) / 2 for name in votes])
    return Scored(scores, format_qa(scores), found)


def format_qa(scores: Mapping) -> str:
    """A line for each of the rates, or why there is none."""
    version = scores["pedant_version"]
    lines = []
    for column, title, rule in (
        ("official", "official, the mean of PEDANT and of the judge", ""),
        ("pedant", "PEDANT", f", of qa-metrics {version}" if version else ""),
        ("judge", "judge", ', by the published rule: a vote is a yes if it is that word alone ("Yes." is a no)'),
        ("judge_strict", "judge, strict", ", votes by their sense"),
        ("contains_reference", "contains the reference", ""),
    ):
        value = scores[column]
        if isinstance(value, float):
            lines.append(f"{title}: {percent(value)} {format_interval(scores[f'{column}_interval'])}{rule}")
        else:
            lines.append(f"{title}: {value or scores.get('not_scored', 'none')}")
    for names, what in (
        (scores["unjudged"], "without a vote, not counted"),
        (scores["no_majority"], "without a majority of votes by sense, not counted in strict"),
    ):
        if names:
            lines.append(f"{len(names)} answer(s) {what}: {', '.join(names[:20])}")
    return "\n".join(lines)


def rate(outcomes: Mapping[str, float]) -> float | None:
    return sum(outcomes.values()) / len(outcomes) if outcomes else None
