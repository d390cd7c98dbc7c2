"""run_all_benchmarks.sh: what is in data/ is answered, scored and reported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.evaluation.small_runs import GOLDEN, ROOT, question, write_lines

PYTHON = """#!/usr/bin/env bash
case "$1" in -c) echo 0 ;; *) echo "python $*" ;; esac
if [[ "$*" == *"${FAILS:-nothing}"* ]]; then exit 1; fi
"""


def study(folder, *flags, path="", **settings):
    environment = {**os.environ, "PATH": f"{path or Path(sys.executable).parent}:{os.environ['PATH']}"}
    for name in ("MODEL_PATH", "DATA_ROOT", "RESULTS", "NAME", "STEPS", "NODE_RANK", "NNODES"):
        environment.pop(name, None)
    environment |= {"VIRTUAL_ENV": sys.prefix, "OMP_NUM_THREADS": "1", "RESULTS": str(folder / "results")}
    environment |= {"DATA_ROOT": str(folder / "data")} | {name: str(value) for name, value in settings.items()}
    script = ["bash", str(ROOT / "run_all_benchmarks.sh"), *flags]
    return subprocess.run(script, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def stand_in(tmp_path):
    """A python that says how it was called."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text(PYTHON)
    (tmp_path / "bin" / "python").chmod(0o755)
    return tmp_path / "bin"


def commands(done):
    """What was started, without the repository's and the test's folders."""
    lines = [line for line in done.stdout.splitlines() if line.startswith("python ")]
    return [line.replace(f"{ROOT}/", "").replace("python ", "", 1) for line in lines]


def test_what_is_in_data_is_answered_and_nothing_else(tmp_path, stand_in):
    data = tmp_path / "data"
    for folder in (
        "mmau/data",
        "mmar",
        "mmaupro",
        "airbench/Foundation",
        "bigbenchaudio",
        "voicebench/bbh",
        "voicebench/alpacaeval",
        "voicebench/wildvoice",
        "librispeech",
    ):
        (data / folder).mkdir(parents=True)
    (data / "mmau" / "data" / "test-00000-of-00001.parquet").touch()
    for file in (
        "mmar/MMAR-meta.json", "mmaupro/test.parquet", "airbench/Foundation/Foundation_meta.json",
        "bigbenchaudio/metadata.jsonl",
    ):  # fmt: skip
        (data / file).touch()
    (data / "mmsu" / "audio").mkdir(parents=True)
    (data / "mmsu" / "audio" / "x.parquet").touch()  # not where the benchmark's file would be
    done = study(tmp_path, "--limit", "2", path=stand_in, MODEL_PATH=GOLDEN / "diffa_upstream")
    assert done.returncode == 0, done.stderr
    started = [line.split()[0] for line in commands(done) if "inference" in line]
    assert started == [
        "inference_stage2_mmau.py", "inference_stage2_mmar.py", "inference_stage2_mmaupro.py",
        "inference_stage2_airbench.py", "inference_stage2_bigbenchaudio.py", "inference_stage2_voicebench.py",
        "inference_stage2_voicebench.py",
    ]  # fmt: skip
    short, long = (line for line in commands(done) if "voicebench.py" in line)
    assert "--data bbh --output" in short and "--steps" not in short and short.endswith("--limit 2")
    (data / "airbench" / "Foundation" / "Foundation_meta.json").rename(data / "airbench" / "data.parquet")
    (data / "mmar" / "MMAR-meta.json").rename(data / "mmar" / "test-00000-of-00001.parquet")
    done = study(tmp_path, path=stand_in, MODEL_PATH=GOLDEN / "diffa_upstream")
    again = [line.split()[0] for line in commands(done) if "inference" in line]
    assert again == [name for name in started if "airbench" not in name]
    assert "--data alpacaeval wildvoice --output" in long and "--steps 128 --max_new_tokens 128" in long


def test_a_failure_does_not_keep_the_rest_from_being_answered(tmp_path, stand_in):
    for name, file in (("mmsu", "mmsu.jsonl"), ("mmar", "MMAR-meta.json")):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / file).touch()
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "mmar.json.scores.json").touch()  # as the scorer, which is no scorer here, would
    done = study(tmp_path, path=stand_in, MODEL_PATH=GOLDEN / "diffa_upstream", FAILS="inference_stage2_mmsu")
    assert done.returncode == 1 and "not all answered or scored: mmsu" in done.stderr
    last = commands(done)[-2:]
    scores, report = tmp_path / "results" / "mmar.json.scores.json", tmp_path / "results" / "report"
    assert last == [
        f"-m evaluation.report {scores} --names diffa_upstream --output {report}",
        f"-m evaluation.report_card {scores} --name diffa_upstream --output {report}",
    ]


def test_another_machine_leaves_the_scores_to_the_first_and_tells_its_failures(tmp_path, stand_in):
    (tmp_path / "data" / "mmsu").mkdir(parents=True)
    (tmp_path / "data" / "mmsu" / "mmsu.jsonl").touch()
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "mmsu.jsonl.scores.json").touch()
    settings = {"path": stand_in, "MODEL_PATH": GOLDEN / "diffa_upstream", "NODE_RANK": 1}
    for fails, status in (("nothing", 0), ("inference_stage2_mmsu", 1)):
        done = study(tmp_path, **settings, FAILS=fails)
        assert done.returncode == status, done.stderr
        assert not any("report" in command for command in commands(done))


def test_what_cannot_be_studied(tmp_path, stand_in):
    assert "set MODEL_PATH to the DIFFA checkpoint" in study(tmp_path, path=stand_in).stderr
    done = study(tmp_path, path=stand_in, MODEL_PATH=GOLDEN)
    assert done.returncode == 2 and "data holds no benchmark; docs/benchmarks.md says" in done.stderr


@pytest.mark.slow
def test_a_study_of_two_benchmarks(tmp_path):
    data = tmp_path / "data"
    write_lines(data / "mmsu" / "mmsu.jsonl", [question(n, category="Reasoning") for n in range(2)])
    write_lines(data / "voicebench" / "advbench" / "test.jsonl", [{"audio_path": "clip0.wav"}] * 2)
    for folder in ("mmsu", "voicebench/advbench"):
        for n in range(3):
            (data / folder / f"clip{n}.wav").write_bytes((GOLDEN / f"clip{n}.wav").read_bytes())
    parts = {"MODEL_PATH": "diffa_upstream", "LLM_PATH": "llada", "WHISPER_PATH": "whisper"}
    settings = {name: GOLDEN / part for name, part in parts.items()} | {"NAME": "golden", "DEVICE": "cpu"}
    done = study(tmp_path, **settings, DTYPE="float32")
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "results" / "report" / "report_card.md").read_text()
    assert "| MMSU | 2 |" in card and "| VoiceBench advbench | 2 |" in card and "golden answered 2 questions" in card
    assert {"report.md", "report.json", "report_card.html", "bars_mmsu.png", "bars_voicebench.png"} <= {
        path.name for path in (tmp_path / "results" / "report").iterdir()
    }
