"""The demo's whole way, at a size that learns nothing: every script runs, and the summary has every figure."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from demo import diffa2_summary, summary

ROOT = Path(__file__).parent.parent
STEPS = ("data", "stage1", "transcribe", "stage2", "benchmarks", "swapped")


def run_demo(out: Path, *flags: str) -> subprocess.CompletedProcess:
    sizes = {"OUT": str(out), "NPROC": "1", "CLIPS": "24", "ITEMS": "4"} | {f"STAGE{n}_STEPS": "2" for n in range(1, 5)}
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
    assert sorted(steps[4:]) == [("benchmarks", "a minute"), ("swapped", "a minute")]  # at once
    assert [name for name, _ in steps[:4]] == list(STEPS[:4])
    assert steps[0][1] == "9 minutes"  # in all, on two processors
    assert {left for _, left in steps[1:]} == {"a minute"}  # at the pace of what is done, which took no time
    assert f"--model_path {tmp_path}/out/stage2" in told.partition("Where to go from here")[2]
    assert commands[-1] == f"demo/summary.py {tmp_path}/out"


def test_the_demo_of_diffa2_goes_on_from_stage_2(tmp_path):
    told, commands = commands_of_the_demo(tmp_path, "--diffa2")
    steps = re.findall(r"== (\w+) \(about", told)
    assert steps == [*STEPS[:-1], "diffa2_data", "stage3", "stage3_benchmarks", "stage4", "stage4_benchmarks"]
    assert "== data (about 18 minutes left)" in told  # in all, on two processors
    stages = {command.partition(" --stage ")[2][0]: command for command in commands if " --stage " in command}
    for stage, start, data in (("3", "stage2", "stage3.json"), ("4", "stage3", "pairs.json")):
        flags = dict(re.findall(r"--(\w+) (\S+)", stages[stage]))
        assert flags["family"] == "diffa2" and flags["start_checkpoint"] == f"{tmp_path}/out/{start}"
        assert flags["train_dataset_path"] == f"{tmp_path}/out/data/{data}"
        assert "Imagine" not in flags["system_prompt"] and flags["system_prompt"] == "short"
    answered = [dict(re.findall(r"--(\w+) (\S+)", command)) for command in commands if "_mmsu.py" in command]
    assert [flags["model_path"] for flags in answered] == [f"{tmp_path}/out/stage{n}" for n in (2, 3, 4)]
    assert {(flags["steps"], flags["max_new_tokens"], flags["batch_size"]) for flags in answered} == {("4", "4", "32")}
    assert commands[-1] == f"demo/diffa2_summary.py {tmp_path}/out"
    assert f"--model_path {tmp_path}/out/stage4" in told.partition("Where to go from here")[2]


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

    results = tmp_path / "out" / "results"
    for stage in (3, 4):  # whose benchmarks take the same way as stage 2's, and minutes
        for name in ("mmsu.jsonl.scores.json", "mmau.json.scores.json", "voicebench"):
            copy = shutil.copytree if name == "voicebench" else shutil.copy
            (results / f"stage{stage}").mkdir(exist_ok=True)
            copy(results / name, results / f"stage{stage}" / name)
        (tmp_path / "out" / "seconds" / f"stage{stage}_benchmarks").write_text("0\n")
    third = run_demo(tmp_path / "out", "--diffa2")
    assert third.returncode == 0, third.stderr[-3000:]
    assert third.stdout.count("done before") == len(figures["seconds"]) - 1 + 2  # without the control
    for stage, family in ((2, "diffa"), (4, "diffa2")):
        assert json.loads((tmp_path / "out" / f"stage{stage}" / "config.json").read_text())["family"] == family
    reached = json.loads((tmp_path / "out" / "diffa2.json").read_text())
    assert reached["held_out_pairs"]["steps"] == [1, 2] and reached["held_out_pairs"]["pairs"] == 12
    assert "stage 4: preferences" in third.stdout and (tmp_path / "out" / "margins.png").exists()


def test_other_settings_do_not_get_the_figures_of_an_earlier_run(tmp_path):
    (tmp_path / "settings").write_text("SEED=1 CLIPS=24 ITEMS=4 STAGE1_STEPS=9 STAGE2_STEPS=2\n")
    result = run_demo(tmp_path)
    assert result.returncode == 2
    assert "was made with SEED=1 CLIPS=24 ITEMS=4 STAGE1_STEPS=9 STAGE2_STEPS=2, and SEED=1 CLIPS=24" in result.stderr
    assert "--fresh" in result.stderr


def test_unknown_flags_are_refused(tmp_path):
    result = run_demo(tmp_path / "out", "--frsh")
    assert result.returncode == 2 and "unknown flag --frsh; there are only --diffa2 and --fresh" in result.stderr


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


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def choice_scores(official: float) -> dict:
    total = {"n": 8, "official": official, "strict": official, "official_interval": [0.1, 0.9], "chance": 0.25}
    return {"levels": {"total": {"total": total}}}


@pytest.fixture
def diffa2_run(tmp_path) -> Path:
    """What demo.sh --diffa2 leaves: results of three stages, and the log of the last one."""
    for stage, folder in ((2, tmp_path / "results"), *((n, tmp_path / "results" / f"stage{n}") for n in (3, 4))):
        write_json(folder / "mmsu.jsonl.scores.json", choice_scores(0.1 * stage))
        write_json(folder / "mmau.json.scores.json", choice_scores(0.2 * stage))
        subsets = folder / "voicebench"
        write_json(
            subsets / "openbookqa.jsonl.scores.json",
            {"subset": "openbookqa", "evaluator": "mcq"} | choice_scores(0.3 if stage == 2 else 0.8),
        )
        write_json(
            subsets / "sd-qa.jsonl.scores.json",
            {"subset": "sd-qa", "evaluator": "qa", "items": 2, "contains_reference": 0.5,
             "contains_reference_interval": [0.0, 1.0]},
        )  # fmt: skip
        (subsets / "sd-qa.jsonl").write_text('{"reference": "red"}\n{"reference": "two"}\n')
    write_json(tmp_path / "results" / "asr.jsonl.scores.json", {"wer": 0.02})
    write_json(tmp_path / "data" / "pairs_test.json", [{}, {}, {}])
    write_json(tmp_path / "data" / "data.json", {"seed": 1})
    log = [{"step": n, "loss": 0.7 / n, "margin": n / 4, "chosen_wins": 0.75} for n in range(1, 5)]
    log += [{"step": n, "eval_margin": n / 8, "eval_chosen_wins": 0.5 + n / 10} for n in (2, 4)]
    write_json(tmp_path / "stage4" / "trainer_state.json", {"log_history": log})
    (tmp_path / "seconds").mkdir()
    (tmp_path / "seconds" / "stage4").write_text("12\n")
    return tmp_path


def test_diffa2s_table_has_stages_by_benchmarks(diffa2_run, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["diffa2_summary.py", str(diffa2_run)])
    assert diffa2_summary.main() is None
    told = capsys.readouterr().out
    rows = {line[:22].strip(): line for line in told.splitlines()}
    assert all(f"{rate} %" in rows["MMSU"] for rate in (25.0, 20.0, 30.0, 40.0))  # chance, stages 2 to 4
    assert [rows["VoiceBench openbookqa"].count(f"{rate} %") for rate in (30.0, 80.0)] == [1, 2]
    assert "50.0 %" in rows["VoiceBench sd-qa"] and "stage 4: preferences" in told and "after stage 1: 2.0 %" in told
    assert "3 held-out pairs after 4 steps of stage 4" in told and "in 90.0 %, by a margin of 0.50" in told
    figures = json.loads((diffa2_run / "diffa2.json").read_text())
    assert figures["held_out_pairs"]["steps"] == [2, 4] and figures["stages"]["4"]["MMAU"]["official"] == 0.8
    assert (diffa2_run / "margins.png").read_bytes().startswith(b"\x89PNG")


def test_a_stage_without_held_out_pairs_is_told(diffa2_run, monkeypatch, capsys):
    write_json(diffa2_run / "stage4" / "trainer_state.json", {"log_history": [{"step": 1, "loss": 0.7, "margin": 0.1}]})
    monkeypatch.setattr("sys.argv", ["diffa2_summary.py", str(diffa2_run)])
    assert diffa2_summary.main() == 2
    assert "logged no eval_margin" in capsys.readouterr().err


def test_the_assets_are_small():
    size = sum(path.stat().st_size for path in (ROOT / "demo" / "assets").rglob("*") if path.is_file())
    assert size < 13e6
