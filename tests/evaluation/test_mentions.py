import pytest

from evaluation.mentions import ANNOUNCED, FINAL, GIVEN, PASSING, find_mentions, most_plain
from evaluation.offered import Offered
from evaluation.terms import clean

OFFERED = Offered.of(["thunder", "light rain", "rain", "wind"])


def found(text):
    return find_mentions(clean(text), OFFERED)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("A light rain falls", [(1, PASSING)]),  # not rain, which is inside
        ("Light rain.", [(1, GIVEN)]),
        ("It is rain", [(2, GIVEN)]),
        ("C", [(2, GIVEN)]),
        ("C is correct", [(2, ANNOUNCED)]),
        ("The answer is wind", [(3, ANNOUNCED)]),
        ("Final answer: D", [(3, FINAL)]),
        ("Final answer: D. wind", [(3, FINAL), (3, FINAL)]),  # the text is said as plainly as its label
        ("D has wind in it", [(3, GIVEN), (3, PASSING)]),
        ("Vitamin C", []),
    ],
)
def test_how_plainly_a_choice_is_named(text, named):
    assert [(mention.index, mention.level) for mention in found(text)] == named


@pytest.mark.parametrize(
    ("text", "denied"),
    [
        ("not thunder", [True]),
        ("I don't think it is thunder", [True]),
        ("thunder rather than wind", [False, True]),
        ("Wind, not just rain", [False, True]),
        ("thunder is wrong", [True]),
        ("A can be ruled out", [True]),
        ("thunder, rain and wind are absent", [True, True, True]),
        ("neither thunder nor wind", [True, True]),
        ("thunder, rain, wind is absent", [False, False, True]),  # no row without "and"
        ("Not loud, thunder", [False]),  # in another clause
        ("windではない", [True]),
        ("没有wind", [True]),
    ],
)
def test_what_is_dismissed(text, denied):
    assert [mention.denied for mention in found(text)] == denied


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("Thunder comes up, the answer is wind", 3),
        ("Thunder and wind", None),
        ("It is thunder or wind", None),
        ("It could be thunder or wind", None),
        ("A. The answer is D", None),
        ("A. thunder B. light rain C. rain D. wind. The answer is D", 3),  # the choices are repeated first
        ("A is tempting, but the answer is D", 3),
        ("A. Final answer: D", 3),
        ("not thunder but wind", 3),
    ],
)
def test_the_one_that_is_named_most_plainly(text, index):
    assert most_plain(clean(text), found(text), OFFERED.alike) == index


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("10 seconds", 1), ("it takes 10 seconds", 1), ("at least 10 seconds", 1), ("over 10 seconds", 0),
        ("between 5 and 10 seconds", 0), ("between 5 seconds and 10 seconds", 0), ("5-10 seconds", 0),
        ("5 to 10 seconds", 0), ("10 seconds or more", 0), ("10 or 20 seconds", 0),
    ],
)  # fmt: skip
def test_a_number_that_bounds_a_range_names_nothing(text, named):
    assert len(find_mentions(clean(text), Offered.of(["5 seconds", "10 seconds", "20 seconds"]))) == named
