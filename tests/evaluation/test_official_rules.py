import pytest

from evaluation.official_rules import asr_tokens, mmau_rule, mmsu_letter, mmsu_rule

CHOICES = ["cat", "bird sound", "a dog barking", None]


@pytest.mark.parametrize(
    ("response", "letter"),
    [("B", "B"), ("  C.\n", "C"), ("The answer is D.", "D"), ("The answer is D", None), ("Both", "B"), ("", None)],
)
def test_mmsu_reads_the_first_character_or_the_second_to_last(response, letter):
    assert mmsu_letter(response) == letter


def test_mmsu_compares_the_choices_text_with_the_answer():
    assert mmsu_rule("A", "cat", CHOICES) and not mmsu_rule("B", "cat", CHOICES) and not mmsu_rule("D", "cat", CHOICES)
    assert mmsu_rule("B", "cat", ["cat", "cat", None, None])


def test_mmau_compares_sets_of_words():
    assert mmau_rule("It is a Dog, barking.", "a dog barking", CHOICES)
    assert not mmau_rule("dog barking", "a dog barking", CHOICES)  # a word is missing
    assert not mmau_rule("a dog barking, no cat", "a dog barking", CHOICES)  # a wrong choice's word
    assert not mmau_rule("", "", CHOICES)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Hello world", ["HELLO", "WORLD"]),
        ("hello, world!", ["HELLO,", "WORLD!"]),  # where a word ends, marks stay
        ("hello , world ? !", ["HELLO", "WORLD"]),
        ("!hello ?what", ["HELLO", "WHAT"]),
        ("don't e.g. 3.5", ["DON'T", "E.G.", "3.5"]),
        ("<noise>hello <unk> you<br>re", ["HELLO", "YOURE"]),
        ("<not closed", ["CLOSED"]),
        ("\u4f60\u597d ok\u5417\uff1f", ["\u4f60", "\u597d", "OK", "\u5417"]),
        ("\u30ab\u30fc", ["\u30ab", "\u30fc"]),
        ("caf\u00e9s", ["CAF", "\u00c9S"]),  # a character that is not ASCII begins a token
        ("a\u3000b\tc\n", ["A", "B", "C"]),
        ("", []),
    ],
)
def test_asr_tokens_are_those_of_compute_wer(text, tokens):
    """As WeNet's tools/compute-wer.py with --char=1 splits them."""
    assert asr_tokens(text) == tokens
