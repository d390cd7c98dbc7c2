import pytest

from evaluation.discourse import (
    after_question,
    after_second_thoughts,
    without_emphasis,
    without_guesses,
    without_reasons,
)


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("A. No wait, B.", ["B."]), ("A. Actually, B. I mean C", ["C", "B. I mean C"]),
        ("Actually B", []), ("A", []),
        ("A, or rather B", ["B"]), ("I change my answer to D", []),
        ("A. I change my answer to D", ["D"]), ("Hail. No, wind.", ["wind."]),
    ],
)  # fmt: skip
def test_second_thoughts(text, after):
    assert list(after_second_thoughts(text)) == after


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("B because the dog barks. Sure", "B . Sure"), ("Because it rattles, C.", " C."),
        ("B\nExplanation: no cat", "B\n"),
        ("Reasoning: soft drops. Answer: B", "Reasoning: soft drops. Answer: B"),
        ("B as it is loud", "B "), ("as loud as C", "as loud as C"),
        ("Because it barks", "Because it barks"),
    ],
)  # fmt: skip
def test_reasons(text, kept):
    assert without_reasons(text) == kept


def test_questions_and_emphasis():
    assert after_question("A or B? B") == " B" and after_question("B?") == ""
    assert without_emphasis("Without a doubt B") == "B" and without_emphasis("It is B, is not it?") == "It is B ?"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("It could be A, but I say B", "It   I say B"),
        ("It could be A, but it might be B", "It could be A, but it might be B"),
        ("A, but B is close", "A, but B is close"),
    ],
)
def test_guesses(text, kept):
    assert without_guesses(text) == kept
