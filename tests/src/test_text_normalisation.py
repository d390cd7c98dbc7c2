import unicodedata

import pytest

from src.text_normalisation import BASIC, ENGLISH, UNSPACED, normalisation_for, normalisation_of


def test_english_forgives_case_punctuation_fillers_and_british_spelling():
    assert ENGLISH("um, MISTER Smith came!") == ENGLISH("Mr. Smith came") == "mister smith came"
    assert ENGLISH("Uh, hmm,") == ""
    british = "the colour of the grey theatre, travelling to the aluminium centre"
    assert ENGLISH(british) == "the color of the gray theater traveling to the aluminum center"
    assert ENGLISH("twenty one pounds") == "£21"


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("Schön, ist ES!", "schön ist es"),
        ("Il a été [rires] à l'hôtel (bruit).", "il a été à l hôtel"),
        ("Ёлка, йод…", "ёлка йод"),
        ("नमस्ते, दुनिया!", "नमस्ते दुनिया"),  # vowel signs and the virama are marks
        ("مَرْحَبًا", "مَرْحَبًا"),
        ("İstanbul'da", "istanbul da"),
        ("안녕하세요, 세계", "안녕하세요 세계"),
        ("naïve \U0001f44d\ufe0f \u200bso", "naïve so"),  # an emoji's selector, a space of no width
        ("um dia", "um dia"),  # a filler in English alone
    ],
)
def test_other_languages_keep_their_marks(text, normalised):
    for form in ("NFC", "NFD", "NFKC"):
        assert BASIC(unicodedata.normalize(form, text)) == normalised


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("学校が、がっかり。", "学校ががっかり"),
        ("ｶﾞｯｺｳ か゛", "ガッコウが"),  # half width, and a mark behind its letter
        ("你 好 ， 世界", "你好世界"),
        ("สวัสดี ชาวโลก", "สวัสดีชาวโลก"),
        ("これは the cat です", "これはthe catです"),  # a space between words of another script says something
    ],
)
def test_scripts_without_spaces_lose_them_and_keep_their_marks(text, normalised):
    assert UNSPACED(text) == UNSPACED(unicodedata.normalize("NFD", text)) == normalised


ENGLISH_TEXT = ["THE BROWN CAT TAKES FOUR CUPS", "she said that the café was closed"]
INDONESIAN = (
    "selamat pagi dunia saya akan pergi ke pasar untuk membeli ikan segar dan sayur hari ini bersama ibu serta adik"
)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (ENGLISH_TEXT, ENGLISH),
        (["red green blue black"] * 9, ENGLISH),
        (["42", ""], ENGLISH),
        ([], ENGLISH),
        (["the colour of 日本"] * 9 + ENGLISH_TEXT * 30, ENGLISH),
        (["schön ist es", "er ist schon da"], BASIC),
        (["l'été à Paris"], BASIC),
        ([INDONESIAN], BASIC),
        (["Привет, мир"], BASIC),
        (["안녕하세요 세계"], BASIC),
        (["नमस्ते दुनिया"], BASIC),
        (["学校ががっかり"], UNSPACED),
        (["你好"], UNSPACED),
        (["สวัสดีชาวโลก"], UNSPACED),
        (["ｶﾞｯｺｳ"], UNSPACED),
        (["the cat", "猫がいる"], UNSPACED),
    ],
)
def test_the_texts_tell_their_language(texts, expected):
    assert normalisation_of(texts) is expected


def test_a_code_tells_the_language():
    assert [normalisation_for(code) for code in ("en", "de", "ja", "zh", "ko")] == [
        *(ENGLISH, BASIC, UNSPACED, UNSPACED, BASIC)
    ]
