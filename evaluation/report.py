"""One report over any number of runs: a Markdown table, the same as JSON, and figures, beside what was published.

    python -m evaluation.report results/base/*.scores.json results/new/*.scores.json --output report
    python -m evaluation.report a/mmsu.jsonl.scores.json b/mmsu.jsonl.scores.json --names a b --output report

Scores files come from the evaluate.py of each benchmark. A run is called after its result file's name without the
benchmark in it (`base-mmsu.jsonl` belongs to run `base`), after the folder where nothing else is left
(`base/mmsu.jsonl`), or as `--names` says. Files of one name are one run. Published scores are shown in the rows that
some run has.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from evaluation.benchmarks import BENCHMARKS, FULL
from evaluation.figures import bar_figures, draw_bars, draw_radar, radar_axes
from evaluation.scoreboard import (
    PUBLISHED,
    Interval,
    ScoreEntry,
    about_alpacaeval,
    label,
    own_questions,
    places_of,
    read_published,
    read_runs,
    runs_of,
)
from evaluation.scoring import format_interval, percent
from src.errors import reports_user_errors
from src.files import check_outputs, write_file

ABOUT = (
    "Brackets hold 95 % bootstrap intervals over items. *Official* is the benchmark's published rule, to compare with "
    "published numbers; *strict* reads an answer as a person would, and counts every item."
)
ABOUT_QA = (
    "sd-qa: official is the mean of PEDANT and of the judge's votes, strict whether the response holds the reference."
)
ABOUT_RATINGS = "Ratings go from 1 to 5; official is the mean over rated answers, strict counts no answer as 1."


def markdown(entries: Sequence[ScoreEntry], sources: Sequence[str]) -> str:
    """The report: one table, with two columns for each run and one for each published model, and what it rests on."""
    header = ["benchmark", "category", "items", "chance", "always A"]
    for run, published in runs_of(entries):
        header += [f"{run} (published)"] if published else [f"{run}: official", f"{run}: strict"]
    lines = [header, ["---"] * 2 + ["---:"] * (len(header) - 2)]
    lines += [table_row([e for e in entries if e.place == place], entries) for place in places_of(entries)]
    table = "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines)
    notes = [ABOUT]
    if any(e.unit == "error rate" for e in entries):
        notes.append(
            "ASR: word and character error rate after Whisper's text normalisation, and the error rate by DIFFA-2's "
            "published rule; lower is better."
        )
    if any(e.place[0] == "voicebench" and e.place[2].startswith("sd-qa") for e in entries):
        notes.append(ABOUT_QA)
    if any(e.unit == "rating" for e in entries):
        notes.append(ABOUT_RATINGS)
    warnings = [text for _, text in own_questions(entries)] if any(e.published for e in entries) else []
    notes += [f"**Warning:** {text}." for text in dict.fromkeys(warnings)]
    overall = [e.run for e in entries if e.place == ("voicebench", "total", "overall")]
    rated = [e for e in entries if e.official is not None and not e.unrated]
    full = {e.run for e in rated if e.place == ("voicebench", "subset", FULL)}
    notes += [f"VoiceBench's overall score of {run}: {about_alpacaeval(run in full)}." for run in overall]
    if sources:
        notes.append(
            "Published (evaluation/published_scores.json says where the numbers were read):\n\n"
            + "\n".join(f"- {source}" for source in sources)
        )
    return "\n\n".join(["# Scores", table, *notes]) + "\n"


def table_row(here: Sequence[ScoreEntry], entries: Sequence[ScoreEntry]) -> list[str]:
    """The row of one place, from the entries that are there."""
    first, found = here[0], {(e.run, e.published): e for e in here}
    items = dict.fromkeys(str(e.items) for e in here if e.items)  # several where runs are not over the same items
    row = [BENCHMARKS[first.place[0]].title, label(first.place), " / ".join(items)]
    row += [percent(first.chance), percent(first.always_a)]
    for run, published in runs_of(entries):
        e = found.get((run, published))
        if published:
            row.append(cell(e.official, None, e.unit, digits=2) if e else "")
        elif e:
            row += [cell(e.official, e.official_interval, e.unit), cell(e.strict, e.strict_interval, e.unit)]
        else:
            row += ["", ""]
    return row


def cell(value: float | None, interval: Interval | None, unit: str, digits: int = 1) -> str:
    """A score as the table shows it; `digits` of a rate in per cent."""
    if value is None:
        return "-"
    if unit == "rating":
        return f"{value:.2f} of 5" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")
    return f"{100 * value:.{digits}f} %" + (f" {format_interval(interval)}" if interval else "")


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("scores", type=Path, nargs="+", help="the .scores.json files that evaluate.py wrote")
    parser.add_argument("--output", type=Path, default=Path("report"), help="folder (default: %(default)s)")
    parser.add_argument("--names", nargs="+", default=[], help="of the runs, one for each file or one for all")
    parser.add_argument("--published", type=Path, default=PUBLISHED, help="published scores (default: %(default)s)")
    args = parser.parse_args(argv)
    outputs = [args.output / name for name in ("report.md", "report.json", "radar.png")]
    check_outputs(outputs, [*args.scores, args.published])
    entries = read_runs(args.scores, args.names)
    published, sources = read_published(args.published, places_of(entries))
    everything = entries + published
    text = markdown(everything, sources)
    write_file(args.output / "report.md", text)
    content = {"entries": [asdict(entry) for entry in everything], "sources": sources}
    write_file(args.output / "report.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    if axes := radar_axes(entries):
        write_file(args.output / "radar.png", draw_radar(everything, axes))
    for name, rows in bar_figures(places_of(entries)).items():
        write_file(args.output / f"{name}.png", draw_bars(everything, rows))
    print(f"{text}\nreport: {args.output}/report.md and report.json, figures beside them")
    return 0


if __name__ == "__main__":
    sys.exit(main())
