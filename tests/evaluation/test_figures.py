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
    entries.append(entry("a", ("asr", "total", "published rule"), 0.1, unit="error rate"))
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
    assert labels[0] == "MMSU\nofficial (DIFFA's)" and labels[1] == "MMAU" and labels[3] == "ASR\n100 % - WER"


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
    assert [text.get_text() for text in plot.get_yticklabels()] == ["total", "category:", "Reasoning"]
    assert [text.get_text() for text in plot.texts] == ["50.0", "70.0", "60.0", "30.0"]
    legend = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert sorted(legend) == ["95 % interval", "a", "b", "chance", "m (published)"]


def test_an_error_rate_beyond_100_is_in_the_picture(drawn):
    draw_bars([entry("a", ("asr", "total", "WER"), 1.5, unit="error rate")], [("asr", "total", "WER")])
    (plot,) = drawn[0].axes
    assert 160 < plot.get_xlim()[1] < 200
    assert [text.get_text() for text in plot.get_yticklabels()] == ["WER\n(lower is better)"]


def test_the_axis_of_small_error_rates_fits_them(drawn):
    place = ("asr", "total", "WER")
    draw_bars([ScoreEntry("a", place, 0.02, (0.015, 0.025), unit="error rate")], [place])
    assert 2.5 < drawn[0].axes[0].get_xlim()[1] < 3.5


def test_large_levels_get_a_figure_of_their_own():
    tasks = [("mmsu", "task_name", f"t{n}") for n in range(13)]
    places = [*PLACES, ("mmsu", "category", "Reasoning"), *tasks]
    assert bar_figures(places) == {
        "bars_mmsu": [PLACES[0], ("mmsu", "category", "Reasoning")],
        "bars_mmau": [PLACES[1]],
        "bars_voicebench": [PLACES[2]],
        "bars_mmsu_task_name": tasks,
    }


def test_every_figure_names_its_rule(drawn):
    for benchmark, rule in (
        ("mmsu", "official (DIFFA's)"),
        ("mmau", "official rule"),
        ("asr", "WER and CER after Whisper's text normalisation, published rule as in DIFFA-2"),
    ):
        place = (benchmark, "total", "total")
        draw_bars([entry("a", place, 0.5)], [place])
        assert drawn[-1].axes[0].get_xlabel() == f"%, {rule}"


def test_what_is_not_official_is_an_outline_and_not_in_the_radar(drawn):
    place = ("voicebench", "subset", "sd-qa")
    unofficial = ScoreEntry(
        "a", place, None, strict=0.5, strict_interval=(0.4, 0.6), strict_rule="it holds the reference"
    )
    official = [entry("a", other, 0.5) for other in PLACES]
    draw_bars([unofficial, official[2]], [place, PLACES[2]])
    plot = drawn[0].axes[0]
    assert [bar.get_facecolor() for bar in plot.patches[:2]] == [(1, 1, 1, 1), plot.patches[1].get_facecolor()]
    assert plot.patches[1].get_facecolor() != (1, 1, 1, 1)
    assert plot.get_yticklabels()[0].get_text() == "sd-qa\n(not official: it holds the reference)"
    assert "outline: not the official rule" in [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert place not in radar_axes([unofficial, *official])
    draw_radar([unofficial, *official], radar_axes([unofficial, *official]))


def test_where_nothing_is_official_the_axis_says_it_once(drawn):
    places = [("bigbenchaudio", "total", "total"), ("bigbenchaudio", "category", "navigate")]
    draw_bars([ScoreEntry("a", place, None, strict=0.5) for place in places], places)
    plot = drawn[0].axes[0]
    assert plot.get_xlabel() == "%, not official: strict rule"
    assert [text.get_text() for text in plot.get_yticklabels()] == ["total", "category:", "navigate"]


def test_an_outline_beside_published_scores_says_what_it_is_by(drawn):
    place = ("voicebench", "subset", "sd-qa")
    unofficial = ScoreEntry("a", place, None, strict=0.5, strict_rule="it holds the reference")
    draw_bars([unofficial, ScoreEntry("DIFFA", place, 0.34, published=True)], [place])
    assert drawn[0].axes[0].get_yticklabels()[0].get_text() == "sd-qa\n(outline: it holds the reference)"


@pytest.mark.parametrize(("items", "warned"), [(336, True), (5000, False)])
def test_own_questions_never_stand_beside_published_scores_without_a_warning(drawn, items, warned):
    entries = [entry("mini", place, 0.5, items=items) for place in PLACES[:1]]
    published = ScoreEntry("DIFFA", PLACES[0], 0.56, published=True)
    more = [entry("mini", place, 0.5) for place in PLACES[1:]]
    draw_bars([*entries, published], PLACES[:1])
    draw_radar([*entries, *more, published], PLACES)
    draw_bars(entries, PLACES[:1])  # alone
    texts = [figure.get_suptitle() for figure in drawn]
    warning = "mini answered 336 questions, MMSU has 5000: not to be compared with published scores"
    assert texts == ([warning, warning, ""] if warned else ["", "", ""])


def test_more_than_ten_runs_are_told_apart(drawn):
    entries = [entry(f"run{n}", PLACES[0], 0.5) for n in range(14)]
    draw_bars(entries, PLACES[:1])
    plot = drawn[0].axes[0]
    looks = {(bar.get_facecolor(), bar.get_hatch()) for bar in plot.patches[:14]}
    assert len(looks) == 14
    assert [text.get_text() for text in plot.texts] == [f"50.0  ({n})" for n in range(1, 15)]
    assert "(14) run13" in [text.get_text() for text in drawn[0].legends[0].get_texts()]
    draw_radar([entry(f"run{n}", place, 0.5) for n in range(14) for place in PLACES], PLACES)
    assert len({(line.get_color(), line.get_marker()) for line in drawn[1].axes[0].lines}) == 14


@pytest.mark.parametrize("count", [1, 3, 14])
@pytest.mark.filterwarnings("error")  # a letter that no font has would be a warning
def test_long_and_japanese_names_are_inside_the_figure(monkeypatch, count):
    kept = []
    monkeypatch.setattr(figures.plt, "close", lambda figure: kept.append(figure))
    names = [f"diffa2-stage4-lora-r64-lr2e-5-seed{n}-with-preferences"[:60] for n in range(count - 1)]
    names.append("日本語の実験・第三版（学習率を下げた長い名前）")
    entries = [entry(name, place, 0.5) for name in names for place in PLACES]
    assert draw_bars(entries, PLACES[:1]).startswith(b"\x89PNG") and draw_radar(entries, PLACES).startswith(b"\x89PNG")
    for figure in kept:
        (legend,) = figure.legends
        box, window = legend.get_window_extent(), figure.bbox
        assert window.x0 <= box.x0 and box.x1 <= window.x1 and window.y0 - 1 <= box.y0 < box.y1 < figure.axes[0].bbox.y0
        assert figure.axes[0].bbox.height > 100
