"""The official column against the benchmarks' own scorers, item by item.

tests/data/official_verdicts.json holds what those said of the items of tests/generated_answers.py, one character an
item, and which commits they are of; how the characters read stands with each test.
"""

import json
from pathlib import Path

import pytest

from evaluation.benchmarks import MMAR, MMAU, MMSU
from evaluation.scoring import judge
from tests import generated_answers
from voicebench.bbh import judge_bbh
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
    found = ""
    for subtask, answer in answers:
        expected = {"y": "yes", "n": "no", "a": "(A)", "b": "(B)"}
        chances = {
            key: judge_bbh({"id": f"{subtask}_1", "reference": reference}, answer)["official"]
            for key, reference in expected.items() if (key in "ab") == (subtask == "hyperbaton")
        }  # fmt: skip
        found += "-" if set(chances.values()) == {0.5} else max(chances, key=chances.get)
        assert sum(chances.values()) == 1
    assert found == VERDICTS[kind]


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
    items = [item | {"modality": "sound", "category": "c"} for item in generated_answers.mmau()]
    assert "".join("01"[judge(benchmark, "", item).official] for item in items) == VERDICTS["mmau"]
