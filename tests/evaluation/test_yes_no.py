import pytest

from evaluation.yes_no import find_yes_no


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Yes", "yes"), ("no.", "no"), ("No, it is not", "no"), ("The answer is no", "no"),
        ("So, yes it is", "yes"), ("True", "true"), ("nope", "no"),
        ("No way.", "no"), ("no way to tell", ""), ("Yeah, it is", "yes"),
        ("Yes. No.", "yes no"), ("yes/no", "yes no"),
        ("I have no idea", ""), ("No idea", ""), ("nobody", ""), ("Yes and no", ""),
        ("It knows no bounds", ""), ("I can not say no", ""),
        ("no one came", ""), ("true love", ""),
    ],
)  # fmt: skip
def test_words_that_answer(text, said):
    assert " ".join(word for word, _, _ in find_yes_no(text)) == said
