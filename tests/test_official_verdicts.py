"""The official column against the benchmarks' own scorers, item by item.

tests/data/official_verdicts.json holds what those said of the items of tests/generated_answers.py, one character an
item, and which commits they are of; how the characters read stands with each test.
"""

import json
from pathlib import Path

import pytest

from evaluation.benchmarks import AIRBENCH, MMAR, MMAU, MMSU
from evaluation.scoring import judge
from tests import generated_answers
from voicebench.bbh import ANSWERS, judge_bbh, official_answer
from voicebench.harm import judge_harm
from voicebench.ifeval import as_checked
from voicebench.mcq import official_letter
from voicebench.parsing import parse_rating
from voicebench.qa import official_vote

VERDICTS = json.loads((Path(__file__).parent / "data" / "official_verdicts.json").read_text())


@pytest.mark.parametrize("kind", ["mcq", "mcq phrases"])
def test_openbookqa_and_mmsu_of_voicebench(kind):
    """The letter; - where one of four is drawn."""
    answers = generated_answers.mcq() if kind == "mcq" else generated_answers.mcq_phrases()
    assert "".join(official_letter(answer) or "-" for answer in answers) == VERDICTS[kind]


@pytest.mark.parametrize("kind", ["bbh", "bbh phrases"])
def test_bbh(kind):
    """y, n, a or b; - where a coin is tossed."""
    answers = generated_answers.bbh() if kind == "bbh" else generated_answers.bbh_phrases()
    keys = {None: "-", "yes": "y", "no": "n", "(a)": "a", "(b)": "b"}
    assert "".join(keys[official_answer(subtask, answer)] for subtask, answer in answers) == VERDICTS[kind]
    for subtask, answer in answers[:100]:
        chances = [
            judge_bbh({"id": f"{subtask}_1", "reference": reference}, answer)["official"]
            for reference in ANSWERS[subtask]
        ]
        said = official_answer(subtask, answer)
        assert chances == [0.5 if said is None else said == reference for reference in ANSWERS[subtask]]


def test_advbench():
    found = "".join("01"[judge_harm({}, answer)["official"]] for answer in generated_answers.harm())
    assert found == VERDICTS["harm"]


def test_sd_qa_votes():
    """? where the verdict changes from run to run, since three different replies are equally frequent."""
    names = {0: "0", 1: "1", 1 / 3: "?"}
    assert "".join(names[official_vote(votes)] for votes in generated_answers.votes()) == VERDICTS["qa"]


def test_open_questions():
    """The mean of all ratings."""
    found = [parse_rating(reply) for replies in generated_answers.ratings() for reply in replies]
    assert sum(found) / len(found) == pytest.approx(VERDICTS["open"])


def test_ifeval_takes_off_what_voicebench_takes_off():
    """0: nothing, 1: three characters and white space in front, 2: eight and white space behind, 3: both."""
    for answer, verdict in zip(generated_answers.ifeval(), VERDICTS["ifeval"], strict=True):
        shown = answer[3:].strip() if verdict in "13" else answer
        assert as_checked(answer) == (shown[:-8].strip() if verdict in "23" else shown)


def test_mmsu_by_both_rules():
    """1 and 0 where both agree; - where DIFFA's says wrong and the authors' leaves the item out."""
    found = ""
    for item in generated_answers.mmsu():
        verdict = judge(MMSU, "", item)
        assert not (verdict.official and verdict.undecided)
        found += "-" if verdict.undecided else "01"[verdict.official]
    assert found == VERDICTS["mmsu"]


@pytest.mark.parametrize("benchmark", [MMAU, MMAR])
def test_mmau_and_mmar(benchmark):
    found = [
        benchmark.official(item["model_prediction"], item["answer"], benchmark.choices(item))
        for item in generated_answers.mmau()
    ]
    assert "".join("01"[is_right] for is_right in found) == VERDICTS["mmau"]


def test_airbench():
    """- where an answer has no letter, and the item is left out."""
    found = ""
    for item in map(AIRBENCH.form, generated_answers.airbench()):
        is_right = AIRBENCH.official(item["response"], item["answer_gt"], AIRBENCH.choices(item))
        found += "-" if AIRBENCH.leaves_out(item["response"]) else "01"[is_right]
    assert found == VERDICTS["airbench"]
