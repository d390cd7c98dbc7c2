"""One page about one run: its scores beside published ones, and all it takes to get them again; Markdown and HTML.

    python -m evaluation.report_card results/base/*.scores.json --name base --output report

Scores files come from the evaluate.py of each benchmark. What was run, with which commit, checkpoint and options,
stands in the `.meta.json` beside each result. The page is `report_card.md` and, in one file, `report_card.html`.
"""

import argparse
import html
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from evaluation.benchmarks import BENCHMARKS
from evaluation.journal import meta_path
from evaluation.report import cell
from evaluation.scoreboard import (
    PUBLISHED,
    ReportError,
    ScoreEntry,
    own_questions,
    places_of,
    read_published,
    read_runs,
    runs_of,
    title_of_rule,
)
from src.errors import reports_user_errors
from src.files import check_outputs, write_file
from src.generation_options import GenerationOptions

OPTIONS = ("steps", "block_length", "max_new_tokens")  # told of every benchmark; others where not the default
DEFAULTS = asdict(GenerationOptions()) | {"swap_audio": False, "compile": False}
MAX_HASH = 12  # letters of a fingerprint
_SHA256 = re.compile("[0-9a-f]{64}")
STYLE = """
body { font: 13px/1.4 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222; }
h1 { font-size: 1.5em; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 1.1em; margin: 1.2em 0 .3em; }
table { border-collapse: collapse; width: 100%; } th, td { border-bottom: 1px solid #ccc; padding: .2em .5em; }
th { text-align: left; } td:last-child { overflow-wrap: anywhere; } .warning { color: #b00; } p { margin: .4em 0; }
@page { size: A4; margin: 12mm; } @media print { body { margin: 0; font-size: 10px; } }
"""


@dataclass(frozen=True)
class Table:
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Card:
    """The page, whatever it is written in."""

    title: str
    tables: Sequence[Table]
    warnings: Sequence[str]
    notes: Sequence[str]

    def markdown(self) -> str:
        parts = [f"# {self.title}", *(f"**Warning:** {warning}." for warning in self.warnings)]
        for table in self.tables:
            lines = [table.header, ["---"] * len(table.header), *table.rows]
            text = "\n".join("| " + " | ".join(_one_line(c).replace("|", "\\|") for c in line) + " |" for line in lines)
            parts += [f"## {table.title}", text]
        return "\n\n".join([*parts, *self.notes]) + "\n"

    def html(self) -> str:
        title = html.escape(self.title)
        body = [f"<h1>{title}</h1>", *(f'<p class="warning">{html.escape(text)}.</p>' for text in self.warnings)]
        for table in self.tables:
            body.append(f"<h2>{html.escape(table.title)}</h2>\n<table>")
            body.append("<tr>" + "".join(f"<th>{html.escape(c)}</th>" for c in table.header) + "</tr>")
            body += ["<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in table.rows]
            body.append("</table>")
        body += [f"<p>{html.escape(note)}</p>" for note in self.notes]
        head = f'<meta charset="utf-8">\n<title>{title}</title>\n<style>{STYLE}</style>'
        top = f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>'
        return "\n".join([top, *body, "</body>\n</html>\n"])


def card_of(
    entries: Sequence[ScoreEntry],
    published: Sequence[ScoreEntry],
    sources: Sequence[str],
    metas: Mapping[str, dict | None],
) -> Card:
    """The card of the run whose entries these are.

    Published scores stand beside them, `sources` says where they are from; `metas` holds what the run's `.meta.json`
    files say, by result file.
    """
    [(run, _)] = runs_of(entries)
    shown = [e for e in entries if e.place[1] in ("total", "subset")]
    places = places_of(shown)
    beside = [e for e in published if e.place in places]
    rules = [f"{BENCHMARKS[name].title}: {title_of_rule(name)}" for name in dict.fromkeys(p[0] for p in places)]
    notes = [
        f"Official scores are by the benchmarks' published rules ({'; '.join(rules)}), strict ones read an answer as a "
        "person would and count every item. Brackets: 95 % bootstrap intervals over items."
    ]
    unofficial = [e for e in shown if e.official is None and e.strict is not None]
    for e in unofficial:
        name = BENCHMARKS[e.place[0]].title if e.place[2] == "total" else e.place[2]
        notes.append(f"{name} has no official score; strict: {e.strict_rule}.")
    if missing := [name for name, meta in metas.items() if meta is None]:
        notes.append(f"No .meta.json tells how these were made: {', '.join(missing)}.")
    notes += [f"Published: {source}" for source in sources]
    known = {name: meta for name, meta in metas.items() if meta is not None}
    return Card(
        f"Report card: {run}",
        [_scores_table(shown, beside), _options_table(known), _facts_table(known)],
        list(dict.fromkeys(text for _, text in own_questions(shown))) if beside else [],
        notes,
    )


def _scores_table(shown: Sequence[ScoreEntry], published: Sequence[ScoreEntry]) -> Table:
    models = [name for name, _ in runs_of(published)]
    rows = []
    for e in shown:
        name = BENCHMARKS[e.place[0]].title + ("" if e.place[2] == "total" else f" {e.place[2]}")
        theirs = {p.run: cell(p.official, None, p.unit, digits=2) for p in published if p.place == e.place}
        chance = "" if e.chance is None else cell(e.chance, None, "rate")
        rows.append(
            [name, str(e.items or ""), cell(e.official, e.official_interval, e.unit),
             cell(e.strict, e.strict_interval, e.unit), chance, *(theirs.get(model, "") for model in models)]
        )  # fmt: skip
    return Table("Scores", ["", "items", "official", "strict", "chance", *(f"{m} (published)" for m in models)], rows)


def _options_table(metas: Mapping[str, dict]) -> Table:
    rows = []
    for name, meta in metas.items():
        settings = meta.get("settings", {})
        unusual = [n for n, usual in DEFAULTS.items() if n not in OPTIONS and settings.get(n, usual) != usual]
        if not settings.get("temperature") and settings.get("remasking") != "random":
            unusual = [n for n in unusual if n != "seed"]  # nothing is drawn
        passes, speed = meta.get("forward_passes_per_item"), meta.get("tokens_per_second")
        rows.append(
            [name, *(str(settings.get(option, "")) for option in OPTIONS),
             ", ".join(f"{n} {settings[n]}" for n in unusual),
             str(meta.get("errors", "")), *("" if figure is None else f"{figure:g}" for figure in (passes, speed))]
        )  # fmt: skip
    header = ["answers", "steps", "block", "tokens", "other than exact", "no answer", "passes an item", "tokens/s"]
    return Table("Options", header, rows)


def _facts_table(metas: Mapping[str, dict]) -> Table:
    """What was run; a fact in which the benchmarks differ has every value, each with the benchmarks it is of."""
    facts: dict[str, dict[str, list[str]]] = {}
    for name, meta in metas.items():
        for fact, value in _facts(meta).items():
            facts.setdefault(fact, {}).setdefault(value, []).append(name)
    rows = []
    for fact, values in facts.items():
        told = [v if len(values) == 1 else f"{v} ({', '.join(names)})" for v, names in values.items()]
        rows.append([fact, "; ".join(told)])
    return Table("What was run", ["", ""], rows)


def _facts(meta: Mapping) -> dict[str, str]:
    parts, settings, precision = meta.get("parts", {}), meta.get("settings", {}), meta.get("precision", {})
    hashes = {
        part: ", ".join(
            f"{key.removeprefix(f'{part} ')} {re.sub(_SHA256, lambda found: found[0][:MAX_HASH], str(value))}"
            for key, value in settings.items() if key.startswith(f"{part} ") and not key.endswith("config.json")
        )
        for part in ("checkpoint", "llm", "whisper")
    }  # fmt: skip
    named = {"checkpoint": parts.get("diffa"), "llm": parts.get("llm"), "whisper": parts.get("whisper")}
    versions = meta.get("versions", {})
    number_format = precision.get("name", settings.get("dtype"))
    rounded = f", the LLM's weights in {settings['quantize']}" if settings.get("quantize") else ""
    return {
        "commit": meta.get("commit", "not recorded") + (" and changes" if meta.get("changed") else ""),
        **{part: f"{named[part]} ({hashes[part]})" if hashes[part] else str(named[part]) for part in named},
        "stage, family": f"{parts.get('stage')}, {parts.get('family')}",
        "device, precision": f"{meta.get('device')}, {number_format}{rounded}",
        "versions": ", ".join(
            f"{name} {versions[name]}" for name in ("python", "torch", "transformers") if name in versions
        ),
        "day": str(meta.get("started", ""))[:10],
    }


def _one_line(text: str) -> str:
    return " ".join(text.split())


def read_metas(scores: Sequence[Path]) -> dict[str, dict | None]:
    """What the `.meta.json` beside each result says, by the result's name, and folders' as far as names repeat.

    Raises ReportError for one that cannot be read.
    """
    # A result may be a link to another disk, while its meta file lies beside the link: none is followed.
    paths = [Path(os.path.abspath(path.with_name(path.name.removesuffix(".scores.json")))) for path in scores]
    results, metas = list(dict.fromkeys(paths)), {}
    for result in results:
        name, meta = short_name(result, results), meta_path(result)
        try:
            metas[name] = json.loads(meta.read_text(encoding="utf-8")) if meta.is_file() else None
        except ValueError as error:
            raise ReportError(f"{meta}: not JSON ({error}); answer again, or delete it") from None
    return metas


def short_name(path: Path, paths: Sequence[Path]) -> str:
    """The last parts of `path`, as few as no other of the `paths`, which are absolute, ends in."""
    lengths = range(1, len(path.parts) + 1)
    alone = next(n for n in lengths if sum(other.parts[-n:] == path.parts[-n:] for other in paths) == 1)
    return str(Path(*path.parts[-alone:]))


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "scores", type=Path, nargs="+", help="the .scores.json files that evaluate.py wrote, of one run"
    )
    parser.add_argument("--output", type=Path, default=Path("report"), help="folder (default: %(default)s)")
    parser.add_argument("--name", help="of the run (default: by its files)")
    parser.add_argument("--published", type=Path, default=PUBLISHED, help="published scores (default: %(default)s)")
    args = parser.parse_args(argv)
    outputs = [args.output / "report_card.md", args.output / "report_card.html"]
    check_outputs(outputs, [*args.scores, args.published])
    entries = read_runs(args.scores, [args.name] if args.name else [])
    if len(runs := runs_of(entries)) != 1:
        names = ", ".join(run for run, _ in runs) or "none"
        raise ReportError(f"a report card is of one run, found {names}: pass the files of one, or --name")
    published, sources = read_published(args.published, places_of(entries))
    card = card_of(entries, published, sources, read_metas(args.scores))
    write_file(outputs[0], card.markdown())
    write_file(outputs[1], card.html())
    print(f"report card: {outputs[0]} and {outputs[1].name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
