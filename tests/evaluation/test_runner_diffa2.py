"""The inference scripts with the golden checkpoint of DIFFA-2."""

import json

import pytest

import inference_stage2_mmsu
from src.prompts import SYSTEM_PROMPTS
from tests.conftest import GOLDEN2
from tests.evaluation.small_runs import lines

FROZEN = ["--llm_path", str(GOLDEN2 / "llada"), "--whisper_path", str(GOLDEN2 / "whisper"), "--device", "cpu"]
PUBLISHED = ("--use_lora", "True", "--accelerate", "fast_dllm")  # as the published scripts write it


def mmsu(folder, *flags, checkpoint="diffa2_stage4"):
    arguments = ["--model_path", GOLDEN2 / checkpoint, *FROZEN, "--input", folder / "mmsu.jsonl"]
    return inference_stage2_mmsu.main([str(word) for word in (*arguments, "--output", folder / "out.jsonl", *flags)])


def test_a_run_as_published_is_recorded_and_not_repeated(folder, capsys):
    assert mmsu(folder, *PUBLISHED) == 0
    assert "diffa2_stage4 is a DIFFA-2 checkpoint, LoRA of rank 8 merged into 15 weights" in capsys.readouterr().err
    answers, meta = lines(folder / "out.jsonl"), json.loads((folder / "out.jsonl.meta.json").read_text())
    assert len(answers) == 6 and all("response" in answer for answer in answers)
    settings = meta["settings"]
    assert meta["parts"]["family"] == "diffa2" and settings["system_prompt"] == SYSTEM_PROMPTS["short"]
    assert (settings["steps"], settings["block_length"], settings["max_new_tokens"]) == (16, 16, 16)
    assert (settings["factor"], settings["last_rank"], settings["stop_in_block"]) == (1.0, True, True)
    assert mmsu(folder, *PUBLISHED) == 0
    assert "6 of 6 items answered before" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "difference"),
    [
        ((), "factor was 1.0, now None; last_rank was True, now False"),
        (
            (*PUBLISHED, "--system_prompt", "long"),
            "system_prompt was 'You are a helpful voice assistant.', now",
        ),
    ],
)
def test_answers_made_in_another_way_are_refused_by_the_difference(folder, echo, capsys, flags, difference):
    assert mmsu(folder, *PUBLISHED) == 0
    assert mmsu(folder, *flags) == 2
    assert difference in capsys.readouterr().err


def test_flags_win_over_the_familys_settings(folder, echo):
    assert mmsu(folder, "--steps", "4", "--block_length", "4", "--max_new_tokens", "4") == 0
    assert json.loads((folder / "out.jsonl.meta.json").read_text())["settings"]["max_new_tokens"] == 4


def test_lora_that_is_asked_for_must_be_there(folder, capsys):
    assert mmsu(folder, *PUBLISHED, checkpoint="diffa2_stage1") == 2
    assert "diffa2_stage1 holds no LoRA factors, but they were asked for" in capsys.readouterr().err
