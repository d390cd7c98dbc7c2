"""What the scorers share: judging and counting, comparing two runs, the table, the scores file.

Nothing is scored by drawing lots: an answer that cannot be understood is wrong, and where a published rule draws a lot,
its chance of being right counts. Light imports only, so that scoring a file does not wait for PyTorch.
"""

import argparse
import json
import string
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from evaluation.benchmark import Benchmark, answers_not_offered, is_withheld
from evaluation.benchmark_files import read_answers
from evaluation.choices import parse_choice
from evaluation.intervals import mcnemar, mean_interval, outcome_interval, rate_interval
from evaluation.offered import right_choices
from evaluation.result_files import BenchmarkFileError, Result, answer_in, answer_of, check_same_items
from src.errors import print_error, reports_user_errors
from src.files import check_outputs, write_file

# --- scores --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """One item's outcome under both rules."""

    key: str
    groups: Mapping[str, str]  # level name -> the item's group on that level
    official: float | None  # True or False; where a lot is drawn, its chance of being right; None where it is not known
    strict: bool
    parsed: str | None  # what the strict rule understood; None when it understood nothing
    chance: float | None = None  # probability of a random guess being right; None where there is nothing to guess
    first: bool = False  # whether always answering A would be right
    error: bool = False  # no answer was made: the audio was unusable, or the item is missing
    undecided: bool = False  # the published rule reads no answer: it draws a lot, or leaves the item out


@dataclass(frozen=True)
class Score:
    """Rates (0 to 1) over `n` items, with 95 % bootstrap intervals (`evaluation.intervals.rate_interval`)."""

    n: int
    official: float | None  # None where that of some item is not known
    official_interval: tuple[float, float] | None
    strict: float
    strict_interval: tuple[float, float]
    unparsed: float
    errors: int
    chance: float | None
    always_a: float | None
    undecided: int = 0  # items in which the published rule reads no answer
    official_decided: float | None = None  # its rate over the others alone; None where there are none
    official_decided_interval: tuple[float, float] | None = None


def score(verdicts: Sequence[Verdict]) -> Score:
    """Both accuracies, and the baselines to compare them with, over a non-empty group of items."""
    n = len(verdicts)
    official, strict = [v.official for v in verdicts], sum(v.strict for v in verdicts)
    known = None not in official
    decided = [v.official for v in verdicts if not v.undecided] if known else []
    guessable = all(v.chance is not None for v in verdicts)
    return Score(
        n=n,
        official=sum(official) / n if known else None,
        official_interval=outcome_interval(official) if known else None,
        strict=strict / n,
        strict_interval=rate_interval(strict, n),
        unparsed=sum(v.parsed is None for v in verdicts) / n,
        errors=sum(v.error for v in verdicts),
        chance=sum(v.chance for v in verdicts) / n if guessable else None,
        always_a=sum(v.first for v in verdicts) / n if guessable else None,
        undecided=sum(v.undecided for v in verdicts),
        official_decided=sum(decided) / len(decided) if decided else None,
        official_decided_interval=rate_interval(sum(decided), len(decided)) if decided else None,
    )


def score_levels(verdicts: Sequence[Verdict]) -> dict[str, dict[str, Score]]:
    """Scores in total and for every group of every level: {"total": {"total": Score}, level: {group: Score}}."""
    levels: dict[str, dict[str, list[Verdict]]] = {"total": {"total": list(verdicts)}}
    for verdict in verdicts:
        for level, group in verdict.groups.items():
            levels.setdefault(level, {}).setdefault(group, []).append(verdict)
    return {level: {name: score(groups[name]) for name in sorted(groups)} for level, groups in levels.items()}


def groups_of(record: Mapping, levels: Sequence[str]) -> dict[str, str]:
    """The item's group on each of `levels` that it has a value for."""
    return {level: str(record[level]) for level in levels if record.get(level) not in (None, "")}


# --- two runs on the same items ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """Two runs' rates (0 to 1) on the same items, and the significance of their difference."""

    ours: float
    theirs: float
    difference: float  # ours - theirs
    difference_interval: tuple[float, float]  # 95 %, paired bootstrap
    only_ours: int  # items that only our run got right (where a lot is drawn for neither)
    only_theirs: int
    p: float  # McNemar's, exact, two-sided


def compare(ours: Sequence[float], theirs: Sequence[float]) -> Comparison:
    """Compare two runs by whether they got each item right; the same item stands at the same place in both.

    The chance of a lot counts in the rates and their difference, not in McNemar's test, which is of right and wrong.
    """
    differences = [float(a) - float(b) for a, b in zip(ours, theirs, strict=True)]
    n, only_ours, only_theirs = len(differences), differences.count(1), differences.count(-1)
    return Comparison(
        ours=sum(ours) / n,
        theirs=sum(theirs) / n,
        difference=sum(differences) / n,
        difference_interval=mean_interval(differences),
        only_ours=only_ours,
        only_theirs=only_theirs,
        p=mcnemar(only_ours, only_theirs),
    )


def compare_rules(ours: Sequence[Verdict], theirs: Sequence[Verdict]) -> dict[str, Comparison]:
    """`compare` by the official and by the strict rule; not by one that leaves some item open."""
    found = {rule: [[getattr(v, rule) for v in run] for run in (ours, theirs)] for rule in ("official", "strict")}
    return {rule: compare(*runs) for rule, runs in found.items() if None not in runs[0] + runs[1]}


# --- the table and the file ----------------------------------------------------------------------------------------


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Plain-text table: first column to the left, the others to the right."""
    lines = [list(map(str, header)), *(list(map(str, row)) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def percent(rate: float | None) -> str:
    return "-" if rate is None else f"{100 * rate:.1f} %"


def format_interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def format_scores(levels: Mapping[str, Mapping[str, Score]], columns: tuple[str, str] = ("official", "")) -> str:
    """The table of `score_levels`, one block of rows per level; `columns` as in `Benchmark`."""
    official, decided = columns
    header = ["", "items", official, "95 %", *([decided, "95 %"] if decided else [])]
    header += ["strict", "95 %", "unparsed", "chance", "always A"]
    rows = []
    for level, groups in levels.items():
        if level != "total":
            rows.append([f"{level}:", *[""] * (len(header) - 1)])
        for name, s in groups.items():
            row = [
                name if level == "total" else f"  {name}",
                s.n,
                percent(s.official),
                format_interval(s.official_interval),
            ]
            if decided:
                row += [percent(s.official_decided), format_interval(s.official_decided_interval)]
            row += [percent(s.strict), format_interval(s.strict_interval)]
            rows.append([*row, percent(s.unparsed), percent(s.chance), percent(s.always_a)])
    return format_table(header, rows)


def format_comparisons(comparisons: Mapping[str, Comparison]) -> str:
    """The table of what `compare` found, one row per rule; differences in points of percentage."""
    rows = [
        [rule, percent(c.ours), percent(c.theirs), f"{100 * c.difference:+.1f}", format_interval(c.difference_interval),
         c.only_ours, c.only_theirs, f"{c.p:.3g}"]
        for rule, c in comparisons.items()
    ]  # fmt: skip
    header = ["", "this", "other", "difference", "95 %", "only this right", "only other right", "McNemar's p"]
    return format_table(header, rows)


def scores_path(result: Path) -> Path:
    return result.with_name(result.name + ".scores.json")


def write_scores(result: Path, scores: Mapping) -> Path:
    """Write `scores` to `<result>.scores.json`, and return that path."""
    path = scores_path(result)
    write_file(path, json.dumps(scores, indent=1, ensure_ascii=False) + "\n")
    return path


def parse_args(
    docstring: str,
    argv: Sequence[str] | None = None,
    add_flags: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> argparse.Namespace:
    """The flags that the scorers share (`result`, `reference`, `compare`) and a scorer's own. Raises OutputError."""
    parser = argparse.ArgumentParser(
        description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("result", type=Path, help="result file: JSON Lines or a JSON list")
    parser.add_argument(
        "--reference", type=Path, help="the benchmark's own file: items missing from the result then count as wrong"
    )
    parser.add_argument("--compare", type=Path, help="another run's result on the same items, to hold this one against")
    add_flags(parser)
    args = parser.parse_args(argv)
    check_outputs([scores_path(args.result)], [args.result, args.reference, args.compare])
    return args


@reports_user_errors
def run_scorer(
    benchmark: Benchmark,
    docstring: str,
    argv: Sequence[str] | None = None,
    rule: Callable[[Result], Callable[[Benchmark, str, Mapping], Verdict]] | None = None,
) -> int:
    """The command line of a scorer: read, judge every item, print, write; the exit status.

    `rule` gives what judges the items of a result, where that is not `judge`, multiple choice.
    """
    args = parse_args(docstring, argv)
    result = read_answers(benchmark, args.result, args.reference)
    verdicts = judge_items(benchmark, result, rule)
    levels = score_levels(verdicts)
    scores = {
        "benchmark": benchmark.name,
        "result": args.result.name,
        "broken": result.broken,
        "missing": result.missing,
        "rules": dict(zip(("official", "official_decided"), benchmark.columns, strict=True)),
        "levels": {level: {name: asdict(s) for name, s in groups.items()} for level, groups in levels.items()},
    }
    scores["answers_not_offered"] = answers_not_offered(benchmark, result.items.items())
    comparisons = {}
    if args.compare:
        other = read_answers(benchmark, args.compare, args.reference)
        check_same_items(result, other)
        theirs = {verdict.key: verdict for verdict in judge_items(benchmark, other, rule)}
        comparisons = compare_rules(verdicts, [theirs[verdict.key] for verdict in verdicts])
        scores["broken"] += other.broken
        scores["comparison"] = {"with": str(args.compare)} | {rule: asdict(c) for rule, c in comparisons.items()}
    table = [f"{benchmark.name}: {args.result}\n{format_scores(levels, benchmark.columns)}"]
    if benchmark.columns[1]:
        unread, (all_items, decided) = levels["total"]["total"].undecided, benchmark.columns
        table.append(f"{unread} answer(s) without a letter: wrong in {all_items}, left out of {decided}")
    if others := len(result.items) - len(verdicts):
        table.append(f"{others} item(s) without choices are not scored here")
    if levels["total"]["total"].official is None:
        scores["not_scored"] = f"no official score: {benchmark.no_official}"
        table.append(scores["not_scored"])
    if comparisons:
        table.append(f"compared with {args.compare}, item by item\n{format_comparisons(comparisons)}")
    table += [f"warning: {args.result} item {fault}" for fault in scores["answers_not_offered"]]
    return report(args.result, scores | {"verdicts": [asdict(verdict) for verdict in verdicts]}, "\n".join(table))


def judge(benchmark: Benchmark, name: str, record: Mapping) -> Verdict:
    """Verdict on the item `name` of a multiple-choice benchmark, by the official rule and by the strict one.

    An item whose answer is none of its choices cannot be strictly right. Raises KeyError for a field that is missing.
    """
    choices, answer = benchmark.choices(record), record[benchmark.answer]
    offered = [choice for choice in choices if choice is not None]
    answered = answer_of(record, benchmark.answer_fields)
    response = answered or ""
    index, right = parse_choice(response, choices), right_choices(answer, choices)
    return Verdict(
        key=name,
        groups=groups_of(record, benchmark.levels),
        official=benchmark.official(response, answer, choices) if benchmark.official else None,
        strict=index in right,
        parsed=None if index is None else string.ascii_uppercase[index],
        chance=len(right) / max(1, len(offered)),
        first=0 in right,
        error=answered is None,
        undecided=any(field in record for field in benchmark.answer_fields)
        and not record.get("error")
        and benchmark.leaves_out(answer_in(record, benchmark.answer_fields)),
    )


def judge_items(
    benchmark: Benchmark,
    result: Result,
    rule: Callable[[Result], Callable[[Benchmark, str, Mapping], Verdict]] | None = None,
) -> list[Verdict]:
    """Every item's Verdict; `rule` as in `run_scorer`.

    Raises BenchmarkFileError for a field that is missing, and for an item with both an answer and an error.
    """
    if all(is_withheld(benchmark, record) for record in result.items.values()):
        raise BenchmarkFileError(
            f"{result.path}: the right choices of these {len(result.items)} items are not published, and so nothing is "
            f"scored here. {benchmark.withheld}"
        )
    verdicts, judge_item = [], rule(result) if rule else judge
    for name, record in result.items.items():
        if not benchmark.is_scored(record):
            continue
        answer = answer_in(record, benchmark.answer_fields)
        error = record.get("error")
        if error and str(answer or "").strip():
            raise BenchmarkFileError(
                f"{result.path} item {name}: has both an error ({error!r:.60}) and an answer ({answer!r:.60}); "
                "published scorers count the answer, here the error would count. Remove one of them"
            )
        try:
            if not isinstance(record[benchmark.answer], str):
                found = f"{record[benchmark.answer]!r:.60}"
                raise BenchmarkFileError(f"{result.path} item {name}: {benchmark.answer} must be a text, found {found}")
            if problem := benchmark.problem(record):
                raise BenchmarkFileError(f"{result.path} item {name}: {problem}")
            verdicts.append(judge_item(benchmark, name, record))
        except KeyError as error:
            raise BenchmarkFileError(
                f"{result.path} item {name}: no field {error}; is this a result of this benchmark?"
            ) from None
    if not verdicts:
        raise BenchmarkFileError(
            f"{result.path}: of {len(result.items)} items none is scored here: pass a result that has some"
        )
    return verdicts


def report(result: Path, scores: Mapping, table: str) -> int:
    """Write the scores file, print the table, name what was wrong with the result file; the exit status."""
    path = write_scores(result, scores)
    print(table)
    total = scores.get("levels", {}).get("total", {}).get("total")
    if total and total["errors"]:
        print(f"{total['errors']} item(s) have no answer (error or missing) and count as wrong")
    if scores["missing"]:
        print(f"{len(scores['missing'])} item(s) of the reference are missing: {', '.join(scores['missing'][:20])}")
    for line in scores["broken"]:
        print(f"broken: {line}", file=sys.stderr)
    print(f"scores: {path}")
    if scores["broken"]:
        print_error(f"{len(scores['broken'])} broken line(s) could not be read")
    return 1 if scores["broken"] else 0
