import pytest

from voicebench.phrases import choosing, expand, first_verdict, saying


def test_alternatives_stand_in_order_the_last_ones_change_fastest():
    assert expand("<a|b> <c|>.") == ["a c.", "a .", "b c.", "b ."]
    assert expand("plain {text} (X)") == ["plain {text} (X)"]


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("say b, or it is a", "A"),  # the first phrase decides, wherever it stands
        ("it is b, it is a", "A"),  # within a phrase the first letter
        ("say b", "B"),
        ("it  is b", None),
        ("from here to there", "gap"),
        ("from to", None),  # at least one character in between
        ("from here\nto there", None),
        ("end\n", "end"),
        ("end", None),
    ],
)
def test_first_phrase_that_occurs_decides(text, verdict):
    letters = {"a": "A", "b": "B"}
    phrases = [*choosing(letters, "it is X", "say X"), *saying("gap", "from ... to"), *saying("end", "end\n")]
    assert first_verdict(text, phrases) == verdict
