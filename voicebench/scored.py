"""What every rule of VoiceBench gives back, and the rules that find each answer right or wrong."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

from evaluation.benchmarks import VOICEBENCH
from evaluation.intervals import mean_interval
from evaluation.result_files import BenchmarkFileError, Result, answer_of
from evaluation.scoring import (
    Score,
    Verdict,
    compare,
    format_comparisons,
    format_scores,
    groups_of,
    percent,
    score_levels,
)
from voicebench.subsets import ANSWER_FIELDS


@dataclass(frozen=True)
class Scored:
    """A result file by one rule."""

    scores: dict  # for the scores file
    text: str  # the table
    outcomes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # column -> item -> right, or its rating


def score_verdicts(result: Result, judge: Callable[[dict, str], dict], lot: str = "") -> Scored:
    """Score by a rule that gives a Verdict's fields for a record and its response.

    `lot` says what the published rule does where it reads no answer; its chance of being right is then in the Verdict.
    An empty response may be right (as a refusal), an item that was never answered may not. Raises BenchmarkFileError
    naming an item that lacks a field or has a value the rule cannot use.
    """
    verdicts = []
    for name, record in result.items.items():
        answered = answer_of(record, ANSWER_FIELDS)
        try:
            fields = judge(record, answered or "")
        except KeyError as missing:
            raise BenchmarkFileError(
                f"{result.path} item {name}: no field {missing}: is this a result of this subset?"
            ) from None
        except ValueError as error:
            raise BenchmarkFileError(f"{result.path} item {name}: {error}") from None
        if answered is None:
            fields |= {"official": False, "undecided": False}
        fields["groups"] = groups_of(record, VOICEBENCH.levels) | fields.get("groups", {})
        verdicts.append(Verdict(key=name, error=answered is None, **fields))
    levels = score_levels(verdicts)
    told, text = told_of_lots(levels["total"]["total"], lot) if lot else ({}, "")
    return Scored(
        {
            "items": len(verdicts),
            **told,
            "levels": {level: {name: asdict(s) for name, s in groups.items()} for level, groups in levels.items()},
            "verdicts": [asdict(verdict) for verdict in verdicts],
        },
        format_scores(levels) + text,
        {rule: {verdict.key: getattr(verdict, rule) for verdict in verdicts} for rule in ("official", "strict")},
    )


def told_of_lots(total: Score, lot: str) -> tuple[dict, str]:
    """How much of an official rate is the expected value of lots: for the scores file, and as text."""
    read = total.n - total.undecided
    without_lots = (total.official_decided or 0) * read / total.n
    text = (
        f"\nofficial is an expected value: VoiceBench reads no answer in {total.undecided} of {total.n} items (failure "
        f"rate: {percent(total.undecided / total.n)}) and {lot}\n"
        f"without lots: {percent(without_lots)} of all items, {percent(total.official_decided)} of the {read} without "
        "a lot"
    )
    return {"failure_rate": total.undecided / total.n, "without_lots": without_lots}, text


def compare_scored(ours: Scored, theirs: Scored) -> tuple[dict, str]:
    """Two runs on the same items, column by column: for the scores file, and as text.

    Right or wrong is compared with McNemar's test, ratings by their mean difference over the items rated in both.
    """
    comparisons, ratings, text = {}, {}, []
    for column in ours.outcomes.keys() & theirs.outcomes.keys():
        names = [name for name in ours.outcomes[column] if name in theirs.outcomes[column]]
        pairs = [(ours.outcomes[column][name], theirs.outcomes[column][name]) for name in names]
        if column == "rating" and pairs:
            differences = [a - b for a, b in pairs]
            mean, (low, high) = sum(differences) / len(differences), mean_interval(differences)
            ratings[column] = {"items": len(pairs), "difference": mean, "difference_interval": (low, high)}
            text.append(f"mean rating, this less the other: {mean:+.2f} [{low:.2f}, {high:.2f}] on {len(pairs)} items")
        elif pairs:
            comparisons[column] = compare([a for a, _ in pairs], [b for _, b in pairs])
    if comparisons:
        text.append(format_comparisons(dict(sorted(comparisons.items()))))
    return {column: asdict(c) for column, c in comparisons.items()} | ratings, "\n".join(text) or "nothing to compare"
