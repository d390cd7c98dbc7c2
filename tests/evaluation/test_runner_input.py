"""What a run reads, and what stops it before the model loads."""

import json

import pytest

import inference_stage2_mmau
from evaluation.benchmarks import MMAU
from evaluation.tasks import read_items
from src.prompts import mmau_instruction
from tests.evaluation.small_runs import CHOICES, MODEL, mmsu, question, write_lines


def test_mmau_list_in_list_out(folder, echo):
    records = [
        {
            "id": str(n),
            "audio_id": f"./clip{n}.wav",
            "question": "Which?",
            "choices": ["(A) x", "(B) y"],
            "answer": "(A) x",
        }
        for n in range(3)
    ]
    (folder / "mmau.json").write_text(json.dumps(records))
    flags = [*MODEL, "--input_json_path", str(folder / "mmau.json"), "--output_json_path", str(folder / "out.json")]
    assert inference_stage2_mmau.main(flags) == 0
    result = json.loads((folder / "out.json").read_text())
    instruction = mmau_instruction("Which?", ["x", "y"])
    for field in ("model_output", "model_prediction"):  # one for each version of MMAU's own scorer
        assert [item.pop(field).partition(" ")[2] for item in result] == [instruction] * 3
    assert result == records
    settings = json.loads((folder / "out.json.meta.json").read_text())["settings"]
    assert (settings["steps"], settings["block_length"], settings["max_new_tokens"]) == (16, 16, 16)


def test_a_null_choice_of_mmau_is_left_out_of_the_prompt(folder):
    item = {"audio_id": "clip0.wav", "question": "Which?", "answer": "y", "choices": ["(A) x", None, "(C) y"]}
    (folder / "mmau.json").write_text(json.dumps([item]))
    [read] = read_items(MMAU, folder / "mmau.json", None)
    assert read.instruction == mmau_instruction("Which?", ["x", None, "y"])


def test_audio_root(folder, echo, tmp_path):
    (folder / "questions").mkdir()
    (folder / "mmsu.jsonl").rename(folder / "questions" / "mmsu.jsonl")
    flags = ["--input_jsonl", folder / "questions" / "mmsu.jsonl"]
    assert mmsu(folder, *flags, output="a.jsonl") == 1
    assert mmsu(folder, *flags, "--audio_root", folder, output="b.jsonl") == 0


def test_broken_lines_are_all_named(folder, no_model, capsys):
    with (folder / "mmsu.jsonl").open("a") as file:
        file.write("oops\n" + json.dumps(question(7, question=None)) + "\n")
    assert mmsu(folder) == 2
    error = capsys.readouterr().err
    assert "mmsu.jsonl line 7: not JSON" in error and "line 8: question must be str, found None" in error


def test_choices_that_are_none_are_named(folder, no_model, capsys):
    nothing = dict.fromkeys(CHOICES)
    write_lines(folder / "mmsu.jsonl", [question(0, choice_a=None), question(1, **nothing), question(2, choice_b=2)])
    assert mmsu(folder) == 2
    error = capsys.readouterr().err
    assert "line 1" not in error and "line 2: choice_a to choice_d must be texts, two at least" in error
    assert "line 3: choice_a to choice_d must be texts" in error
    items = [
        {"audio_id": "clip0.wav", "question": "?", "answer": "x", "choices": choices}
        for choices in (["x", None], [], [1])
    ]
    (folder / "mmau.json").write_text(json.dumps(items))
    flags = [*MODEL, "--input_json", str(folder / "mmau.json"), "--output_json", str(folder / "out.json")]
    assert inference_stage2_mmau.main(flags) == 2
    error = capsys.readouterr().err
    assert "found []" in error and "found [1]" in error and "None" not in error


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--steps", "3", "--block_length", "2"], "steps 3 cannot be shared evenly over 2 blocks"),
        (["--block_length", "3"], "block_length 3 does not divide max_new_tokens 4; nearest that do: 2 and 4"),
        (["--batch_size", "0"], "batch_size is 0; it must be at least 1"),
        (["--model_path", "/nowhere"], "the DIFFA checkpoint: no folder '/nowhere'"),
        (["--device", "cuda"], "--device cuda: PyTorch finds no GPU here"),
        (["--device", "gpu"], "--device gpu is unknown; say cpu, cuda or cuda:1"),
        (["--device", "meta"], "--device meta: PyTorch cannot compute there ("),
        (["--device", "xpu"], "--device xpu: PyTorch cannot compute there ("),
        (["--device", "hpu"], "--device hpu: PyTorch cannot compute there ("),
        (["--llm_path", "/nowhere"], "the LLM (LLaDA): no folder '/nowhere'"),
        (["--input_jsonl", "/nowhere.jsonl"], "/nowhere.jsonl: no such file. Pass MMSU's question file"),
    ],
)
def test_what_cannot_work_is_said_at_once(folder, no_model, capsys, monkeypatch, flags, message):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert mmsu(folder, *flags) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--setps", "--output_j", "--inp"])  # a misspelling, and two abbreviations
def test_unknown_flags_are_rejected(folder, no_model, capsys, flag):
    with pytest.raises(SystemExit):
        mmsu(folder, flag, "4")
    assert f"unrecognized arguments: {flag}" in capsys.readouterr().err
