import time

import pytest

from evaluation.choices import parse_choice


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
        ("B", ["B", "A"], None),  # by its label the second one, by its text the first
        ("B", ["A", "B"], 1),
        ("Yes", ["Yes", "No"], 0),
        ("No, it is not.", ["Yes", "No"], 1),
        ("yes!", ["yes!", "yes?"], 0),
        ("yes", ["yes!", "yes?"], None),
        ("The correct answer is 5 dB.", ["-5 dB", "5 dB", "0 dB"], 1),
        ("The correct answer is -5 dB.", ["5 dB", "-5 dB", "0 dB"], 1),
        ("Answer: >5.", ["<5", ">5", "5 dB"], 1),
        ("The answer is 2", ["+2", "-2", "0"], None),  # which of the two?
        ("The speaker says You're coming.", ["You're coming?", "You're coming."], 1),
        ("The speaker says You're coming", ["You're coming?", "You're coming."], None),
        ("The answer is I never SAID it", ["I NEVER said it", "I never SAID it"], 1),
        ("The answer is i never said it", ["I NEVER said it", "I never SAID it"], None),
        ("kitchen", ["In a kitchen", "On a beach"], 0),
        ("kitchen", ["In a kitchen", "On a kitchen"], None),
        ("It could be x, but I would say y", ["x", "y"], 1),
        ("It could be x, but it might be y", ["x", "y"], None),
        ("C", ["x", "y", None], None),
        ("E", ["v", "w", "x", "y", "z"], 4),
        ("option b or option c", ["x", "y", "z"], None),
        ("Instead of A, it is B", ["x", "y"], 1),
        ("A isn't right, C is", ["x", "y", "z"], 2),
        ("A is plausible, yet the answer is C", ["x", "y", "z"], 2),
        ("A. The answer is C", ["x", "y", "z"], None),
        ("One could think of B. The answer is C", ["x", "y", "z"], 2),
        ("The answer is A or B", ["x", "y"], None),
        ("The answer is C because the woman laughs", ["man", "woman", "child"], 2),
        ("Piano", ["Piano", "Violin", "piano"], 0),  # of those that read the same the first
        ("C", ["Piano", "Violin", "piano"], 2),
        ("C. Piano", ["Piano", "Violin", "piano"], 2),
        ("D. a whistle", ["a bell", "a whistle", None, None], None),
        ("anything", [], None),
    ],
)
def test_parse_choice(response, choices, index):
    assert parse_choice(response, choices) == index


SIGNED, STRESSED = ["-5 dB", "5 dB", "0 dB"], ["I NEVER said it", "I never SAID it", "no idea"]


@pytest.mark.parametrize(
    ("response", "choices", "index"),
    [
        ("**-5 dB**", SIGNED, 0),
        ("(-5 dB)", SIGNED, 0),
        ("**5 dB**", SIGNED, 1),
        ("-5 dB!", SIGNED, 0),
        ("- 5 dB", SIGNED, None),  # a minus, or a bullet
        ("It is minus 5 dB", SIGNED, 0),
        ("It is minus five dB", SIGNED, None),
        ("It is minus five degrees", ["minus five degrees", "five degrees"], 0),
        ("It is minus 5 degrees", ["minus five degrees", "five degrees"], None),
        ("The answer is B. 5 dB", SIGNED, 1),
        ("The answer is A. 5 dB", SIGNED, None),
        ("A. -5 dB", SIGNED, 0),
        ("A. 5 dB", SIGNED, None),
        ("A 5 dB", SIGNED, None),
        ("B: -5 dB", SIGNED, None),
        ("The answer is B, 5 DB", SIGNED, 1),
        ("The answer is -5 dB", ["\u22125 dB", "5 dB"], 0),
        ("The answer is \u22125 dB", ["5 dB", "-5 dB"], 1),
        ("The answer is -5 dB", ["(A) -5 dB", "(B) 5 dB"], 0),
        ("**5 dB**", ["(A) -5 dB", "(B) 5 dB"], 1),
        ("**I never SAID it**", STRESSED, 1),
        ('"I NEVER said it"', STRESSED, 0),
        ("- I never SAID it!", STRESSED, 1),
        ("The answer is A. I never said it", STRESSED, 0),
        ("The answer is B, I never said it.", STRESSED, 1),
        ("B. I never said it", STRESSED, 1),
        ("The answer is C. I never said it", STRESSED, None),
        ("Not A. I never said it", STRESSED, None),
        ("A or B? I never said it", STRESSED, None),
        ("B is tempting. The answer is i never said it", STRESSED, None),
        ("I choose PLan A", ["PLAN A", "plan A"], None),
        ("The answer is yes?", ["Yes.", "Yes?"], None),
        ("The answer is: Yes?", ["Yes.", "Yes?"], 1),
        ("**Yes.**", ["Yes.", "Yes?"], 0),
    ],
)
def test_choices_with_the_same_words_are_told_apart_by_marks_or_by_labels(response, choices, index):
    assert parse_choice(response, choices) == index


@pytest.mark.parametrize("piece", ["A and ", "a ", "not A or B ", "wait, no ", "could be x, but ", "G D C "])
def test_the_time_grows_with_the_length_of_an_answer_and_no_faster(piece):
    def seconds(count):
        started = time.process_time()
        parse_choice(piece * count, ["x", "y", "A minor", "the x"])
        return time.process_time() - started

    seconds(10)  # what is compiled at first use
    assert seconds(1000) < 15 * max(seconds(200), 0.02)
