"""The demo's whole way, at a size that learns nothing: every script runs, and the summary has every figure."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from demo import summary

ROOT = Path(__file__).parent.parent
STEPS = ("data", "stage1", "transcribe", "stage2", "benchmarks", "swapped")


def run_demo(out: Path, *flags: str) -> subprocess.CompletedProcess:
    sizes = {"OUT": str(out), "NPROC": "1", "CLIPS": "24", "ITEMS": "4", "STAGE1_STEPS": "2", "STAGE2_STEPS": "2"}
    return subprocess.run(
        ["bash", str(ROOT / "demo.sh"), *flags], env=os.environ | sizes, capture_output=True, text=True, timeout=900
    )


def commands_of_the_demo(folder: Path, *flags: str) -> tuple[str, list[str]]:
    """What demo.sh prints, and the commands of Python's that it would run, of which each takes no time."""
    stand_in = folder / "bin" / "python"
    stand_in.parent.mkdir()
    stand_in.write_text(f"""#!/bin/sh
        case "$*" in
          *device_count*) echo 0 ;;
          *sys.prefix*) echo {folder} ;;
          "-c "*) exec {sys.executable} "$@" ;;
          *) echo "$@" >> {folder}/commands ;;
        esac
    """)
    (folder / "out" / "data").mkdir(parents=True)
    for name in ("stage1", "stage2", "stage3", "pairs"):
        (folder / "out" / "data" / f"{name}.json").write_text("[]")
    for stage in range(1, 5):
        (folder / "out" / f"stage{stage}").mkdir()
    stand_in.chmod(0o755)
    path = f"{stand_in.parent}:{os.environ['PATH']}"
    settings = {"OUT": str(folder / "out"), "PATH": path, "VIRTUAL_ENV": str(folder), "NPROC": "2"}
    command = ["bash", str(ROOT / "demo.sh"), *flags]
    run = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout, (folder / "commands").read_text().splitlines()


def test_the_demo_says_how_long_is_left_and_where_to_go_next(tmp_path):
    told, commands = commands_of_the_demo(tmp_path)
    steps = re.findall(r"== (\w+) \(about (a minute|\d+ minutes) left\)", told)
    assert [name for name, _ in steps] == list(STEPS)
    assert steps[0][1] == "9 minutes"  # in all, on two processors
    assert {left for _, left in steps[1:]} == {"a minute"}  # at the pace of what is done, which took no time
    assert f"--model_path {tmp_path}/out/stage2" in told.partition("Where to go from here")[2]
    assert commands[-1] == f"demo/summary.py {tmp_path}/out"


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
    assert figures["seconds"].keys() == set(STEPS)
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
