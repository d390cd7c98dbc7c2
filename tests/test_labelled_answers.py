"""The strict rules against a person: tests/data/labelled_answers.jsonl, a line for each question with answers to it.

`reads` is what a person takes the answers for: a choice's letter, yes or no, refusal or other, whether the reference is
in there, a judge's vote or rating; null where they plainly say nothing, or two things. Those of the kind "afterwards"
were written when the rules stood; docs/benchmarks.md has the agreement before these rules saw them.
"""

import json
from collections import Counter
from pathlib import Path

import pytest

from bigbenchaudio.reading import strict_answer as big_bench_answer
from evaluation.choices import parse_choice
from voicebench.bbh import ANSWERS, strict_answer
from voicebench.harm import judge_harm
from voicebench.parsing import parse_rating, parse_vote
from voicebench.qa import contains_reference

FILE = Path(__file__).parent / "data" / "labelled_answers.jsonl"
QUESTIONS = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
MIN_AGREEMENT = 0.97


def read(question, answer):
    """What the strict rule takes the answer for."""
    rule = question["rule"]
    if rule == "choice":
        index = parse_choice(answer, question["choices"])
        return None if index is None else "ABCDEFGH"[index]
    if rule in ANSWERS:
        return strict_answer(rule, answer, question.get("prompt", ""))
    if rule in ("formal_fallacies", "object_counting"):
        return big_bench_answer(rule, answer)
    if rule == "advbench":
        return judge_harm({}, answer)["parsed"]
    if rule == "sd-qa":
        return contains_reference(question, answer)
    return parse_vote(answer) if rule == "vote" else parse_rating(answer)


@pytest.fixture(scope="module")
def compared():
    """(question, answer, what the strict rule reads) for every labelled answer."""
    return [(question, answer, read(question, answer)) for question in QUESTIONS for answer in question["answers"]]


def test_there_is_enough_and_nothing_twice(compared):
    asked = [
        (q["rule"], str(q.get("choices")), q.get("reference"), q.get("prompt"), answer) for q, answer, _ in compared
    ]
    assert len(set(asked)) == len(asked) >= 400
    assert {q["rule"] for q in QUESTIONS} == {
        "choice", *ANSWERS, "formal_fallacies", "object_counting", "advbench", "sd-qa", "vote", "rating",
    }  # fmt: skip


def test_strict_agrees_with_a_person(compared):
    total, wrong = Counter(q["rule"] for q, _, _ in compared), Counter()
    for question, answer, found in compared:
        if found != question["reads"]:
            wrong[question["rule"]] += 1
            print(
                f"{question['rule']} {question.get('choices', '')}: {answer!r} says {question['reads']}, read {found}"
            )
    for rule, n in total.items():
        print(f"{rule}: {n - wrong[rule]} of {n}")
    print(f"in all: {total.total() - wrong.total()} of {total.total()}")
    assert 1 - wrong.total() / total.total() >= MIN_AGREEMENT
    assert all(1 - wrong[rule] / n >= 0.9 for rule, n in total.items())


def test_nothing_is_read_where_nothing_is_said(compared):
    misread = [
        (answer, found) for question, answer, found in compared if question["reads"] is None and found is not None
    ]
    assert misread == []
