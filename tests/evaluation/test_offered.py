import pytest

from evaluation.offered import CONTRADICTION, Offered, right_choices, without_labels


@pytest.mark.parametrize(
    ("choices", "bare"),
    [
        (["(A) dog", "(B) cat"], ["dog", "cat"]),
        (["A. dog", "B: cat", "C) U.S. dog"], ["dog", "cat", "U.S. dog"]),
        (["(A) dog", None, "(C) cat"], ["dog", None, "cat"]),
        (["E. coli", "B. subtilis", "C. elegans"], None),  # not their letters
        (["a dog", "b cat", "C. elegans"], None),
        (["(B) dog", "(A) cat"], None),
        (["A.", "B."], None),
        ([], None),
    ],
)
def test_labels_are_dropped_where_all_choices_bring_their_own(choices, bare):
    assert without_labels(choices) == (choices if bare is None else bare)


@pytest.mark.parametrize(
    ("answer", "choices", "right"),
    [
        ("dog", ["cat", "dog"], {1}),
        ("dog", ["dog", "Dog.", "cat"], {0, 1}),  # reads the same
        ("Dog ", ["Dog", "Cat"], {0}),
        ("(A) Dog", ["Dog", "Cat"], {0}),
        ("Dog", ["(A) Dog", "(B) Cat"], {0}),
        ("dog_barking", ["Dog barking", "Cat"], {0}),
        ("yes!", ["yes!", "yes?"], {0}),
        ("10", ["10%", "10"], {1}),
        ("-5 dB", ["\u22125 dB", "5 dB"], {0}),
        (1, [1, 2, None], {0}),
        ("cow", ["Dog", None, "Cat"], set()),
        (None, ["Dog", None], set()),
    ],
)
def test_right_choices(answer, choices, right):
    assert right_choices(answer, choices) == right


@pytest.mark.parametrize(
    ("choices", "alike", "rows"),
    [
        (["Dog", "dog.", "Cat"], [0, 0, 2], {0: ["dog"], 2: ["cat"]}),
        (["(A) a dog", None, "(C) the cat"], [0, 1, 2], {0: ["dog"], 2: ["cat"]}),
        (["A minor", "C minor"], [0, 1], {0: ["a", "minor"], 1: ["c", "minor"]}),  # a key, no article
        (["A minor", "a major road"], [0, 1], {0: ["minor"], 1: ["major", "road"]}),
        (["In a kitchen", "On a beach"], [0, 1], {0: ["kitchen"], 1: ["beach"]}),
        (["To ask", "To apologise"], [0, 1], {0: ["ask"], 1: ["apologize"]}),
        (["In a car", "On a car"], [0, 1], {0: ["in", "car"], 1: ["on", "car"]}),
        (["In a car", "At home", "Asleep"], [0, 1, 2], {0: ["in", "car"], 1: ["at", "home"], 2: ["asleep"]}),
    ],
)
def test_words_of_the_choices(choices, alike, rows):
    offered = Offered.of(choices)
    assert (offered.alike, offered.rows) == (alike, rows)


def test_a_choice_that_is_the_whole_answer():
    offered = Offered.of(["Hip hop", "Jazz", "jazz", None])
    whole = [offered.whole(text) for text in ("hip hop", "Hiphop", "B", "C jazz", "D", "blues", "")]
    assert whole == [0, 0, 1, 2, None, None, None]
    assert Offered.of(["B", "A"]).whole("B") == CONTRADICTION
    signed = Offered.of(["-5 dB", "5 dB"])  # the same words: marks and labels tell
    whole = [signed.whole(text) for text in ("(-5 dB)", "A. -5 dB", "A 5 dB", "B 5 dB", "A", "A. 4 dB")]
    assert whole == [None, None, CONTRADICTION, CONTRADICTION, 0, None]
    assert offered.verbatim(" jazz\n") == 1 and offered.verbatim("jazz!") is None


def test_capitals_within_words_tell_choices_apart():
    """As in questions about which word is stressed."""
    stressed = ["I NEVER said it", "I never SAID it", "I never said it."]
    offered = Offered.of(stressed)
    assert offered.alike == [0, 1, 2] and right_choices("I never SAID it", stressed) == {1}
    said = ("I never SAID it", "i NEVER said it", "I never said it", "I never said IT", "I", "")
    assert [offered.verbatim(text) for text in said] == [1, 0, 2, None, None, None]
    assert Offered.of(["Dog", "dog", None]).verbatim("DOG") == 0 and Offered.of(["a", None]).verbatim("none") is None
