"""The report's figures: a radar chart over benchmarks, and bars per category with their intervals."""

import io
import re
from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from evaluation.benchmarks import BENCHMARKS
from evaluation.scoreboard import Place, ScoreEntry, label, places_of, runs_of

MAX_GROUPS = 12  # of a level; one with more gets a figure of its own


def radar_axes(entries: Sequence[ScoreEntry]) -> list[Place]:
    """Each benchmark's total, VoiceBench by its subsets; with fewer than three of them, the first categories as well.

    Empty when there are fewer than three even so: such a chart would show nothing.
    """
    places = places_of(entries)
    totals = [p for p in places if p[1] in ("total", "subset") and p[2] not in ("CER", "overall")]
    axes = totals if len(totals) >= 3 else totals + [p for p in places if p[1] == BENCHMARKS[p[0]].first_level]
    return axes if len(axes) >= 3 else []


def draw_radar(entries: Sequence[ScoreEntry], axes: Sequence[Place]) -> bytes:
    """PNG: a polygon for each run, outwards is better; open where a run has no score."""
    angles = np.linspace(0, 2 * np.pi, len(axes), endpoint=False)
    figure, plot = plt.subplots(figsize=(7, 7), subplot_kw={"projection": "polar"}, layout="constrained")
    for number, (run, published) in enumerate(runs_of(entries)):
        own = {e.place: _goodness(e) for e in entries if (e.run, e.published) == (run, published)}
        values = np.array([own.get(place, np.nan) for place in axes])
        line = "--" if published else "-"
        closed = np.append(values, values[0])
        plot.plot(
            np.append(angles, angles[0]),
            closed,
            f"o{line}",
            markersize=4,
            color=f"C{number}",
            label=_name(run, published),
        )
        if not published and not np.isnan(values).any():
            plot.fill(angles, values, alpha=0.1, color=f"C{number}")
    plot.set_theta_offset(np.pi / 2)
    plot.set_theta_direction(-1)
    plot.set_xticks(angles, [_axis_label(place, entries) for place in axes])
    for text, angle in zip(plot.get_xticklabels(), angles, strict=True):  # beside the circle, not on it
        side = round(np.sin(angle), 6)
        text.set_horizontalalignment("left" if side > 0 else "right" if side < 0 else "center")
    plot.set_ylim(0, 100)
    plot.set_yticks([20, 40, 60, 80, 100], ["20", "40", "60", "80", "100 %"], fontsize=8, color="0.4")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return _png(figure)


def bar_figures(places: Sequence[Place]) -> dict[str, list[Place]]:
    """The rows of each bar figure, by its name: one for a benchmark, and one for a level with many groups."""
    figures: dict[str, list[Place]] = {}
    for benchmark, level in dict.fromkeys(place[:2] for place in places):
        rows = [place for place in places if place[:2] == (benchmark, level)]
        alone = "_" + re.sub(r"[^a-z0-9]+", "_", level.lower()) if len(rows) > MAX_GROUPS else ""
        figures.setdefault(f"bars_{benchmark}{alone}", []).extend(rows)
    return figures


def draw_bars(entries: Sequence[ScoreEntry], rows: Sequence[Place]) -> bytes:
    """PNG: for each place a bar a run with its 95 % interval, and a line at chance."""
    shown = [e for e in entries if e.place in rows and e.shown[0] is not None]
    runs = runs_of(entries)
    figure, plot = plt.subplots(figsize=(8, 1.7 + 0.16 * len(shown) + 0.14 * len(rows)), layout="constrained")
    y, ticks = 0.0, {}  # bars are 1 high, with 0.9 between places
    for place in rows:
        bars = [e for e in shown if e.place == place]
        for e in bars:
            value, (low, high) = e.shown
            plot.barh(y, value, **_bar_style(runs.index((e.run, e.published)), e.published))
            plot.plot([low, high], [y, y], color="black", linewidth=1.2)
            plot.text(max(high, value) + 0.8, y, f"{value:.1f}", va="center", fontsize=7)
            y += 1
        ticks[y - len(bars) / 2 - 0.5] = label(place) + _remark(place, entries, " ")
        chance = next((e.chance for e in bars if e.chance is not None), None)
        if chance is not None:
            plot.plot([100 * chance] * 2, [y - len(bars) - 0.7, y - 0.3], color="tab:red", linewidth=1.5)
        y += 0.9
    for run, published in runs_of(shown):
        plot.barh(0, 0, label=_name(run, published), **_bar_style(runs.index((run, published)), published))
    plot.plot([], [], color="black", label="95 % interval")
    if any(e.chance is not None for e in shown):
        plot.plot([], [], color="tab:red", label="chance")
    plot.set_yticks(list(ticks), list(ticks.values()))
    end = max([100, *(e.shown[1][1] for e in shown)])  # error rates may pass 100 %
    plot.set(xlim=(0, 1.08 * end), ylim=(y - 0.4, -1), xlabel="%", title=BENCHMARKS[rows[0][0]].title)
    plot.set_xticks(np.arange(0, end + 1, 20))
    plot.grid(alpha=0.3, axis="x")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return _png(figure)


def _bar_style(number: int, published: bool) -> dict:
    return {"height": 0.92, "color": f"C{number}", "alpha": 0.35 if published else 0.75}


def _name(run: str, published: bool) -> str:
    return f"{run} (published)" if published else run


def _goodness(entry: ScoreEntry) -> float:
    """Per cent, more is better."""
    value, _ = entry.shown
    return np.nan if value is None else max(0.0, 100 - value) if entry.unit == "error rate" else value


def _axis_label(place: Place, entries: Sequence[ScoreEntry]) -> str:
    benchmark, _, group = place
    if any(e.place == place and e.unit == "error rate" for e in entries):
        return f"{BENCHMARKS[benchmark].title}\n100 % - {group}"
    return BENCHMARKS[benchmark].title + ("" if group == "total" else f"\n{group}") + _remark(place, entries, "\n")


def _remark(place: Place, entries: Sequence[ScoreEntry], before: str) -> str:
    """How a score was brought to per cent, where that is not plain."""
    unit = next(e.unit for e in entries if e.place == place)
    return {"rate": "", "rating": f"{before}(rating x 20)", "error rate": f"{before}(lower is better)"}[unit]


def _png(figure: plt.Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    plt.close(figure)
    return buffer.getvalue()
