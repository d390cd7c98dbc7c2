"""What the benchmarks' own scorers expect of a file, restated: each test reads ours as they do, keys and types."""

import json
import shutil

import numpy as np
import pytest

import inference_stage2_mmar
import inference_stage2_mmau
import inference_stage2_mmsu
from evaluation.result_files import read_result
from evaluation.runner import Parts
from tests.evaluation.small_runs import GOLDEN, MODEL, EchoModel, question, write_lines
from voicebench.evaluate import main as evaluate_voicebench
from voicebench.verdicts import JudgeQuestion, Verdicts, verdict_path, write_rated

CHOICES = {"question": "?", "choices": ["x", "y"], "answer": "x"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three clips, of which the third is gone, and a model that answers "x"."""
    for n in range(2):
        shutil.copy(GOLDEN / f"clip{n}.wav", tmp_path)
    model = EchoModel()
    model.reply = lambda waveform, instruction: "x"
    monkeypatch.setattr(Parts, "load", lambda *_, **__: model)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    return tmp_path


def answer(script, questions, output):
    flags = [*MODEL, "--input", str(questions), "--output", str(output), "--max_error_rate", "1"]
    assert script.main(flags) == 0
    return output.read_text(encoding="utf-8")


@pytest.mark.parametrize("field", ["model_output", "model_prediction"])
def test_mmau_reads_a_list_with_a_text_in_every_item(folder, field):
    """evaluation.py of Sakshi113/MMAU (model_output), and its older form in NKU-HLT/DIFFA (model_prediction)."""
    records = [
        {"id": str(n), "audio_id": f"clip{n}.wav", **CHOICES, "task": "sound", "difficulty": "easy"} for n in range(3)
    ]
    (folder / "q.json").write_text(json.dumps(records))
    for item in json.loads(answer(inference_stage2_mmau, folder / "q.json", folder / "out.json")):
        assert isinstance(item[field], str)  # else it is left out of the denominator
        assert item["task"] in ("sound", "music", "speech") and item["difficulty"] in ("easy", "medium", "hard")
        assert isinstance(item["answer"], str) and all(isinstance(choice, str) for choice in item["choices"])
    assert item[field] == "" and "clip2.wav" in item["error"]


def test_mmar_reads_a_list_in_a_file_that_ends_in_json(folder):
    """code/evaluation.py of ddlBoJack/MMAR (answer_prediction); its README says model_prediction."""
    records = [
        {"id": str(n), "audio_path": f"clip{n}.wav", **CHOICES, "modality": "sound", "category": "Signal Layer"}
        for n in range(3)
    ]
    (folder / "q.json").write_text(json.dumps(records))
    for item in json.loads(answer(inference_stage2_mmar, folder / "q.json", folder / "out.json")):
        assert isinstance(item["answer_prediction"], str) and item["model_prediction"] == item["answer_prediction"]
        assert item["modality"] and item["category"].endswith(" Layer") and item["answer"] in item["choices"]


def test_mmsu_reads_lines_with_a_text_in_every_one(folder):
    """mmsu_evaluation.py of dingdongwang/MMSU: `response.strip()` must do, and the four choices are compared."""
    write_lines(folder / "q.jsonl", [question(n, category="Reasoning") for n in range(3)])
    for line in answer(inference_stage2_mmsu, folder / "q.jsonl", folder / "out.jsonl").splitlines():
        item = json.loads(line)
        assert isinstance(item["response"].strip(), str) and isinstance(item["answer_gt"], str)
        assert {"choice_a", "choice_b", "choice_c", "choice_d", "category"} <= item.keys()


@pytest.mark.parametrize(("kind", "subset"), [("open", "wildvoice"), ("qa", "sd-qa")])
def test_voicebench_reads_lines_with_a_list_of_replies_as_score(tmp_path, kind, subset):
    """evaluate.py of MatthewCYM/VoiceBench on what its api_judge.py writes: open.py and qa.py read `score`."""
    records = [{"prompt": f"q{n}", "reference": "Rome", "response": f"a{n}"} for n in range(3)]
    records[2] |= {"response": "", "error": "no audio"}
    path = write_lines(tmp_path / f"m-{subset}-usa-audio.jsonl", records)
    verdicts = Verdicts(verdict_path(path), {"kind": kind, "model": "m", "samples": 3})
    replies = {
        "open": [["4", "Rating: 5", "[[3]]"], ["2", "2", "1"]],
        "qa": [["Yes", "yes ", "No"], ["no", "No", "Yes"]],
    }
    values = {"open": [[4, 5, 3], [2, 2, 1]], "qa": [[1, 1, 0], [0, 0, 1]]}
    for n, (said, rated) in enumerate(zip(replies[kind], values[kind], strict=True)):
        asked = JudgeQuestion(str(n + 1), f"q{n}", f"a{n}", None if kind == "open" else "Rome")
        for sample in range(3):
            verdicts.append(asked, sample, said[sample], rated[sample])
    assert evaluate_voicebench([str(path)]) == 0
    ours = json.loads((tmp_path / f"{path.name}.scores.json").read_text())
    rated = write_rated(read_result(path, lambda record: record["id"], ["response"]), kind, verdicts)
    assert rated.name == f"result-{path.name}"
    items = [json.loads(line) for line in rated.read_text().splitlines()]
    assert all(isinstance(reply, str) for item in items for reply in item["score"])
    if kind == "open":
        assert np.mean([float(reply) for item in items for reply in item["score"]]) == ours["rating"]
    else:
        votes = [max(set(said), key=said.count) for said in ([r.lower() for r in item["score"]] for item in items)]
        assert np.mean([vote == "yes" for vote in votes]) == ours["judge"]
    # and the other way round: theirs is scored here as ours is
    alone = tmp_path / "theirs"
    alone.mkdir()
    shutil.copy(rated, alone)
    assert evaluate_voicebench([str(alone)]) == 0
    theirs = json.loads((alone / f"{rated.name}.scores.json").read_text())
    assert theirs[column := "rating" if kind == "open" else "judge"] == pytest.approx(ours[column])
    assert theirs["subset"] == subset
    # beside the verdicts themselves it is not scored twice
    (tmp_path / f"{path.name}.scores.json").unlink()
    assert evaluate_voicebench([str(tmp_path)]) == 0
    assert [file.name for file in tmp_path.glob("*.scores.json")] == [f"{path.name}.scores.json"]
