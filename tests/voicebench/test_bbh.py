import json

import pytest

from voicebench.bbh import judge_bbh, official_answer, strict_answer
from voicebench.evaluate import main

ORDER = "Which sentence has the correct adjective order?\n(A) a wooden big table\n(B) a big wooden table"

# Labelled by hand: the subtask, the response, the answer by VoiceBench's phrases, the answer by the strict rule.
SPELLINGS = [
    ("sports_understanding", "Yes", "yes", "yes"),
    ("sports_understanding", "no.", "no", "no"),
    ("sports_understanding", "**No**", "no", "no"),
    ("sports_understanding", "Yes, it is plausible.", "yes", "yes"),
    ("sports_understanding", "The answer is yes.", "yes", "yes"),
    ("sports_understanding", "The answer is: No", "no", "no"),
    ("sports_understanding", "So the answer is no, because he plays football.", "no", "no"),
    ("sports_understanding", "The sentence is not plausible.", "no", "no"),
    ("sports_understanding", "The sentence is plausible.", None, "yes"),  # a plain statement is not on the list
    ("sports_understanding", "I would say that the sentence is plausible.", "yes", "yes"),
    ("sports_understanding", "It isn't plausible", None, "no"),
    ("sports_understanding", "This is implausible.", None, "no"),
    ("sports_understanding", "The answer is false", "no", "no"),
    ("sports_understanding", "The answer is \\boxed{\\text{yes}}", "yes", "yes"),
    ("sports_understanding", "It seems unlikely that he did.", "no", "no"),
    ("sports_understanding", "The sentence about golf is not plausible", "yes", "no"),  # a slip of the published list
    ("sports_understanding", "Nobody knows", "no", None),  # "no" at the beginning is enough there
    ("sports_understanding", "Yes and no", "yes", None),
    ("sports_understanding", "Yes. The answer is no.", "no", None),
    ("sports_understanding", "", None, None),
    ("sports_understanding", "Football is played by eleven people", None, None),
    ("navigate", "Yes", "yes", "yes"),
    ("navigate", "No, you do not.", "no", "no"),
    ("navigate", "You do not return to the starting point.", "no", "no"),
    ("navigate", "You return to the starting point.", "yes", "yes"),
    ("navigate", "You're not at the starting point", None, "no"),
    ("navigate", "You are back where you started.", None, "yes"),
    ("navigate", "You end up two steps to the left.", None, None),
    ("navigate", "Final answer: yes", "yes", "yes"),
    ("navigate", "Therefore, no", "no", "no"),
    ("navigate", 'The conclusion is "No".', "no", "no"),
    ("navigate", "<1> yes", "yes", "yes"),
    ("navigate", "They walk on, no<|user|>", "no", "no"),
    ("navigate", "They walk on, no<|user|>\n", None, "no"),  # white space counts there
    ("navigate", "The answer is not clear", "no", None),  # "answer is no" stands in it
    ("navigate", "Take one step. Take two steps. So yes.", "yes", "yes"),
    ("navigate", "North", "no", None),
    ("web_of_lies", "yes", "yes", "yes"),
    ("web_of_lies", "No, Kandi does not tell the truth.", "no", "no"),
    ("web_of_lies", "Kandi tells the truth.", "yes", "yes"),
    ("web_of_lies", "Kandi lies.", "no", "no"),
    ("web_of_lies", "Kandi is lying.", "no", "no"),
    ("web_of_lies", "So Kandi must be lying", "yes", "no"),  # a slip of the published list
    ("web_of_lies", "Kandi doesn't tell the truth.", None, "no"),
    ("web_of_lies", "Kandi says Fidel lies, so Kandi tells the truth.", "yes", None),
    ("web_of_lies", "The answer to the question is yes", "yes", "yes"),
    ("web_of_lies", "The answer is that Kandi lies", "no", "no"),
    ("web_of_lies", "No one tells the truth", "yes", "no"),
    ("web_of_lies", "I cannot tell", None, None),
    ("hyperbaton", "(A)", None, "(a)"),
    ("hyperbaton", "A", "(a)", "(a)"),
    ("hyperbaton", "B", "(a)", "(b)"),  # a slip of the published list
    ("hyperbaton", "B.", "(a)", "(b)"),
    ("hyperbaton", "B)", "(b)", "(b)"),
    ("hyperbaton", "The answer is (B).", "(b)", "(b)"),
    ("hyperbaton", "The answer is B", "(b)", "(b)"),
    ("hyperbaton", "The correct adjective order is option A.", "(a)", "(a)"),
    ("hyperbaton", "Option B has the correct order", "(b)", "(b)"),
    ("hyperbaton", "Option B is the correct one", "(b)", "(b)"),
    ("hyperbaton", "Option B", None, "(b)"),
    ("hyperbaton", "Option A is incorrect and option B is correct", "(b)", "(b)"),
    ("hyperbaton", "B, a big wooden table", "(b)", "(b)"),
    ("hyperbaton", "a big wooden table", "(a)", "(b)"),  # the article is taken for the letter
    ("hyperbaton", "The correct adjective order is in the second option", "(b)", "(b)"),
    ("hyperbaton", "The answer is any of them", "(a)", None),
    ("hyperbaton", "(A) or (B)", None, None),
    ("hyperbaton", "C", None, None),
    ("hyperbaton", "", None, None),
]


def test_fixture_is_large_enough():
    assert len({(subtask, response) for subtask, response, _, _ in SPELLINGS}) == len(SPELLINGS) >= 60


@pytest.mark.parametrize(("subtask", "response", "official", "strict"), SPELLINGS)
def test_spellings(subtask, response, official, strict):
    assert official_answer(subtask, response) == official
    assert strict_answer(subtask, response, ORDER) == strict
    for reference in ("(A)", "(B)") if subtask == "hyperbaton" else ("Yes", "no"):
        verdict = judge_bbh({"id": f"bbh_{subtask}_3", "reference": reference, "prompt": ORDER}, response)
        assert verdict["official"] == (0.5 if official is None else official == reference.lower())  # a coin is tossed
        assert verdict["undecided"] == (official is None)
        assert verdict["strict"] == (strict == reference.lower())
        assert verdict["first"] == (reference in ("(A)", "Yes")) and verdict["chance"] == 0.5


def test_scores_by_subtask(tmp_path):
    result = tmp_path / "diffa-bbh-test-audio.jsonl"
    records = [
        {"id": "navigate-0", "reference": "yes", "response": "Yes."},
        {"id": "navigate-1", "reference": "No", "response": "yes"},
        {"id": "hyperbaton-0", "reference": "(B)", "response": "B"},
        {"id": "web_of_lies-0", "reference": "no", "response": "", "error": "no audio"},
    ]
    result.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert main([str(result)]) == 0
    levels = json.loads(result.with_name(f"{result.name}.scores.json").read_text())["levels"]
    total = levels["total"]["total"]
    assert (total["n"], total["official"], total["strict"], total["errors"]) == (4, 0.25, 0.5, 1)
    assert (total["chance"], total["always_a"], total["unparsed"]) == (0.5, 0.25, 0.25)
    assert {name: score["strict"] for name, score in levels["subtask"].items()} == {
        "navigate": 0.5, "hyperbaton": 1.0, "web_of_lies": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"id": "causal-3", "reference": "yes"}, "id 'causal-3' names none of the subtasks sports_understanding"),
        ({"id": "navigate-3", "reference": "(A)"}, "reference '(A)' is not one of yes and no"),
        ({"reference": "yes"}, "item 1: no field 'id'"),
    ],
)
def test_unknown_subtasks_and_answers_are_named(tmp_path, capsys, record, message):
    result = tmp_path / "diffa-bbh-test-audio.jsonl"
    result.write_text(json.dumps(record | {"response": "yes"}))
    assert main([str(result)]) == 2
    assert message in capsys.readouterr().err
