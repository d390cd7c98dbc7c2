import pytest

from evaluation.labels import find_labels
from evaluation.terms import clean

CHOICES = ["thunder", "rain", "hail", "wind"]


def found(text, choices=CHOICES):
    return "".join("ABCDEFGH"[label.place] for label in find_labels(clean(text), choices))


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("B", "B"), ("(b)", "B"), ("b.", "B"), ("option b", "B"), ("The answer is D", "D"),
        ("so C.", "C"), ("A B", "AB"),
        ("A, B and C are wrong, so D", "ABCD"), ("B is right", "B"), ("I'd go with A here", "A"),
        ("B\n\nBecause", "B"),
        ("Bです", "B"), ("答案是C。", "C"), ("B) rain", "B"), ("the sounds B) rain C) hail", "BC"),
        ("points to D", "D"),
        # letters that are none
        ("Vitamin B", ""), ("Plan A", ""), ("C'est un chat", ""), ("D minor", ""), ("C# and B♭", ""),
        ("a cat", ""),
        ("A man speaks", ""), ("Lyndon B. Johnson", ""), ("Washington D.C.", ""), ("Ph.D.", ""),
        ("Mr. B speaks", ""),
        ("G, D, E, C", ""), ("C - G - Am", ""), ("from point A to point B", ""),
        ("the letter B is spoken", ""), ("N/A", ""),
        ("A is for apple", ""), ("E", ""), ("维生素B", ""), ("B型", ""), ("I have a feeling", ""), ("A-D", ""),
    ],
)  # fmt: skip
def test_letters(text, letters):
    assert found(text) == letters


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("the second option", "B"), ("The third choice.", "C"), ("option 4", "D"), ("Option two", "B"),
        ("the last one", "D"), ("C, final answer", "C"), ("number two", "B"), ("number two bus", ""),
        ("the first or the second option", "AB"), ("I choose the first", "A"), ("2番目です", "B"), ("第三个选项", "C"),
        ("두 번째", "B"), ("the fifth option", "E"),
        ("the second speaker", ""), ("the first one to speak", ""), ("at first", ""), ("2番目の人", ""),
        ("第二个人", ""),
    ],
)  # fmt: skip
def test_ordinals(text, letters):
    assert found(text) == letters


def test_what_depends_on_the_choices():
    assert found("the latter", ["a", "b", None]) == "B" and found("the latter") == "E"  # of two
    assert found("G", ["G", "D"]) == "G"  # no label, but a choice of one letter
    assert found("the last one", ["x", "y", None, None]) == "B"
    assert found("number 3", ["2", "3", "4"]) == ""  # a text, not the third choice
