"""The run_*_inference.sh scripts, from answers to scores, with the golden model; tests/test_launch.py has the rest."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import GOLDEN, GOLDEN2
from tests.evaluation.small_runs import ROOT, lines, write_lines


def shell(script, folder, **settings):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    for name in ("MODEL_PATH", "INPUT", "OUTPUT"):
        environment.pop(name, None)
    environment |= {"VIRTUAL_ENV": sys.prefix} | {name: str(value) for name, value in settings.items()}
    return subprocess.run(
        ["bash", str(ROOT / script), "--limit", "2"], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize("benchmark", ["mmsu", "mmau", "mmar", "voicebench"])
def test_shell_script_says_what_to_set(benchmark, tmp_path):
    done = shell(f"run_{benchmark}_inference.sh", tmp_path)
    assert done.returncode == 2 and "set MODEL_PATH to the DIFFA checkpoint" in done.stderr


def mmar_item(n):
    return {
        "id": f"q{n}", "audio_path": f"./clip{n}.wav", "question": "Which?", "choices": ["one", "two"], "answer": "one",
        "modality": "mix-sound-speech", "category": "Signal Layer",
    }  # fmt: skip


@pytest.mark.slow
def test_shell_scripts_answer_and_score(folder):
    paths = {name: GOLDEN / part for name, part in
             (("MODEL_PATH", "diffa_upstream"), ("LLM_PATH", "llada"), ("WHISPER_PATH", "whisper"))}  # fmt: skip
    done = shell("run_mmsu_inference.sh", folder, **paths, INPUT=folder / "mmsu.jsonl", OUTPUT=folder / "mmsu.out")
    assert done.returncode == 0, done.stderr
    assert "official" in done.stdout and len(lines(folder / "mmsu.out")) == 2
    assert json.loads((folder / "mmsu.out.scores.json").read_text())["levels"]["total"]["total"]["n"] == 2
    diffa2 = dict(zip(paths, (GOLDEN2 / part for part in ("diffa2_stage4", "llada", "whisper")), strict=True))
    (folder / "mmar.json").write_text(json.dumps([mmar_item(n) for n in range(2)]))
    for said in ("2 of 2 items answered: ", "2 of 2 items answered before: "):
        files = {"INPUT": folder / "mmar.json", "OUTPUT": folder / "mmar.out.json"}
        done = shell("run_mmar_inference.sh", folder, **diffa2, **files)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout and "modality:" in done.stdout and "mix-sound-speech" in done.stdout
    write_lines(folder / "v" / "advbench" / "test.jsonl", [{"audio_path": "../../clip0.wav"}] * 2)
    paths |= {"INPUT": folder / "v", "OUTPUT": folder / "o", "DATA": "advbench"}
    done = shell("run_voicebench_inference.sh", folder, **paths)
    assert done.returncode == 0, done.stderr
    assert "voicebench advbench (harm)" in done.stdout
    (scores,) = (folder / "o").glob("*.scores.json")
    assert json.loads(scores.read_text())["levels"]["total"]["total"]["n"] == 2
