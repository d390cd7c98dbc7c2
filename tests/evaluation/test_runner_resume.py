"""Runs that were interrupted go on; runs with other settings or other audio are refused."""

import json
import random
import shutil
import subprocess
import sys
import time

import psutil
import pytest
import torch

from evaluation.runner import Parts
from tests.evaluation.small_runs import MODEL, ROOT, lines, mmsu, question, write_lines


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed(folder, model, monkeypatch):
    """Two ranks are killed three times, one of them or both, and once more started to finish."""
    rng, count = random.Random(3), 32
    slow = ["--steps", "16", "--block_length", "16", "--max_new_tokens", "16"]  # so that kills do not come too late
    write_lines(folder / "mmsu.jsonl", [question(n) for n in range(count)])
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
        str(ROOT / "inference_stage2_mmsu.py"), *MODEL, "--input_jsonl", "mmsu.jsonl", "--output_jsonl", "out.jsonl",
        "--device", "cpu", *slow,
    ]  # fmt: skip
    answered = 0
    for victims in (1, 2, 1):
        launcher = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
        goal, deadline = answered + rng.randint(1, 5), time.monotonic() + 120
        while on_disk(folder) < goal and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.05))
        ranks = psutil.Process(launcher.pid).children()
        assert len(ranks) == 2, "the run ended before it could be killed"
        for rank in rng.sample(ranks, victims):
            rank.kill()
        if victims == 2:
            launcher.kill()
        assert launcher.wait(timeout=60) != 0
        psutil.wait_procs(ranks, timeout=60)
        assert answered < on_disk(folder) < count and not (folder / "out.jsonl").exists()
        answered = on_disk(folder)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    meta = json.loads((folder / "out.jsonl.meta.json").read_text())
    assert (meta["answered_in_this_run"], meta["ranks"]) == (count - answered, 2)
    monkeypatch.setattr(Parts, "load", lambda *_, **__: model)
    assert mmsu(folder, "--batch_size", 8, *slow, output="whole.jsonl") == 0
    assert (folder / "out.jsonl").read_text() == (folder / "whole.jsonl").read_text()
    assert [line["id"] for line in lines(folder / "out.jsonl")] == list(range(count))
    assert sorted(path.name for path in folder.glob("out*")) == ["out.jsonl", "out.jsonl.meta.json"]


def on_disk(folder):
    """Answers in the unfinished files of all ranks, below the line that tells their settings."""
    return sum(max(0, path.read_text().count("\n") - 1) for path in folder.glob("out.jsonl.partial*"))


def test_an_interrupted_run_goes_on_where_it_stopped(folder, echo, monkeypatch):
    mmsu(folder, output="whole.jsonl")
    answer = echo.answer

    def fail_at_third(*arguments):
        if len(echo.batches) == 2:
            raise KeyboardInterrupt
        return answer(*arguments)

    echo.batches.clear()
    monkeypatch.setattr(echo, "answer", fail_at_third)
    with pytest.raises(KeyboardInterrupt):
        mmsu(folder)
    assert not (folder / "out.jsonl").exists() and len(lines(folder / "out.jsonl.partial")) == 3
    monkeypatch.setattr(echo, "answer", answer)
    echo.batches.clear()
    assert mmsu(folder) == 0
    assert echo.batches == [1] * 4
    assert (folder / "out.jsonl").read_text() == (folder / "whole.jsonl").read_text()
    assert not (folder / "out.jsonl.partial").exists()


@pytest.mark.parametrize("end", [KeyboardInterrupt, torch.OutOfMemoryError])
def test_a_run_that_ends_in_its_first_batch_leaves_nothing_behind(folder, echo, monkeypatch, end):
    """So that it can be started with smaller batches, another dtype, fewer steps."""
    answer = echo.answer

    def fail(*_):
        raise end("memory")

    monkeypatch.setattr(echo, "answer", fail)
    with pytest.raises(end):
        mmsu(folder)
    assert list(folder.glob("out*")) == []
    monkeypatch.setattr(echo, "answer", answer)
    assert mmsu(folder, "--steps", 2) == 0 and len(lines(folder / "out.jsonl")) == 6


def test_a_finished_run_loads_no_model(folder, echo, monkeypatch):
    assert mmsu(folder, "--limit", 2) == 0
    assert mmsu(folder, "--batch_size", 3) == 0  # the limit and the batch size may change
    assert echo.batches == [1, 1, 3, 1]
    before = (folder / "out.jsonl").read_text()
    monkeypatch.setattr(Parts, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    assert mmsu(folder) == 0
    assert (folder / "out.jsonl").read_text() == before and len(before.splitlines()) == 6


def test_other_settings_are_refused_until_told_to_overwrite(folder, echo, capsys):
    assert mmsu(folder) == 0
    assert mmsu(folder, "--steps", 2) == 2
    assert "steps was 4, now 2" in capsys.readouterr().err
    write_lines(folder / "mmsu.jsonl", [question(n, question="Other?") for n in range(6)])
    assert mmsu(folder) == 2
    assert "input was" in capsys.readouterr().err
    assert mmsu(folder, "--steps", 2, "--overwrite") == 0
    assert lines(folder / "out.jsonl")[0]["question"] == "Other?"


def test_other_audio_is_refused_wherever_it_lies(folder, echo, capsys, tmp_path_factory):
    """Of the same names and sizes; a copy of the same audio will do."""
    copy, noisy = (tmp_path_factory.mktemp(name) for name in ("copy", "noisy"))
    for n in range(3):
        shutil.copy(folder / f"clip{n}.wav", copy)
        content = bytearray((folder / f"clip{n}.wav").read_bytes())
        content[len(content) // 2] ^= 1 if n == 1 else 0
        (noisy / f"clip{n}.wav").write_bytes(content)
    (noisy / "clip2.wav").unlink()
    assert mmsu(folder, "--limit", 3) == 0
    assert mmsu(folder, "--limit", 4, "--audio_root", copy) == 0
    assert mmsu(folder, "--audio_root", noisy) == 2
    error = capsys.readouterr().err
    assert "out.jsonl holds answers to other audio: of 2 of 4 items, the first being item 2, " in error
    assert f"{noisy / 'clip1.wav'}. Pass the audio they were made of (--audio_root), choose another output" in error
    assert mmsu(folder, "--audio_root", noisy, "--overwrite", "--max_error_rate", 0.4) == 0
    shutil.copy(copy / "clip2.wav", noisy)  # only what had an error is due
    before = len(echo.batches)
    assert mmsu(folder, "--audio_root", noisy) == 0 and len(echo.batches) == before + 2
