"""VoiceBench's overall score: the mean of the nine subsets of its leaderboard, each from 0 to 100, ratings times 20."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from src.records import BenchmarkFileError
from src.scoring import format_table
from voicebench.subsets import LEADERBOARD

SUFFIX = ".scores.json"
STAND_IN = {"alpacaeval_full": "alpacaeval"}  # VoiceBench took the full set for its leaderboard, later the small one


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
    """The scores of each subset of the leaderboard, and the file they come from.

    Raises BenchmarkFileError for a file that is none of scores, and for two of one subset: they are of two models.
    """
    subsets: dict[str, tuple[Path, dict]] = {}
    for file in files:
        try:
            scores = json.loads(file.read_text(encoding="utf-8"))
            benchmark, subset = scores["benchmark"], scores.get("subset")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BenchmarkFileError(f"{file}: not a scores file ({type(error).__name__}: {error})") from None
        if benchmark != "voicebench" or subset not in (*LEADERBOARD, *STAND_IN) or is_other_region(scores):
            continue
        if subset in subsets:
            raise BenchmarkFileError(
                f"two files for {subset}: {subsets[subset][0]} and {file}. Pass the nine files of one model"
            )
        subsets[subset] = (file, scores)
    for name, place in STAND_IN.items():
        if name in subsets:
            subsets.setdefault(place, subsets[name])
            del subsets[name]
    return subsets


def is_other_region(scores: Mapping) -> bool:
    """Whether these are of an sd-qa split that the leaderboard does not count: it has the one of the USA."""
    region = re.search(r"sd-qa-([^-]+)-audio", str(scores.get("result")))
    return scores.get("subset") == "sd-qa" and region is not None and region[1] not in ("usa", "test")


def points(scores: Mapping) -> float | None:
    """A subset's official score from 0 to 100; None where it is not scored (yet)."""
    evaluator = scores.get("evaluator")
    if evaluator == "open":
        return None if scores.get("rating") is None else 20 * scores["rating"]
    rate = scores.get("official") if evaluator == "qa" else None
    if "levels" in scores:
        rate = scores["levels"]["total"]["total"]["official"]
    return None if rate is None else 100 * rate


def format_overall(paths: Sequence[Path]) -> tuple[str, bool]:
    """The table of the nine subsets, and whether all are there; without all nine there is no overall score."""
    subsets = read_scores(find_scores(paths))
    rows, missing, found = [], [], []
    for name in LEADERBOARD:
        file, scores = subsets.get(name, (None, {}))
        value = points(scores)
        if value is None:
            reason = scores.get("not_scored", "no scores file")
            missing.append(f"{name}: {reason}")
            rows.append([name, scores.get("items", "-"), "-", "-", file.name if file else "-"])
            continue
        found.append(value)
        rating = f"{scores['rating']:.2f}" if scores["evaluator"] == "open" else "-"
        rows.append([name, scores["items"], rating, f"{value:.2f}", file.name])
    table = format_table(["", "items", "rating", "of 100", "file"], rows)
    if missing:
        return (
            f"{table}\nno overall score: {len(missing)} of {len(LEADERBOARD)} subsets missing\n  "
            + "\n  ".join(missing)
        ), False
    return f"{table}\noverall: {sum(found) / len(found):.2f}", True
