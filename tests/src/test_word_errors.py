import pytest

from src.word_errors import Edits, character_edits, total, word_edits


def test_edits_are_counted_by_kind():
    words = word_edits("the cat sat on the mat", "the bat sat the mat now")
    assert words == Edits(6, 1, 1, 1) and (words.errors, words.rate) == (3, 0.5)
    assert (character_edits("abc", "abd"), word_edits("abc", "abd")) == (Edits(3, 1, 0, 0), Edits(1, 1, 0, 0))


@pytest.mark.parametrize(("reference", "heard", "edits"), [("", "a b", (0, 0, 0, 2)), ("a b", "", (2, 0, 2, 0))])
def test_empty_texts(reference, heard, edits):
    assert word_edits(reference, heard) == Edits(*edits)


def test_totals():
    assert total([Edits(4, 1, 0, 0), Edits(2, 0, 1, 2)]) == Edits(6, 1, 1, 2)
    assert total([]).rate == 0
