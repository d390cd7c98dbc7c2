"""VoiceBench's overall score: the mean of the nine subsets of its leaderboard, each from 0 to 100, ratings times 20."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from evaluation.benchmarks import FULL, LEADERBOARD
from evaluation.result_files import BenchmarkFileError
from evaluation.scoreboard import about_alpacaeval, mean_of_nine, of_leaderboard, subset_and_split
from evaluation.scoring import format_table

SUFFIX = ".scores.json"


def find_scores(paths: Sequence[Path]) -> list[Path]:
    """The scores files among `paths`, and in those that are folders. Raises BenchmarkFileError where there are none."""
    found = []
    for path in paths:
        files = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
        if not files:
            raise BenchmarkFileError(f"{path} holds no *{SUFFIX}: score its results first, one by one")
        found += files
    return found


def read_scores(files: Iterable[Path]) -> dict[str, tuple[Path, dict]]:
    """The scores of each subset that the leaderboard counts, and the file they come from.

    Raises BenchmarkFileError for a file that is none of scores, and for two of one subset: they are of two models.
    """
    subsets: dict[str, tuple[Path, dict]] = {}
    for file in files:
        try:
            scores = json.loads(file.read_text(encoding="utf-8"))
            if scores["benchmark"] != "voicebench":
                continue
            subset = subset_and_split(scores)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BenchmarkFileError(
                f"{file}: not a scores file ({type(error).__name__}: {error}); score the result again"
            ) from None
        if subset not in (*LEADERBOARD, FULL):
            continue
        if subset in subsets:
            raise BenchmarkFileError(
                f"two files for {subset}: {subsets[subset][0]} and {file}. Pass the nine files of one model"
            )
        subsets[subset] = (file, scores)
    return subsets


def points(scores: Mapping) -> float | None:
    """A subset's official score from 0 to 100; None where it is not scored (yet)."""
    evaluator = scores.get("evaluator")
    if evaluator == "open":
        return None if scores.get("rating") is None or scores.get("unrated") else 20 * scores["rating"]
    rate = scores.get("official") if evaluator == "qa" else None
    if "levels" in scores:
        rate = scores["levels"]["total"]["total"]["official"]
    return None if rate is None else 100 * rate


def format_overall(paths: Sequence[Path]) -> tuple[str, bool]:
    """The table of the nine subsets, and whether all are there; without all nine there is no overall score."""
    found = read_scores(find_scores(paths))
    scored = {name: entry for name, entry in found.items() if points(entry[1]) is not None}
    nine = of_leaderboard(found) | of_leaderboard(scored)  # where there is no score, the file may say why
    rows, missing, values = [], [], {}
    for name in LEADERBOARD:
        file, scores = nine.get(name, (None, {}))
        value = points(scores)
        if value is None:
            unrated = len(scores.get("unrated", ()))
            reason = f"{unrated} of {scores['items']} answers are not rated yet" if unrated else "no scores file"
            missing.append(f"{name}: {scores.get('not_scored', reason)}")
            rows.append([name, scores.get("items", "-"), "-", "-", file.name if file else "-"])
            continue
        values[name] = value
        rating = f"{scores['rating']:.2f}" if scores["evaluator"] == "open" else "-"
        rows.append([name, scores["items"], rating, f"{value:.2f}", file.name])
    table = format_table(["", "items", "rating", "of 100", "file"], rows)
    if "alpacaeval" in values:
        table += f"\n{about_alpacaeval(nine['alpacaeval'] is found.get(FULL))}"
    if missing:
        return (
            f"{table}\nno overall score: {len(missing)} of {len(LEADERBOARD)} subsets missing\n  "
            + "\n  ".join(missing)
        ), False
    return f"{table}\noverall: {mean_of_nine(values):.2f}", True
