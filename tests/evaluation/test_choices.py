import pytest

from evaluation.choices import parse_choice, without_labels, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's 2.5 kHz, at 16:30!", ["it's", "2.5", "khz", "at", "16:30"]),
        ("C# minor – B♭", ["c#", "minor", "b♭"]),
        ("don’t", ["don't"]),
        ("“Ｗｉｄｅ”", ["wide"]),
        ("", []),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


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


def test_a_choice_that_looks_labelled_is_taken_whole():
    choices = ["E. coli", "B. subtilis", "C. elegans"]
    assert [parse_choice(answer, choices) for answer in ("E. coli", "It is E. coli", "C. elegans")] == [0, 0, 2]


@pytest.mark.parametrize(
    ("response", "choices", "index"),
    [
        ("not happy", ["happy", "not happy"], 1),
        ("She is not happy", ["happy", "sad"], None),
        ("very happy", ["happy", "very happy"], 1),
        ("She sounds very happy", ["happy", "very happy"], 1),
        ("She sounds very happy", ["very happy", "happy"], 0),
        ("She sounds happy", ["happy", "very happy"], 0),
        ("She sounds very happy, not just happy", ["happy", "very happy"], 1),
        ("D minor", ["C major", "D minor", "C# minor"], 1),
        ("C# minor", ["C minor", "C# minor"], 1),
        ("It is in C minor", ["C minor", "C# minor"], 0),
        ("There are 2 speakers", ["1", "2", "3"], 1),
        ("2.5", ["2", "5", "2.5"], 2),
        ("12", ["1", "2"], None),
        ("Both A and C", ["x", "y", "z", "Both A and C"], 3),
        ("D. Both A and C", ["x", "y", "z", "Both A and C"], 3),
        ("B", ["B", "A"], 1),  # a bare letter is the label, whatever the options say
        ("Yes", ["Yes", "No"], 0),
        ("No, it is not.", ["Yes", "No"], 1),
        ("yes!", ["yes!", "yes?"], 0),
        ("yes", ["yes!", "yes?"], None),
        ("C", ["x", "y", None], None),
        ("E", ["v", "w", "x", "y", "z"], 4),
        ("option b or option c", ["x", "y", "z"], None),
        ("Instead of A, it is B", ["x", "y"], 1),
        ("A isn't right, C is", ["x", "y", "z"], 2),
        ("A is plausible, yet the answer is C", ["x", "y", "z"], None),
        ("One could think of B. The answer is C", ["x", "y", "z"], 2),
        ("The answer is A or B", ["x", "y"], None),
        ("The answer is C because the woman laughs", ["man", "woman", "child"], None),
        ("anything", [], None),
    ],
)
def test_parse_choice(response, choices, index):
    assert parse_choice(response, choices) == index
