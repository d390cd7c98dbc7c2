import json

import pytest

from evaluation.published_forms import from_log, is_logged, mmar_form, mmau_form, mmsu_form, with_questions
from evaluation.result_files import BenchmarkFileError

ATTRIBUTES = {
    "id": "7f", "dataset": "AudioSet", "task": "sound", "split": "test-mini", "category": ["Reasoning"],
    "sub-category": "Acoustic Source Inference", "difficulty": "easy",
}  # fmt: skip
AUTHORS = {  # as in mmau-test-mini.json
    **ATTRIBUTES, "category": "Reasoning", "audio_id": "./test-mini-audios/7f.wav", "question": "Who speaks?",
    "choices": ["Man", "Woman"], "answer": "Woman",
}  # fmt: skip


def test_mmau_from_the_hub_becomes_the_authors_record():
    hub = {
        "instruction": "Who speaks?",
        "choices": ["(A) Man", "(B) Woman"],
        "answer": "(B) Woman",
        "other_attributes": json.dumps(ATTRIBUTES),
    }
    assert mmau_form(hub) == AUTHORS
    assert mmau_form({**hub, "other_attributes": ATTRIBUTES}) == AUTHORS
    assert mmau_form(AUTHORS) == AUTHORS


def test_mmau_of_the_test_set_has_no_answer():
    attributes = json.dumps(ATTRIBUTES | {"split": "test"})
    record = mmau_form({"instruction": "?", "choices": ["(A) x", "(B) y"], "other_attributes": attributes})
    assert "answer" not in record and record["audio_id"] == "./test-audios/7f.wav" and record["choices"] == ["x", "y"]


def test_choices_that_are_a_json_text():
    record = {"audio_id": "a.wav", "question": "?", "choices": '["Man", "Woman"]', "answer": "Man"}
    assert mmau_form(record) == mmar_form(record) == record | {"choices": ["Man", "Woman"]}
    assert mmau_form(record | {"choices": "Man or woman"})["choices"] == "Man or woman"  # named as a problem later


def test_labels_of_the_authors_stay_unless_the_answer_is_one():
    record = {"choices": ["A. dog", "B. cat"], "answer": "B. cat"}
    assert mmar_form(record) == record
    assert mmar_form(record | {"answer": "B"}) == {"choices": ["dog", "cat"], "answer": "cat"}
    assert mmar_form(record | {"answer": "(b)".upper()})["answer"] == "cat"
    assert mmar_form({"choices": ["dog", "cat"], "answer": "B"})["answer"] == "B"
    assert mmar_form({"choices": ["dog", None], "answer": "dog"})["choices"] == ["dog", None]
    assert mmar_form({"question": "?"}) == {"question": "?"}


def test_mmsu_may_not_name_its_audio():
    assert mmsu_form({"id": "q1"})["audio_path"] == "q1.wav"
    assert mmsu_form({"id": "q1", "audio_path": "a/b.wav"})["audio_path"] == "a/b.wav"


def test_logs_with_and_without_the_question():
    line = {"doc_id": 1, "target": "x", "filtered_resps": ["B"], "input": "Which? A. x B. y"}
    assert is_logged(line) and not is_logged({"doc_id": 1})
    question = {"id": "q1", "question": "Which?"}
    assert from_log(line | {"doc": question}, "response") == question | {"response": "B"}
    drawn = question | {"model_prediction": "A"}
    assert from_log(line | {"submission": drawn}, "model_output") == drawn | {"model_output": "B"}
    bare = from_log(line | {"filtered_resps": "B"}, "response")
    assert with_questions("f", [bare], [{"id": "q0"}, question]) == [question | {"response": "B"}]
    with pytest.raises(BenchmarkFileError, match=r"f: a log of lmms-eval without questions\. Pass .* --reference"):
        with_questions("f", [bare], None)
    with pytest.raises(BenchmarkFileError, match=r"f: doc_id 1 is past the 1 items of the reference"):
        with_questions("f", [bare], [question])
