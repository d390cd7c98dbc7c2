"""A new benchmark by the recipe of CONTRIBUTING.md, whose code is taken as it stands: answered, scored, reported."""

import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest

from evaluation import benchmarks, report
from evaluation.benchmarks import BENCHMARKS
from tests.evaluation.small_runs import GOLDEN, MODEL, ROOT, lines, write_lines

SECTION = re.search(
    r"^\*\*A benchmark\.\*\*.*?(?=^\*\*A )", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.M | re.S
)[0]
ENTRY, SCRIPT, SCORER = (
    re.sub(r"^    ", "", block, flags=re.M) for block in re.findall(r"(?:^    .*\n|^\n(?=\n?    ))+", SECTION, re.M)
)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The entry in the table, the scripts in a folder, with three questions about the golden clips."""
    monkeypatch.setattr(benchmarks, "TOY", eval(ENTRY.partition("=")[2], vars(benchmarks)), raising=False)
    monkeypatch.setitem(BENCHMARKS, "toy", benchmarks.TOY)
    (tmp_path / "toy").mkdir()
    (tmp_path / "inference_stage2_toy.py").write_text(SCRIPT)
    (tmp_path / "toy" / "evaluate.py").write_text(SCORER)
    for n in range(3):
        shutil.copy(GOLDEN / f"clip{n}.wav", tmp_path)
    write_lines(tmp_path / "toy.jsonl", [question(n) for n in range(3)])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def question(n):
    return {
        "id": f"q{n}", "audio_path": f"clip{n}.wav", "question": "Which?", "choices": ["one", "two", None],
        "answer": "one", "modality": ("sound", "speech")[n % 2], "category": "Signal",
    }  # fmt: skip


def start(monkeypatch, script: Path, *flags) -> int:
    monkeypatch.setattr(sys, "argv", [str(script), *map(str, flags)])
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name="__main__")
    return end.value.code


def test_a_benchmark_made_by_the_recipe_is_answered_scored_and_reported(toy, echo, monkeypatch, capsys):
    answers = iter(["one", "B", "two words"])
    echo.reply = lambda waveform, instruction: next(answers)
    flags = [*MODEL, "--input", "toy.jsonl", "--output", "base/toy.jsonl"]
    assert start(monkeypatch, toy / "inference_stage2_toy.py", *flags) == 0
    told = [line["response"] for line in lines(toy / "base" / "toy.jsonl")]
    assert sorted(told) == ["B", "one", "two words"]
    meta = json.loads((toy / "base" / "toy.jsonl.meta.json").read_text())
    assert (meta["settings"]["steps"], meta["settings"]["max_new_tokens"]) == (16, 16)

    assert start(monkeypatch, toy / "toy" / "evaluate.py", "base/toy.jsonl", "--reference", "toy.jsonl") == 0
    scores = json.loads((toy / "base" / "toy.jsonl.scores.json").read_text())
    total = scores["levels"]["total"]["total"]
    assert (scores["benchmark"], total["n"], total["chance"], total["always_a"]) == ("toy", 3, 0.5, 1.0)
    assert total["official"] == total["strict"] == pytest.approx(1 / 3)
    assert {level: sorted(groups) for level, groups in scores["levels"].items()} == {
        "total": ["total"], "modality": ["sound", "speech"], "category": ["Signal"],
    }  # fmt: skip

    assert report.main(["base/toy.jsonl.scores.json", "--output", "out"]) == 0
    table = (toy / "out" / "report.md").read_text()
    assert "| Toy | total | 3 | 50.0 % | 100.0 % | 33.3 %" in table and "| Toy | modality: sound | 2 |" in table
    assert (toy / "out" / "bars_toy.png").exists() and (toy / "out" / "radar.png").exists()


def test_its_mistakes_are_reported_like_all_others(toy, no_model, monkeypatch, capsys):
    write_lines(toy / "toy.jsonl", [{**question(0), "answer": None}])
    flags = [*MODEL, "--input", "toy.jsonl", "--output", "toy.out"]
    assert start(monkeypatch, toy / "inference_stage2_toy.py", *flags) == 2
    assert "inference_stage2_toy.py: toy.jsonl line 1: answer must be str, found None" in capsys.readouterr().err
    assert start(monkeypatch, toy / "inference_stage2_toy.py", *MODEL, "--output", "toy.out") == 2
    assert "toy.jsonl: no such file. Pass Toy's questions with --input" in capsys.readouterr().err
