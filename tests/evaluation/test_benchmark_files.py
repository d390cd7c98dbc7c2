"""Benchmarks and results in other published forms, from the questions to the scores."""

import json

import pytest

import inference_stage2_mmau
import inference_stage2_mmsu
import mmau.evaluate
import mmsu.evaluate
from tests.evaluation.small_runs import GOLDEN, MODEL, lines, question, scores_of, write_lines, write_parquet


def sound(n):
    return {"bytes": (GOLDEN / f"clip{n}.wav").read_bytes(), "path": None}


def hub_row(n, split="test-mini", **changes):
    """A row of gamma-lab-umd/MMAU-test-mini."""
    attributes = {"id": f"id{n}", "task": "sound", "split": split, "category": ["Reasoning"], "difficulty": "easy"}
    row = {"context": sound(n), "instruction": f"Is it {n}?", "choices": ["(A) Man", "(B) Woman"]}
    return row | {"answer": "(B) Woman", "other_attributes": json.dumps(attributes)} | changes


def test_mmsu_from_the_hub(tmp_path, echo):
    folder = tmp_path / "data" / "mmsu"
    rows = [question(n, task_name="t", category="Reasoning") | {"audio": sound(n)} for n in range(3)]
    for row in rows:
        del row["audio_path"]
    for shard, part in enumerate((rows[:2], rows[2:])):
        write_parquet(folder / "data" / f"train-0000{shard}-of-00002.parquet", part)
    echo.reply = lambda waveform, instruction: "A"
    flags = [*MODEL, "--output", str(tmp_path / "out.jsonl")]
    assert inference_stage2_mmsu.main([*flags, "--input", str(folder / "mmsu.jsonl")]) == 0  # the usual place
    result = lines(tmp_path / "out.jsonl")
    assert [(item["id"], item["audio_path"], item["response"]) for item in result] == [
        (n, f"{n}.wav", "A") for n in range(3)
    ]
    assert "audio" not in result[0] and result[0]["choice_d"] is None
    assert mmsu.evaluate.main([str(tmp_path / "out.jsonl"), "--reference", str(folder)]) == 0
    assert scores_of(tmp_path / "out.jsonl")["levels"]["total"]["total"]["official"] == 1


def test_mmau_from_the_hub(tmp_path, echo):
    file = write_parquet(tmp_path / "test-00000-of-00001.parquet", [hub_row(n) for n in range(3)])
    said = iter(["Woman", "Man", "(B) Woman"])
    echo.reply = lambda waveform, instruction: next(said)
    out = tmp_path / "mmau.json"
    assert inference_stage2_mmau.main([*MODEL, "--input", str(file), "--output", str(out)]) == 0
    first = json.loads(out.read_text())[0]
    assert first["choices"] == ["Man", "Woman"] and first["answer"] == "Woman" and first["task"] == "sound"
    assert (first["id"], first["audio_id"]) == ("id0", "./test-mini-audios/id0.wav")
    assert mmau.evaluate.main([str(out), "--reference", str(file)]) == 0
    verdicts = scores_of(out)["verdicts"]
    assert sorted(v["official"] for v in verdicts) == [False, True, True]
    assert sorted(v["parsed"] for v in verdicts) == ["A", "B", "B"]


@pytest.mark.parametrize("withheld", ["", None, "no field"])
def test_mmau_without_answers_becomes_a_submission(tmp_path, echo, capsys, withheld):
    authors = [
        {"id": f"id{n}", "audio_id": f"./clip{n}.wav", "question": "?", "choices": ["x", "y"], "answer": withheld}
        for n in range(2)
    ]
    for record in authors if withheld == "no field" else ():
        del record["answer"]
    for n in range(2):
        (tmp_path / f"clip{n}.wav").write_bytes(sound(n)["bytes"])
    (tmp_path / "mmau-test.json").write_text(json.dumps(authors))
    out = tmp_path / "submission.json"
    flags = [*MODEL, "--input", str(tmp_path / "mmau-test.json"), "--output", str(out)]
    assert inference_stage2_mmau.main(flags) == 0
    assert "none of the choices" not in capsys.readouterr().err
    submission = json.loads(out.read_text())
    assert all(item.pop("model_output") == item.pop("model_prediction") != "" for item in submission)
    assert submission == authors
    assert mmau.evaluate.main([str(out)]) == 2
    message = capsys.readouterr().err
    assert "the right choices of these 2 items are not published" in message and "MMAU-Eval" in message


def test_among_answers_that_are_published_an_empty_one_is_told(tmp_path, capsys):
    record = {"audio_id": "a", "question": "?", "choices": ["x", "y"], "answer": "x", "model_output": "x"}
    (tmp_path / "r.json").write_text(json.dumps([record | {"id": "1"}, record | {"id": "2", "answer": ""}]))
    assert mmau.evaluate.main([str(tmp_path / "r.json")]) == 0
    told = "2: answer '' is none of the choices ['x', 'y']; no answer can be strictly right"
    assert capsys.readouterr().out.count("none of the") == 1
    scores = scores_of(tmp_path / "r.json")
    assert scores["answers_not_offered"] == [told] and "answer_not_offered" not in scores


def test_one_answer_that_is_missing_is_none_that_is_withheld(tmp_path, capsys):
    records = [{"id": str(n), "audio_id": "a", "question": "?", "choices": ["x", "y"], "answer": "x"} for n in range(2)]
    records[0] |= {"model_output": "x"}
    del records[1]["answer"]
    (tmp_path / "r.json").write_text(json.dumps(records))
    assert mmau.evaluate.main([str(tmp_path / "r.json")]) == 2
    assert "item 1: no field 'answer'" in capsys.readouterr().err


def test_choices_that_are_a_json_text_are_read_as_choices(tmp_path):
    record = {"id": "1", "question": "?", "choices": '["Man", "Woman"]', "answer": "Woman", "model_prediction": "B"}
    (tmp_path / "r.json").write_text(json.dumps([record]))
    assert mmau.evaluate.main([str(tmp_path / "r.json")]) == 0
    assert scores_of(tmp_path / "r.json")["verdicts"][0]["parsed"] == "B"
    (tmp_path / "r.json").write_text(json.dumps([record | {"choices": "Man, Woman"}]))
    assert mmau.evaluate.main([str(tmp_path / "r.json")]) == 2


def test_logs_of_lmms_eval(tmp_path, capsys):
    questions = [
        {"id": f"id{n}", "audio_id": "a", "question": "?", "choices": ["Man", "Woman"], "answer": "Woman"}
        for n in range(3)
    ]
    log = [
        {"doc_id": n, "target": "Woman", "input": "?", "filtered_resps": [said], "doc_hash": "h", "accuracy": {}}
        for n, said in ((1, "B. Woman"), (0, "A"))
    ]
    path = write_lines(tmp_path / "samples_mmau.jsonl", log)
    write_lines(tmp_path / "questions.jsonl", questions)
    assert mmau.evaluate.main([str(path)]) == 2
    assert "a log of lmms-eval without questions" in capsys.readouterr().err
    assert mmau.evaluate.main([str(path), "--reference", str(tmp_path / "questions.jsonl")]) == 0
    scores = scores_of(path)
    assert [(v["key"], v["parsed"]) for v in scores["verdicts"]] == [("id0", "A"), ("id1", "B"), ("id2", None)]
    assert scores["missing"] == ["id2"]
    submission = questions[0] | {"choices": '["Man", "Woman"]', "model_prediction": "Man"}  # with a letter drawn
    write_lines(path, [log[0] | {"submission": submission}])
    assert mmau.evaluate.main([str(path)]) == 0
    assert scores_of(path)["verdicts"][0]["parsed"] == "B"
