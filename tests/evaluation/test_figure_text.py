import pytest

from evaluation.figure_text import columns_of, width_of, wrap_name


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("base", ["base"]),
        ("one two three", ["one two", "three"]),
        ("lora-r64-lr2e-5", ["lora-r64-", "lr2e-5"]),
        ("abcdefghijklmnop", ["abcdefghij", "klmnop"]),
        ("日本語の実験", ["日本語の実", "験"]),
        ("日本語の(実験)", ["日本語の", "(実験)"]),  # a bracket stands before what it opens
        ("", [""]),
    ],
)
def test_names_are_broken_where_they_may_be(name, lines):
    assert wrap_name(name, 10).split("\n") == lines
    assert all(width_of(line) <= 10 for line in lines)


def test_columns_of_a_legend():
    assert columns_of(["a", "b"], 8) == 3 and columns_of(["x" * 34], 8) == 2 and columns_of(["x" * 90], 8) == 1
    assert columns_of([], 8) == 3
