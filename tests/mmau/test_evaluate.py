import json
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.benchmarks import MMAU
from evaluation.official_rules import mmau_rule
from evaluation.scoring import judge

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "mmau" / "evaluate.py"

CHOICES = ["Man", "Old woman", "Young woman", "Dog barking"]

# Labelled by hand, for the answer "Old woman" (B): the response, whether the official rule takes it as right, and the
# letter the strict rule reads.
SPELLINGS = [
    ("Old woman", True, "B"),
    ("old woman", True, "B"),
    ("OLD WOMAN", True, "B"),
    ("Old woman.", True, "B"),
    ("  Old woman  ", True, "B"),
    ('"Old woman"', True, "B"),
    ("**Old woman**", True, "B"),
    ("*Old woman*.", True, "B"),
    ("<answer>Old woman</answer>", True, "B"),
    ("Old woman<|eot_id|>", True, "B"),
    ("(B) Old woman", True, "B"),
    ("B. Old woman", True, "B"),
    ("B) Old woman", True, "B"),
    ("B: Old woman", True, "B"),
    ("b. old woman", True, "B"),
    ("B Old woman", True, "B"),
    ("The answer is Old woman", True, "B"),
    ("The answer is (B) Old woman.", True, "B"),
    ("Answer: B. Old woman", True, "B"),
    ("Answer: Old woman", True, "B"),
    ("The speaker is an old woman.", True, "B"),
    ("It is an old woman speaking", True, "B"),
    ("I hear an old woman.", True, "B"),
    ("I think it is an Old woman", True, "B"),
    ("The best choice is old woman", True, "B"),
    ("Not clear, but an old woman", True, "B"),
    ("The woman is old", True, None),  # all the words, but not the option's text
    ("woman, old", True, None),
    ("old-woman", True, "B"),
    ("B", False, "B"),
    ("b", False, "B"),
    ("B.", False, "B"),
    ("(B)", False, "B"),
    ("(b)", False, "B"),
    ("**B**", False, "B"),
    ("Option B", False, "B"),
    ("The answer is B", False, "B"),
    ("the answer is (b).", False, "B"),
    ("It must be B.", False, "B"),
    ("Man", False, "A"),
    ("A", False, "A"),
    ("(A) Man", False, "A"),
    ("A man", False, "A"),
    ("A man.", False, "A"),
    ("Young woman", False, "C"),
    ("C. Young woman", False, "C"),
    ("A young woman", False, "C"),
    ("Dog barking", False, "D"),
    ("A dog barking loudly", False, "D"),
    ("D", False, "D"),
    ("woman", False, None),
    ("Woman.", False, None),
    ("old", False, None),
    ("old man", False, "A"),  # a wrong choice's word: officially wrong; strictly the one option it holds
    ("Old woman or young woman", False, None),
    ("Old woman and man", False, None),
    ("man woman", False, "A"),
    ("Not a man but an old woman", False, "B"),
    ("It is not an old woman", True, None),  # the official rule does not see the negation
    ("B. Young woman", False, None),
    ("(A) Old woman", True, None),
    ("A or B", False, None),
    ("B, C", False, None),
    ("", False, None),
    ("   ", False, None),
    ("...", False, None),
    ("E", False, None),
    ("None of them", False, None),
    ("I cannot tell.", False, None),
    ("A cat", False, None),
    ("Human", False, None),
    ("barking", False, None),
]


def item(response, answer="Old woman", **extra):
    return {
        "id": "1",
        "audio_id": "./audio/1.wav",
        "question": "Who speaks?",
        "choices": CHOICES,
        "answer": answer,
        "task": "speech",
        "difficulty": "easy",
        "model_prediction": response,
        **extra,
    }


def test_fixture_is_large_enough():
    assert len(SPELLINGS) >= 60
    assert len({response for response, _, _ in SPELLINGS}) == len(SPELLINGS)


@pytest.mark.parametrize(("response", "official", "strict"), SPELLINGS)
def test_spelling(response, official, strict):
    verdict = judge(MMAU, "1", item(response))
    assert (verdict.official, verdict.parsed, verdict.strict) == (official, strict, strict == "B")


def test_official_rule_shares_words_between_choices():
    choices = ["High pitch", "Low pitch", "Low and high pitch"]
    assert mmau_rule("low pitch", "Low pitch", choices)
    assert not mmau_rule("low and high pitch", "Low pitch", choices)
    # every word of the wrong choice is in the answer: the rule cannot tell them apart
    assert mmau_rule("high and low pitch", "Low and high pitch", choices)
    assert not mmau_rule("low pitch", "Low and high pitch", choices)


def test_choices_that_bring_their_labels():
    record = item("B", answer="(B) Woman") | {"choices": ["(A) Man", "(B) Woman"]}
    assert judge(MMAU, "1", record).strict and not judge(MMAU, "1", record).official
    assert judge(MMAU, "1", record | {"model_prediction": "woman"}).strict
    assert judge(MMAU, "1", record | {"model_prediction": "(B) Woman"}).official


def test_a_choice_that_is_null_is_none(tmp_path):
    verdict = judge(MMAU, "1", item("Old woman") | {"choices": ["Man", None, "Old woman", None]})
    assert (verdict.official, verdict.strict, verdict.parsed, verdict.chance) == (True, True, "C", 0.5)
    assert judge(MMAU, "1", item("B") | {"choices": ["Man", None, "Old woman"]}).parsed is None


def test_other_answer_field_and_missing_field():
    record = item("x")
    record["model_output"] = record.pop("model_prediction").replace("x", "Old woman")
    assert judge(MMAU, "1", record).official
    assert judge(MMAU, "1", record | {"model_prediction": None}).official
    del record["model_output"]
    verdict = judge(MMAU, "1", record)
    assert (verdict.strict, verdict.official, verdict.error) == (False, False, True)
    assert judge(MMAU, "1", item("Old woman", error="no audio")).error


def run(*arguments, cwd):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=120
    )


def test_command_from_another_folder(tmp_path):
    records = [
        item("Old woman", id="a", task="speech", **{"sub-category": "Speaker"}),
        item("B", id="b", task="speech", difficulty="hard"),
        item("Man", id="c", task="sound", answer="Man"),
        item("", id="d", task="music", error="no audio"),
    ]
    (tmp_path / "r.json").write_text(json.dumps(records, indent=1))
    done = run("r.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 item(s) have no answer" in done.stdout
    levels = json.loads((tmp_path / "r.json.scores.json").read_text())["levels"]
    assert (levels["total"]["total"]["official"], levels["total"]["total"]["strict"]) == (0.5, 0.75)
    assert levels["total"]["total"]["always_a"] == 0.25
    assert levels["task"]["speech"]["strict"] == 1.0
    assert levels["task"]["music"]["official"] == 0.0 and levels["difficulty"]["easy"]["n"] == 3
    assert levels["difficulty"]["hard"]["strict"] == 1.0 and levels["sub-category"]["Speaker"]["n"] == 1


def test_without_ids_the_question_tells_items_apart(tmp_path):
    first, second = item("Man"), item("Man", question="How old?")
    del first["id"], second["id"]
    (tmp_path / "r.json").write_text(json.dumps([first, second]))
    assert run("r.json", cwd=tmp_path).returncode == 0
    (tmp_path / "r.json").write_text(json.dumps([first, first]))
    done = run("r.json", cwd=tmp_path)
    assert done.returncode == 2 and "./audio/1.wav Who speaks?" in done.stderr


def test_comparison_pairs_items_by_id(tmp_path):
    ours = [item("Old woman", id=n) for n in range(6)]
    (tmp_path / "r.json").write_text(json.dumps(ours))
    (tmp_path / "s.json").write_text(json.dumps([{**record, "model_prediction": "B"} for record in reversed(ours)]))
    done = run("r.json", "--compare", "s.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    comparison = json.loads((tmp_path / "r.json.scores.json").read_text())["comparison"]
    assert (comparison["official"]["difference"], comparison["official"]["p"]) == (1.0, 2 / 2**6)
    assert (comparison["strict"]["difference"], comparison["strict"]["p"]) == (0.0, 1.0)
    revised = [{**record, "answer": "Man"} for record in ours]  # as some questions of MMAU were
    (tmp_path / "s.json").write_text(json.dumps(revised))
    done = run("r.json", "--compare", "s.json", cwd=tmp_path)
    assert done.returncode == 2 and "item 0 has another answer in s.json" in done.stderr


def test_a_list_that_is_not_json_is_named(tmp_path):
    (tmp_path / "r.json").write_text('[\n{"id": 1},\n{"id": }\n]')
    done = run("r.json", cwd=tmp_path)
    assert done.returncode == 2 and "r.json line 3: not JSON" in done.stderr
