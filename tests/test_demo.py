"""The demo's whole way, at a size that learns nothing: every script runs, and the summary has every figure."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from demo import summary

ROOT = Path(__file__).parent.parent


def run_demo(out: Path, *flags: str) -> subprocess.CompletedProcess:
    sizes = {"OUT": str(out), "NPROC": "1", "CLIPS": "24", "ITEMS": "4", "STAGE1_STEPS": "2", "STAGE2_STEPS": "2"}
    return subprocess.run(
        ["bash", str(ROOT / "demo.sh"), *flags], env=os.environ | sizes, capture_output=True, text=True, timeout=900
    )


@pytest.mark.slow
def test_the_demo_runs_and_a_second_run_reuses(tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_PATH", "/nowhere")  # exported for a real run
    monkeypatch.setenv("EPOCHS", "many")
    first = run_demo(tmp_path / "out")
    assert first.returncode == 0, first.stderr[-3000:]
    figures = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert 0 <= figures["wer"] <= 2
    for benchmark, groups in (("mmsu", 7), ("mmau", 3), ("voicebench", 3)):
        scores = figures[benchmark]
        assert {"official", "strict", "chance", "swapped_audio"} <= scores.keys()
        assert all(0 <= scores[name] <= 1 for name in ("official", "strict", "chance", "swapped_audio"))
        assert len(scores["groups"]) == groups
    assert figures["mmsu"]["chance"] == pytest.approx(0.25)
    assert figures["seconds"].keys() == {"data", "stage1", "transcribe", "stage2", "benchmarks", "swapped"}
    for name in ("losses.png", "scores.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")
    assert "word error rate after stage 1" in first.stdout and "swapped audio" in first.stdout

    second = run_demo(tmp_path / "out")
    assert second.returncode == 0
    assert second.stdout.count("done before") == len(figures["seconds"])
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == figures


def test_other_settings_do_not_get_the_figures_of_an_earlier_run(tmp_path):
    (tmp_path / "settings").write_text("SEED=1 CLIPS=24 ITEMS=4 STAGE1_STEPS=9 STAGE2_STEPS=2\n")
    result = run_demo(tmp_path)
    assert result.returncode == 2
    assert "was made with SEED=1 CLIPS=24 ITEMS=4 STAGE1_STEPS=9 STAGE2_STEPS=2, and SEED=1 CLIPS=24" in result.stderr
    assert "--fresh" in result.stderr


def test_unknown_flags_are_refused(tmp_path):
    result = run_demo(tmp_path / "out", "--frsh")
    assert result.returncode == 2 and "unknown flag --frsh; there is only --fresh" in result.stderr


def test_a_benchmarks_figure_is_the_mean_of_its_rows_that_have_a_control():
    rows = [
        summary.ScoreRow("a", 10, 0.5, 0.4, (0.2, 0.8), 0.25, 0.3),
        summary.ScoreRow("b", 20, 0.7, 0.6, (0.5, 0.9), 0.15, 0.1),
        summary.ScoreRow("c", 30, 1.0, 1.0, (0.9, 1.0), None, None),
    ]
    group = summary.group(None, rows)
    assert [group[name] for name in ("official", "strict", "chance", "swapped_audio")] == pytest.approx(
        [0.6, 0.5, 0.2, 0.2]
    )
    assert group["groups"]["c"]["items"] == 30 and group["groups"]["c"]["official"] == 1.0


def test_the_assets_are_small():
    size = sum(path.stat().st_size for path in (ROOT / "demo" / "assets").rglob("*") if path.is_file())
    assert size < 13e6
