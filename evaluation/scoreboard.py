"""Scores of any number of runs and of published models, read into one list of entries.

Published scores stand in evaluation/published_scores.json, a JSON list. Each item holds `name` (of the model),
`benchmark` (its name in evaluation/benchmarks.py), `source` (the paper and its table), `read_at` (where the numbers
were read, if not in the paper itself), `note` (what a reader has to know), and `scores`: {level: {group: number}}, with
the levels and groups of the scorers ("total": {"total": ...}), for VoiceBench the level "subset". Numbers are in per
cent, as printed; mean ratings from 1 to 5 stand under the level "rating" instead."""

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from evaluation.benchmarks import ASR, BENCHMARKS, FULL, LEADERBOARD, SUBSETS, VOICEBENCH
from src.errors import UserError

PUBLISHED = Path(__file__).with_name("published_scores.json")

T = TypeVar("T")
Interval = tuple[float, float]
Place = tuple[str, str, str]  # benchmark, level, group


class ReportError(UserError):
    """Scores that cannot be put together; the message names the file and what to do."""


@dataclass(frozen=True)
class ScoreEntry:
    """One run's score in one place. Rates are fractions of 1, ratings go from 1 to 5."""

    run: str
    place: Place
    official: float | None
    official_interval: Interval | None = None
    strict: float | None = None
    strict_interval: Interval | None = None
    items: int | None = None
    chance: float | None = None
    always_a: float | None = None
    unit: str = "rate"  # "rate", "rating", or "error rate" (lower is better)
    published: bool = False
    strict_rule: str = "strict rule"  # what `strict` is by
    unrated: int = 0  # answers that wait for a judge's rating, besides the `items`

    @property
    def shown(self) -> tuple[float | None, Interval]:
        """The official score and its interval, or the strict one where there is none; per cent, a rating times 20."""
        official = self.official is not None
        value = self.official if official else self.strict
        if value is None:
            return None, (0.0, 0.0)
        low, high = (self.official_interval if official else self.strict_interval) or (value, value)
        scale = 20 if self.unit == "rating" else 100
        return scale * value, (scale * low, scale * high)


def runs_of(entries: Sequence[ScoreEntry]) -> list[tuple[str, bool]]:
    """(name, published) of every run, in order."""
    return list(dict.fromkeys((entry.run, entry.published) for entry in entries))


def places_of(entries: Sequence[ScoreEntry]) -> list[Place]:
    return list(dict.fromkeys(entry.place for entry in entries))


def read_runs(paths: Sequence[Path], names: Sequence[str]) -> list[ScoreEntry]:
    """The entries of all files, benchmark by benchmark.

    Args:
        names: of the runs, one for each file, or one for all; none: `run_name`.

    Raises ReportError for a file that holds no scores, and where two files claim the same place of one run.
    """
    if len(names) not in (0, 1, len(paths)):
        raise ReportError(f"--names has {len(names)} names for {len(paths)} files; give one for each, or one for all")
    entries: list[ScoreEntry] = []
    taken: dict[tuple[str, Place], Path] = {}
    for number, path in enumerate(paths):
        scores = _read_json(path)
        if not isinstance(scores, dict) or scores.get("benchmark") not in [*BENCHMARKS]:
            raise ReportError(
                f"{path}: not a scores file. Pass the .scores.json that evaluate.py writes beside a result"
            )
        if "not_scored" in scores:
            print(f"{path}: not scored, {scores['not_scored']}", file=sys.stderr)
        try:
            run = names[number % len(names)] if names else run_name(path, scores)
            found = entries_of(run, scores)
        except KeyError as error:
            raise ReportError(f"{path}: no {error} in these scores. Score the result again") from None
        except (AttributeError, OverflowError, TypeError, ValueError) as error:
            raise ReportError(f"{path}: not as evaluate.py writes scores ({error}). Score the result again") from None
        if any(taken.get((run, entry.place)) == path.resolve() for entry in found):
            continue  # given twice
        for entry in found:
            if entry.unrated:
                told = f"{entry.unrated} of {entry.items + entry.unrated} answers are not rated yet"
                print(f"{path}: {told}, no overall score counts it; run voicebench/judge.py again", file=sys.stderr)
            if (other := taken.setdefault((run, entry.place), path.resolve())) != path.resolve():
                raise ReportError(f"{other} and {path} are both {label(entry.place)} of run {run!r}; pass --names")
            entries.append(entry)
    entries += overall(entries)
    order = list(BENCHMARKS)
    return sorted(entries, key=lambda e: (order.index(e.place[0]), e.place[1] != "total"))  # stable: else as given


def run_name(path: Path, scores: Mapping) -> str:
    """The result file's name without the benchmark in it; where nothing else is left, the folder's name."""
    name = Path(path.name.removesuffix(".scores.json")).stem
    if scores["benchmark"] == VOICEBENCH.name:  # {model}-{subset}-{split}-audio
        name = re.sub(rf"(^|[-_.]){re.escape(scores['subset'] or '')}([-_.].*)?$", "", name.removeprefix("result-"))
    else:
        name = re.sub(rf"(^|[-_.]){scores['benchmark']}(?=$|[-_.])", "", name)
    return name.strip("-_.") or path.resolve().parent.name


def entries_of(run: str, scores: Mapping) -> list[ScoreEntry]:
    """What a scores file says, place by place; nothing where its answers still wait for a judge."""
    benchmark = scores["benchmark"]
    if benchmark == ASR.name:
        rates = [rate for rate in ("wer", "cer") if scores[rate] is not None]  # no words in scripts without spaces
        places = {rate: (benchmark, "total", rate.upper()) for rate in rates}
        if scores.get("published") is not None:
            places["published"] = (benchmark, "total", "published rule")
        return [_entry_of(run, place, scores, rate, unit="error rate") for rate, place in places.items()]
    if benchmark != VOICEBENCH.name:
        rate = BENCHMARKS[benchmark].published_rate
        return [
            _entry_of(run, (benchmark, level, group), score, rate)
            for level, groups in scores["levels"].items()
            for group, score in groups.items()
        ]
    subset = subset_and_split(scores)
    place = (benchmark, "subset", subset)
    if "levels" in scores:
        return [
            _entry_of(run, place if level == "total" else (benchmark, f"{subset}, {level}", group), score)
            for level, groups in scores["levels"].items()
            for group, score in groups.items()
        ]
    if scores.get("rating") is not None:
        entry = _entry_of(run, place, scores, "rating", "strict_rating", unit="rating")
        unrated = len(scores.get("unrated", ()))
        return [replace(entry, items=entry.items - unrated, unrated=unrated)]  # those enter neither
    if "contains_reference" in scores:
        entry = _entry_of(run, place, scores, "official", "contains_reference")
        return [replace(entry, strict_rule="the response holds the reference")]
    return []


def subset_and_split(scores: Mapping) -> str:
    """What VoiceBench's scores are of: a subset as the leaderboard counts it, or a split of its own, "mmsu (law)".

    sd-qa has a split for each region, of which the leaderboard's is usa, mmsu one for each domain; all of these
    together are its "test".
    """
    subset = scores["subset"] or scores["evaluator"]
    split = scores["split"] if "split" in scores else split_in_name(str(scores.get("result")), subset)
    return subset if split in (None, "test", "usa") else f"{subset} ({split})"


def split_in_name(name: str, subset: str) -> str | None:
    """The split in a result's name, `{model}-{subset}-{split}-audio.jsonl` or any other in which it follows the subset.

    None where no known split of the subset does, but for names of the first kind: there it may be any.
    """
    found = re.fullmatch(rf"(?:.*-)?{re.escape(subset)}-([^-]+)-audio\.jsonl?", name)
    if not found and subset in SUBSETS:
        splits = "|".join(map(re.escape, SUBSETS[subset].splits))
        found = re.search(rf"(?:^|[-_./]){re.escape(subset)}[-_.]({splits})(?=[-_.]|$)", name)
    return found and found[1]


def overall(entries: Sequence[ScoreEntry]) -> list[ScoreEntry]:
    """VoiceBench's overall score of each run that has all nine subsets, each of them rated to its end."""
    result = []
    for run, _ in runs_of(entries):
        mine = [e for e in entries if e.run == run and e.place[:2] == ("voicebench", "subset")]
        mean = mean_of_nine({e.place[2]: e.shown[0] / 100 for e in mine if e.official is not None and not e.unrated})
        if mean is not None:
            result.append(ScoreEntry(run, ("voicebench", "total", "overall"), mean))
    return result


def of_leaderboard(found: Mapping[str, T]) -> dict[str, T]:
    """What there is of the leaderboard's nine columns, in its order; that of alpacaeval is FULL, where it is there."""
    there = {**found, "alpacaeval": found[FULL]} if FULL in found else found
    return {name: there[name] for name in LEADERBOARD if name in there}


def about_alpacaeval(full: bool) -> str:
    """Which of the two subsets the column alpacaeval was taken from."""
    if full:
        return "alpacaeval_full was taken for alpacaeval, as on VoiceBench's leaderboard"
    return (
        "the small alpacaeval was taken; VoiceBench's leaderboard has alpacaeval_full there, which --data all answers"
    )


def mean_of_nine(found: Mapping[str, float]) -> float | None:
    """VoiceBench's overall score from those of its subsets; None unless all nine are there."""
    nine = of_leaderboard(found).values()
    return sum(nine) / len(nine) if len(nine) == len(LEADERBOARD) else None


def read_published(path: Path, places: Sequence[Place]) -> tuple[list[ScoreEntry], list[str]]:
    """The published entries in `places`, and a line about each source that they come from. Raises ReportError."""
    entries, sources = [], []
    for line, row in enumerate(_read_json(path), start=1):
        lacking = [name for name in ("name", "benchmark", "source", "scores") if name not in row]
        if lacking or row["benchmark"] not in BENCHMARKS:
            fault = f"no field {lacking[0]!r}" if lacking else f"benchmark is {row['benchmark']!r}"
            raise ReportError(f"{path} row {line}: {fault}; expected rows as in {PUBLISHED.name}")
        found = []
        for level, groups in row["scores"].items():
            for group, number in groups.items():
                if level == "rating":
                    place, value, unit = (row["benchmark"], "subset", group), number, "rating"
                else:
                    place, value, unit = (row["benchmark"], level, group), number / 100, "rate"
                found.append(ScoreEntry(row["name"], place, value, unit=unit, published=True))
        found = [entry for entry in found if entry.place in places]
        if found:
            entries += found
            note = f" ({row['note']})" if row.get("note") else ""
            sources.append(f"{row['name']}, {BENCHMARKS[row['benchmark']].title}: {row['source']}{note}")
    return entries, sources


def own_questions(entries: Sequence[ScoreEntry]) -> list[tuple[str, str]]:
    """(benchmark, warning) for every run whose items are not as many as the published benchmark has, or not all rated.

    Such a run answered a part of it, or other questions under its name: the miniature's, say.
    """
    found = []
    for e in entries:
        benchmark, level, group = e.place
        if e.published or level not in ("total", "subset"):
            continue
        wanted = SUBSETS[group].items if level == "subset" and group in SUBSETS else BENCHMARKS[benchmark].items
        answered = (e.items or 0) + e.unrated
        name = BENCHMARKS[benchmark].title + ("" if level == "total" else f" {group}")
        if e.unrated:
            told = f"{e.unrated} of {e.run}'s {answered} answers to {name} are not rated yet"
            found.append((benchmark, f"{told}: not to be compared with published scores"))
        if wanted and answered not in (0, wanted):
            told = f"{e.run} answered {answered} questions, {name} has {wanted}"
            found.append((benchmark, f"{told}: not to be compared with published scores"))
    return found


def title_of_rule(benchmark: str) -> str:
    """What a benchmark's official scores are by, in a figure's words."""
    if benchmark == ASR.name:
        return "WER and CER after Whisper's text normalisation, published rule as in DIFFA-2"
    every_item, decided = BENCHMARKS[benchmark].columns
    official = every_item if BENCHMARKS[benchmark].published_rate == "official" else decided
    return "official rule" if official == "official" else official


def label(place: Place) -> str:
    """What a row is called within its benchmark."""
    _, level, group = place
    return group if level in ("total", "subset") else f"{level}: {group}"


def _entry_of(
    run: str, place: Place, scores: Mapping, official: str = "official", strict: str = "strict", unit: str = "rate"
) -> ScoreEntry:
    """From scores as the scorers write them, `official` and `strict` being the names of the two columns.

    Raises TypeError or ValueError for what is no number.
    """

    def interval(name: str) -> Interval | None:
        found = scores.get(f"{name}_interval")
        if found is None:
            return None
        low, high = found
        return number(low), number(high)

    items = next((scores[name] for name in ("n", "items", "utterances") if name in scores), None)
    return ScoreEntry(
        run, place, number(scores.get(official)), interval(official), number(scores.get(strict)), interval(strict),
        number(items), number(scores.get("chance")), number(scores.get("always_a")), unit,
    )  # fmt: skip


def number(value: object) -> float | None:
    """A number that can be drawn, or None. Raises TypeError for anything else."""
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)):
        return value
    raise TypeError(f"expected a number, found {value!r:.60}")


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ReportError(f"{path}: no such file. Score the result first, with the benchmark's evaluate.py") from None
    except ValueError as error:
        raise ReportError(f"{path}: not JSON ({error}). Score the result again") from None
