"""The report's figures: a radar chart over benchmarks, and bars per category with their intervals.

Every figure says by which rule its scores are. A score that is not by the published rule is an outline, not a bar.
"""

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from evaluation.benchmarks import BENCHMARKS
from evaluation.figure_text import columns_of, use_fonts, wrap_name
from evaluation.scoreboard import Place, ScoreEntry, own_questions, places_of, runs_of, title_of_rule

MAX_GROUPS = 12  # of a level; one with more gets a figure of its own
MAX_COLORS = 10  # of Matplotlib's cycle; further runs have a pattern besides, and all of them a number
MAX_FILLED = 4  # polygons of a radar chart; more of them cover each other
PATTERNS = ("", "///", "...", "xxx")
MARKERS = ("o", "s", "^", "D")
LINES = ("-", "-.", ":", (0, (3, 1, 1, 1, 1, 1)))  # of our runs; those of published models are dashed
WIDTH = 8  # inches
NAME_WIDTH = 34  # letters of a run's name in one line

use_fonts()


@dataclass(frozen=True)
class RunStyle:
    """How one run is told from the others of a figure."""

    name: str  # in the legend
    mark: str  # beside a value, where there are too many runs for colours alone
    color: str
    pattern: str
    marker: str
    line: str | tuple
    published: bool

    def bar(self, official: bool) -> dict:
        if not official:
            return {"height": 0.92, "facecolor": "white", "edgecolor": self.color, "hatch": self.pattern}
        edge = "white" if self.pattern else "none"
        return {
            "height": 0.92, "facecolor": self.color, "alpha": 0.35 if self.published else 0.75, "edgecolor": edge,
            "hatch": self.pattern,
        }  # fmt: skip


def styles_of(runs: Sequence[tuple[str, bool]]) -> list[RunStyle]:
    """A style for each (name, published)."""
    many, styles = len(runs) > MAX_COLORS, []
    for number, (run, published) in enumerate(runs):
        cycle = number // MAX_COLORS % len(PATTERNS)
        mark = f"({number + 1})" if many else ""
        style = RunStyle(
            name=f"{mark} {wrap_name(f'{run} (published)' if published else run, NAME_WIDTH)}".strip(),
            mark=mark and f"  {mark}",
            color=f"C{number % MAX_COLORS}",
            pattern=PATTERNS[cycle],
            marker=MARKERS[cycle],
            line="--" if published else LINES[cycle],
            published=published,
        )
        styles.append(style)
    return styles


# --- radar ---------------------------------------------------------------------------------------------------------


def radar_axes(entries: Sequence[ScoreEntry]) -> list[Place]:
    """Each benchmark's total, of ASR the WER, VoiceBench by its subsets; below three axes the first categories as well.

    Places without an official score are left out. Empty when there are fewer than three axes even so: such a chart
    would show nothing.
    """
    places = places_of([entry for entry in entries if entry.official is not None])
    totals = [p for p in places if p[1] in ("total", "subset") and p[2] not in ("CER", "published rule", "overall")]
    axes = totals if len(totals) >= 3 else totals + [p for p in places if p[1] == BENCHMARKS[p[0]].first_level]
    return axes if len(axes) >= 3 else []


def draw_radar(entries: Sequence[ScoreEntry], axes: Sequence[Place]) -> bytes:
    """PNG: a polygon for each run, outwards is better; open where a run has no official score."""
    shown = [entry for entry in entries if entry.place in axes and entry.official is not None]
    runs = runs_of(shown)
    angles = np.linspace(0, 2 * np.pi, len(axes), endpoint=False)
    figure, plot = plt.subplots(
        figsize=(WIDTH, WIDTH + _legend_height([style.name for style in styles_of(runs)])),
        subplot_kw={"projection": "polar"}, layout="constrained",
    )  # fmt: skip
    for (run, published), style in zip(runs, styles_of(runs), strict=True):
        own = {e.place: _goodness(e) for e in shown if (e.run, e.published) == (run, published)}
        values = np.array([own.get(place, np.nan) for place in axes])
        plot.plot(
            np.append(angles, angles[0]), np.append(values, values[0]), marker=style.marker,
            linestyle=style.line, markersize=4, color=style.color, label=style.name,
        )  # fmt: skip
        if len(runs) <= MAX_FILLED and not published and not np.isnan(values).any():
            plot.fill(angles, values, alpha=0.1, color=style.color)
    plot.set_theta_offset(np.pi / 2)
    plot.set_theta_direction(-1)
    plot.set_xticks(angles, [_axis_label(place, shown) for place in axes])
    for text, angle in zip(plot.get_xticklabels(), angles, strict=True):  # beside the circle, not on it
        side = round(np.sin(angle), 6)
        text.set_horizontalalignment("left" if side > 0 else "right" if side < 0 else "center")
    plot.set_ylim(0, 100)
    plot.set_yticks([20, 40, 60, 80, 100], ["20", "40", "60", "80", "100 %"], fontsize=8, color="0.4")
    _finish(figure, "Official scores", entries, shown)
    return _png(figure)


# --- bars ----------------------------------------------------------------------------------------------------------


def bar_figures(places: Sequence[Place]) -> dict[str, list[Place]]:
    """The rows of each bar figure, by its name: one for a benchmark, and one for a level with many groups."""
    figures: dict[str, list[Place]] = {}
    for benchmark, level in dict.fromkeys(place[:2] for place in places):
        rows = [place for place in places if place[:2] == (benchmark, level)]
        alone = "_" + re.sub(r"[^a-z0-9]+", "_", level.lower()) if len(rows) > MAX_GROUPS else ""
        figures.setdefault(f"bars_{benchmark}{alone}", []).extend(rows)
    return figures


def draw_bars(entries: Sequence[ScoreEntry], rows: Sequence[Place]) -> bytes:
    """PNG: for each place a bar a run with its 95 % interval, and a line at chance; a level's name stands once."""
    shown = [e for e in entries if e.place in rows and e.shown[0] is not None]
    runs = runs_of(shown)
    rules = {title_of_rule(e.place[0]) if e.official is not None else f"not official: {e.strict_rule}" for e in shown}
    styles = dict(zip(runs, styles_of(runs), strict=True))
    levels = dict.fromkeys(level for _, level, _ in rows if level not in ("total", "subset"))
    titled = len(levels) == 1 and all(level in levels for _, level, _ in rows)  # one level alone: in the title
    lines = len(shown) + len(rows) + (0 if titled else len(levels))
    height = 1.7 + 0.16 * lines + _legend_height([*(style.name for style in styles.values()), "95 %", "chance"])
    figure, plot = plt.subplots(figsize=(WIDTH, height), layout="constrained")
    y, ticks, headings, level_before = 0.0, {}, set(), ""  # bars are 1 high, with 0.9 between places
    for place in rows:
        _, level, group = place
        if level in levels and level != level_before and not titled:
            ticks[y], level_before = f"{level}:", level
            headings.add(y)
            y += 1.2
        bars = [e for e in shown if e.place == place]
        for e in bars:
            value, (low, high) = e.shown
            style = styles[e.run, e.published]
            plot.barh(y, value, **style.bar(e.official is not None))
            plot.plot([low, high], [y, y], color="black", linewidth=1.2)
            plot.annotate(
                f"{value:.1f}{style.mark}", (max(high, value), y), (4, 0), textcoords="offset points", va="center",
                fontsize=7, bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.5},
            )  # fmt: skip
            y += 1
        remark = _remark(bars or entries, place, "\n") if len(rules) > 1 or (bars and bars[0].unit != "rate") else ""
        ticks[y - len(bars) / 2 - 0.5] = wrap_name(group, NAME_WIDTH) + remark
        chance = next((e.chance for e in bars if e.chance is not None), None)
        if chance is not None:
            plot.plot([100 * chance] * 2, [y - len(bars) - 0.7, y - 0.3], color="tab:red", linewidth=1.5)
        y += 0.9
    for run in runs:
        plot.barh(0, 0, label=styles[run].name, **styles[run].bar(True))
    plot.plot([], [], color="black", label="95 % interval")
    if any(e.chance is not None for e in shown):
        plot.plot([], [], color="tab:red", label="chance")
    if any(e.official is None for e in shown) and len(rules) > 1:
        plot.barh(0, 0, label="outline: not the official rule", height=0.92, facecolor="white", edgecolor="0.3")
    plot.set_yticks(list(ticks), list(ticks.values()))
    for tick, text in zip(ticks, plot.get_yticklabels(), strict=True):
        text.set_color("0.4" if tick in headings else "black")
    benchmark = BENCHMARKS[rows[0][0]]
    rule = rules.pop() if len(rules) == 1 else title_of_rule(benchmark.name)
    plot.set(xlim=(0, _end(shown)), ylim=(y - 0.4, -1), xlabel=f"%, {rule}")
    plot.grid(alpha=0.3, axis="x")
    _finish(figure, benchmark.title + (f": {next(iter(levels))}" if titled else ""), entries, shown)
    return _png(figure)


def _end(shown: Sequence[ScoreEntry]) -> float:
    """Where the axis ends: with room for the values; error rates, which go from 0 to over 100 %, fit themselves."""
    highest = max((e.shown[1][1] for e in shown), default=100)
    errors = bool(shown) and all(e.unit == "error rate" for e in shown)
    return 1.15 * (highest if errors and highest > 0 else max(100, highest))


# --- both ----------------------------------------------------------------------------------------------------------


def _finish(figure: plt.Figure, title: str, entries: Sequence[ScoreEntry], shown: Sequence[ScoreEntry]) -> None:
    """Title, legend, and above all a warning where runs on other questions stand beside published scores."""
    benchmarks = {e.place[0] for e in shown if e.published}
    warnings = [warning for name, warning in own_questions(entries) if name in benchmarks]
    if warnings:
        text = "\n".join(wrap_name(warning, 95) for warning in dict.fromkeys(warnings))
        figure.suptitle(text, fontsize=9, color="tab:red")
    figure.axes[0].set_title(title, pad=6 if figure.axes[0].name == "rectilinear" else 18)
    names = [text for plot in figure.axes for text in plot.get_legend_handles_labels()[1]]
    figure.legend(loc="outside lower center", ncols=columns_of(names, WIDTH), frameon=False, fontsize=9)


def _legend_height(names: Sequence[str]) -> float:
    """Inches."""
    columns = columns_of(names, WIDTH)
    rows = math.ceil(len(names) / columns)
    return 0.19 * rows * max((name.count("\n") + 1 for name in names), default=1)


def _goodness(entry: ScoreEntry) -> float:
    """Per cent, more is better."""
    value, _ = entry.shown
    return np.nan if value is None else max(0.0, 100 - value) if entry.unit == "error rate" else value


def _axis_label(place: Place, entries: Sequence[ScoreEntry]) -> str:
    benchmark, _, group = place
    if any(e.place == place and e.unit == "error rate" for e in entries):
        return f"{BENCHMARKS[benchmark].title}\n100 % - {group}"
    name = BENCHMARKS[benchmark].title + ("" if group == "total" else f"\n{wrap_name(group, NAME_WIDTH)}")
    rule = title_of_rule(benchmark)
    return name + (f"\n{rule}" if rule != "official rule" else "") + _remark(entries, place, "\n")


def _remark(entries: Sequence[ScoreEntry], place: Place, before: str) -> str:
    """How a score was brought to per cent, or by what rule it is, where that is not plain."""
    here = [e for e in entries if e.place == place]
    if open_ := [e for e in here if e.official is None]:
        return f"{before}({'not official' if len(open_) == len(here) else 'outline'}: {open_[0].strict_rule})"
    unit = here[0].unit if here else "rate"
    return {"rate": "", "rating": f"{before}(rating x 20)", "error rate": f"{before}(lower is better)"}[unit]


def _png(figure: plt.Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    plt.close(figure)
    return buffer.getvalue()
