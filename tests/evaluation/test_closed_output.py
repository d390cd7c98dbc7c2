"""`evaluate.py ... | head`: the scores are written, although nobody reads the table to its end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run_unread(*arguments):
    """Run a script whose standard output is closed before it prints."""
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], stdout=writer, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env=environment,
    )  # fmt: skip
    os.close(writer)
    return done


@pytest.mark.parametrize("count", [1, 3])
def test_scores_are_written_all_the_same(tmp_path, count):
    prompt = "Which?\nA. x\nB. y\nC. z\nD. w"
    for n in range(count):
        line = json.dumps({"prompt": prompt, "reference": "A", "response": "A"})
        (tmp_path / f"run{n}-openbookqa-test-audio.jsonl").write_text(line + "\n")
    done = run_unread("voicebench/evaluate.py", tmp_path)
    assert done.returncode == 2 and "standard output was closed" in done.stderr
    assert len(list(tmp_path.glob("*.scores.json"))) == count


def test_scores_of_choices(tmp_path):
    item = {"id": 1, "question": "?", "choice_a": "x", "choice_b": "y", "answer_gt": "none", "response": "A"}
    (tmp_path / "m.jsonl").write_text(json.dumps(item) + "\n")
    done = run_unread("mmsu/evaluate.py", tmp_path / "m.jsonl")
    assert done.returncode == 2 and "standard output was closed" in done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert (tmp_path / "m.jsonl.scores.json").is_file()
