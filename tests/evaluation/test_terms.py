import pytest

from evaluation.terms import clean, find_row, terms_of, without_articles, words_of


@pytest.mark.parametrize(
    "texts",
    [
        ("dog_barking", "Dog-barking", "dog barking", "ｄｏｇ　ｂａｒｋｉｎｇ"),
        ("It isn't raining", "It is not raining", "it’s not raining"),
        ("He can't", "he cannot", "He can not"),
        ("apologise", "Apologize"),
        ("travelling", "traveling"),
        ("the grey colour of the theatre", "the gray color of the theater"),
        ("twenty-one", "21", "twenty one"),
        ("three", "3"),
        ("the second", "the 2nd"),
        ("1,000", "1000"),
        ("10%", "10 percent", "ten per cent"),
        ("C sharp minor", "C# minor", "C♯ minor"),
        ("B flat", "B♭", "Bb"),
        ("R&B", "R and B"),
        ("São Paulo", "sao paulo"),
        ("**B**", "B.", "<b>B</b>", "$B$", "「B」", "Ｂ。", "\\text{B}"),
        ("\\boxed{B}", "Final answer: B"),
        ("<think>A?</think> B", "B"),
    ],
)
def test_what_reads_the_same_has_the_same_words(texts):
    assert len({tuple(words_of(text)) for text in texts}) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's 2.5 kHz, at 16:30!", ["it", "is", "2.5", "khz", "at", "16:30"]),
        ("the right one is B", ["the", "right", "one", "is", "b"]),  # counts nothing
        ("犬ではない", ["犬", "で", "は", "な", "い"]),
        ("Bです", ["b", "で", "す"]),
        ("C minor, C# minor", ["c", "minor", "c#", "minor"]),
        ("the dog's bark", ["the", "dog", "bark"]),
        ("", []),
        (None, ["none"]),
    ],
)
def test_words(text, words):
    assert words_of(text) == words


def test_a_minus_is_a_hyphen_before_a_number():
    said = ("-5 dB", "\u22125 dB", "Minus 5 dB", "minus five", "10 minus 5", "a minus and a plus")
    assert [clean(text) for text in said] == ["-5 dB"] * 3 + ["-five", "10 minus 5", "a minus and a plus"]


def test_terms_know_where_they_stand():
    text = clean("Twenty-one dogs, isn't it?")
    assert [text[term.start : term.end] for term in terms_of(text)] == ["Twenty-one", "dogs", "is", "not", "it"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The cat and a dog", ["cat", "and", "dog"]),
        ("A dog", ["dog"]),
        ("Vitamin A", ["vitamin", "a"]),
        ("Vitamin A pills", ["vitamin", "a", "pills"]),  # a capital inside a sentence
        ("the", ["the"]),
    ],
)
def test_articles(text, words):
    assert [term.word for term in without_articles(text, terms_of(text))] == words


def test_rows():
    assert find_row(["b", "c"], ["a", "b", "c", "b", "c"]) == 1
    assert find_row(["b", "c"], ["a", "b", "c", "b", "c"], 2) == 3
    assert find_row(["c", "b", "c", "d"], ["c", "b"]) is None
