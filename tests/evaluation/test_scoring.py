import json

import pytest

from evaluation.intervals import rate_interval
from evaluation.scoring import (
    Verdict,
    compare,
    format_comparisons,
    format_scores,
    format_table,
    score,
    score_levels,
    write_scores,
)


def verdict(key, official, chance=0.25, **extra):
    fields = {"groups": {}, "strict": official, "parsed": "A", "chance": chance, "first": True}
    return Verdict(key=key, official=official, **fields | extra)


def test_score_averages_per_item_chance():
    result = score([verdict("1", True), verdict("2", False, chance=0.5, parsed=None, error=True, first=False)])
    assert (result.n, result.official, result.strict) == (2, 0.5, 0.5)
    assert (result.chance, result.always_a, result.unparsed, result.errors) == (0.375, 0.5, 0.5, 1)


def test_levels_hold_their_own_items_only():
    verdicts = [
        verdict("1", True, groups={"task": "speech"}),
        verdict("2", False, groups={"task": "music", "kind": "x"}),
        verdict("3", True, groups={}),
    ]
    levels = score_levels(verdicts)
    assert {level: {name: s.n for name, s in groups.items()} for level, groups in levels.items()} == {
        "total": {"total": 3},
        "task": {"music": 1, "speech": 1},
        "kind": {"x": 1},
    }
    assert levels["task"]["speech"].official == 1.0 and levels["task"]["music"].official == 0.0


def test_every_rate_has_its_own_interval():
    verdicts = [
        verdict(str(n), n % 4 > 0, strict=n % 2 > 0, groups={"task": "a" if n < 30 else "b"}) for n in range(100)
    ]
    levels = score_levels(verdicts)
    assert levels["total"]["total"].official_interval == rate_interval(75, 100)
    assert levels["total"]["total"].strict_interval == rate_interval(50, 100)
    assert levels["task"]["a"].official_interval == rate_interval(22, 30)


def test_nothing_to_guess_shows_no_chance():
    (row,) = [
        line for line in format_scores(score_levels([verdict("1", True, chance=None)])).splitlines() if "100" in line
    ]
    assert row.split()[-2:] == ["-", "-"]


def test_runs_are_compared_item_by_item():
    ours, theirs = [True] * 60 + [False] * 40, [True] * 40 + [False] * 60
    nested = compare(ours, theirs)
    assert (nested.ours, nested.theirs, nested.only_ours, nested.only_theirs) == (0.6, 0.4, 20, 0)
    assert nested.difference == pytest.approx(0.2)
    assert nested.difference_interval == pytest.approx(rate_interval(20, 100), abs=0.011)
    assert nested.p == pytest.approx(2 / 2**20)
    # the same rates, but the runs are right on other items: paired, the difference is far less sure
    crossed = compare(ours, theirs[::-1])
    low, high = crossed.difference_interval
    assert crossed.difference == pytest.approx(0.2) and (crossed.only_ours, crossed.only_theirs) == (60, 40)
    assert low < 0.02 and high > 0.37 and crossed.p == pytest.approx(0.0569, rel=0.01)
    row = format_comparisons({"strict": nested}).splitlines()[-1].split()
    assert row[:6] == ["strict", "60.0", "%", "40.0", "%", "+20.0"] and row[-3:] == ["20", "0", "1.91e-06"]


def test_table_lines_up():
    assert format_table(["", "n"], [["total", 5], ["a", 12]]).splitlines() == [
        "        n", "-----  --", "total   5", "a      12",
    ]  # fmt: skip


def test_scores_lie_beside_the_result(tmp_path):
    path = write_scores(tmp_path / "r.jsonl", {"wert": "ü"})
    assert path == tmp_path / "r.jsonl.scores.json" and json.loads(path.read_text(encoding="utf-8")) == {"wert": "ü"}
    assert list(tmp_path.iterdir()) == [path]
