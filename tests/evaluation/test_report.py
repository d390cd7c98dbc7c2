import json
import struct
from dataclasses import replace

import pytest

from evaluation.benchmarks import FULL
from evaluation.report import cell, main, markdown
from evaluation.scoreboard import ScoreEntry

TOTAL = ("mmsu", "total", "total")


def score(official, n=100, **extra):
    return {
        "n": n, "official": official, "official_interval": [official - 0.1, official + 0.1], "strict": official + 0.05,
        "strict_interval": [official, official + 0.1], "chance": 0.25, "always_a": 0.3, **extra,
    }  # fmt: skip


@pytest.fixture
def runs(tmp_path):
    """Two runs of MMSU and MMAU, and one published model."""
    paths = []
    for name, official, n in (("base", 0.4, 100), ("new", 0.6, 98)):
        for benchmark, level in (("mmsu", "category"), ("mmau", "task")):
            path = tmp_path / name / f"{benchmark}.json.scores.json"
            path.parent.mkdir(exist_ok=True)
            levels = {"total": {"total": score(official, n)}, level: {"one|two": score(official, chance=None)}}
            path.write_text(json.dumps({"benchmark": benchmark, "result": f"{benchmark}.json", "levels": levels}))
            paths.append(str(path))
    published = [{"name": "DIFFA", "benchmark": "mmsu", "source": "paper, table 2", "note": "",
                  "scores": {"total": {"total": 56.04}, "category": {"none of ours": 1.0}}}]  # fmt: skip
    (tmp_path / "published.json").write_text(json.dumps(published))
    return [*paths, "--published", str(tmp_path / "published.json")]


def rows_of(text):
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[field.strip() for field in line.replace("\\|", "/").strip("|").split("|")] for line in lines]


def test_the_table_puts_runs_side_by_side(runs, tmp_path, capsys):
    assert main([*runs, "--output", str(tmp_path / "out" / "report")]) == 0
    text = (tmp_path / "out" / "report" / "report.md").read_text()
    assert text in capsys.readouterr().out
    header, rule, *rows = rows_of(text)
    assert header[5:] == ["base: official", "base: strict", "new: official", "new: strict", "DIFFA (published)"]
    assert len(rule) == len(header) == 10 and all(len(row) == 10 for row in rows)
    assert rows[0] == [
        "MMSU", "total", "100 / 98", "25.0 %", "30.0 %", "40.0 % [30.0, 50.0]", "45.0 % [40.0, 50.0]",
        "60.0 % [50.0, 70.0]", "65.0 % [60.0, 70.0]", "56.04 %",
    ]  # fmt: skip
    assert [row[:2] for row in rows[1:]] == [
        ["MMSU", "category: one/two"],
        ["MMAU", "total"],
        ["MMAU", "task: one/two"],
    ]
    assert rows[1][3] == "-" and rows[1][9] == rows[2][9] == ""
    assert "- DIFFA, MMSU: paper, table 2" in text


def test_all_files_are_written_and_nothing_else(runs, tmp_path):
    assert main([*runs, "--output", str(tmp_path / "out"), "--names", "a", "a", "b", "b"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "bars_mmau.png", "bars_mmsu.png", "radar.png", "report.json", "report.md",
    ]  # fmt: skip
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [(e["run"], e["published"]) for e in report["entries"] if tuple(e["place"]) == TOTAL] == [
        ("a", False), ("b", False), ("DIFFA", True),
    ]  # fmt: skip
    for name in ("radar", "bars_mmsu"):
        head = (tmp_path / "out" / f"{name}.png").read_bytes()[:24]
        width, height = struct.unpack(">II", head[16:])
        assert head[1:4] == b"PNG" and width > 700 and height > 300


def test_what_cannot_be_reported(runs, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([*runs, "--output", str(out), "--names", "a"]) == 2
    assert "pass --names" in capsys.readouterr().err
    assert main([str(tmp_path / "published.json"), "--output", str(out)]) == 2
    assert "not a scores file" in capsys.readouterr().err and not out.exists()


def test_notes_explain_what_is_in_the_table():
    plain = markdown([ScoreEntry("a", TOTAL, 0.5)], [])
    assert "lower is better" not in plain and "PEDANT" not in plain and "Published" not in plain
    entries = [
        ScoreEntry("a", ("asr", "total", "WER"), 0.5, unit="error rate"),
        ScoreEntry("a", ("voicebench", "subset", "sd-qa"), 0.5),
    ]
    text = markdown(entries, ["source"])
    assert "lower is better" in text and "PEDANT" in text and "- source" in text


def test_cells():
    assert cell(None, None, "rate") == "-"
    assert cell(0.5, None, "rate") == "50.0 %" and cell(0.56041, None, "rate", digits=2) == "56.04 %"
    assert cell(3.5, (3.25, 3.75), "rating") == "3.50 of 5 [3.25, 3.75]" and cell(3.5, None, "rating") == "3.50 of 5"
    assert cell(0.123, (0.1, 0.2), "error rate") == "12.3 % [10.0, 20.0]"


def test_the_report_warns_of_own_questions_beside_published_scores():
    ours, theirs = ScoreEntry("mini", TOTAL, 0.5, items=336), ScoreEntry("DIFFA", TOTAL, 0.56, published=True)
    warning = "**Warning:** mini answered 336 questions, MMSU has 5000"
    assert warning in markdown([ours, theirs], []) and warning not in markdown([ours], [])


def test_the_report_says_which_alpacaeval_the_overall_score_took():
    total = ScoreEntry("m", ("voicebench", "total", "overall"), 0.5)
    full = ScoreEntry("m", ("voicebench", "subset", FULL), 3.0, unit="rating")
    assert "alpacaeval_full was taken" in markdown([total, full], [])
    assert "the small alpacaeval was taken" in markdown([total, replace(full, unrated=1)], [])
