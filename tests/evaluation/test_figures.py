import matplotlib.pyplot as plt
import numpy as np
import pytest

from evaluation import figures
from evaluation.figures import bar_figures, draw_bars, draw_radar, radar_axes
from evaluation.scoreboard import ScoreEntry

PLACES = [("mmsu", "total", "total"), ("mmau", "total", "total"), ("voicebench", "subset", "openbookqa")]


def entry(run, place, official, **extra):
    return ScoreEntry(run, place, official, (official - 0.1, official + 0.1), strict=0.9, **extra)


@pytest.fixture
def drawn(monkeypatch):
    """The figures as they stood when they were turned into PNGs."""
    kept = []
    monkeypatch.setattr(figures, "_png", kept.append)
    yield kept
    plt.close("all")


def test_the_radar_goes_over_benchmarks():
    entries = [entry("a", place, 0.5) for place in PLACES]
    entries.append(entry("a", ("mmsu", "category", "Perception"), 0.5))
    entries.append(entry("a", ("asr", "total", "WER"), 0.1, unit="error rate"))
    entries.append(entry("a", ("asr", "total", "CER"), 0.1, unit="error rate"))
    entries.append(ScoreEntry("a", ("voicebench", "total", "overall"), 0.5))
    assert radar_axes(entries) == [*PLACES, ("asr", "total", "WER")]


def test_few_benchmarks_show_their_first_categories():
    groups = (("total", "total"), ("category", "Perception"), ("category", "Reasoning"), ("task_name", "x"))
    entries = [entry("a", ("mmsu", level, group), 0.5) for level, group in groups]
    assert radar_axes(entries) == [entry.place for entry in entries[:3]]
    assert radar_axes(entries[:2]) == []


def test_radar_polygons(drawn):
    entries = [entry("a", place, value) for place, value in zip(PLACES, (0.2, 0.4, 0.6), strict=True)]
    entries.append(entry("a", ("asr", "total", "WER"), 0.3, unit="error rate"))
    entries.append(ScoreEntry("m", PLACES[1], 0.8, published=True))
    entries.append(ScoreEntry("b", PLACES[2], 4.0, unit="rating"))
    draw_radar(entries, radar_axes(entries))
    (plot,) = drawn[0].axes
    lines = {line.get_label(): line.get_ydata() for line in plot.lines}
    np.testing.assert_allclose(lines["a"], [20, 40, 60, 70, 20])  # error rates count from 100 down; closed
    np.testing.assert_allclose(lines["b"], [np.nan, np.nan, 80, np.nan, np.nan])  # ratings times 20
    np.testing.assert_allclose(lines["m (published)"], [np.nan, 80, np.nan, np.nan, np.nan])
    labels = [text.get_text() for text in plot.get_xticklabels()]
    assert labels[0] == "MMSU" and labels[3] == "ASR\n100 % - WER"


def test_bars_of_all_runs_side_by_side(drawn):
    entries = [
        entry("a", PLACES[0], 0.5, chance=0.25),
        entry("b", PLACES[0], 0.7),
        ScoreEntry("m", PLACES[0], 0.6, published=True),
    ]
    entries.append(entry("b", ("mmsu", "category", "Reasoning"), 0.3))
    entries.append(entry("a", PLACES[1], 0.9))
    draw_bars(entries, [PLACES[0], ("mmsu", "category", "Reasoning")])
    (plot,) = drawn[0].axes
    assert [bar.get_width() for bar in plot.patches][:4] == pytest.approx([50, 70, 60, 30])
    heights = [bar.get_y() for bar in plot.patches][:4]
    assert heights == sorted(heights) and heights[3] - heights[2] > 1.5 > heights[1] - heights[0]
    intervals = [line.get_xdata() for line in plot.lines if line.get_color() == "black" and len(line.get_xdata())]
    np.testing.assert_allclose(intervals, [[40, 60], [60, 80], [60, 60], [20, 40]])
    assert [line.get_xdata()[0] for line in plot.lines if line.get_color() == "tab:red" and len(line.get_xdata())] == [
        25
    ]
    assert [text.get_text() for text in plot.get_yticklabels()] == ["total", "category: Reasoning"]
    assert [text.get_text() for text in plot.texts] == ["50.0", "70.0", "60.0", "30.0"]
    legend = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert sorted(legend) == ["95 % interval", "a", "b", "chance", "m (published)"]


def test_an_error_rate_beyond_100_is_in_the_picture(drawn):
    draw_bars([entry("a", ("asr", "total", "WER"), 1.5, unit="error rate")], [("asr", "total", "WER")])
    (plot,) = drawn[0].axes
    assert plot.get_xlim()[1] > 160
    assert [text.get_text() for text in plot.get_yticklabels()] == ["WER (lower is better)"]


def test_large_levels_get_a_figure_of_their_own():
    tasks = [("mmsu", "task_name", f"t{n}") for n in range(13)]
    places = [*PLACES, ("mmsu", "category", "Reasoning"), *tasks]
    assert bar_figures(places) == {
        "bars_mmsu": [PLACES[0], ("mmsu", "category", "Reasoning")],
        "bars_mmau": [PLACES[1]],
        "bars_voicebench": [PLACES[2]],
        "bars_mmsu_task_name": tasks,
    }
