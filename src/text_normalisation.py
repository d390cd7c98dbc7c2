"""Text normalisation before errors are counted: what makes no difference between two transcripts, by language.

Light imports only, for the scorers. english_spellings.json is OpenAI Whisper's table of British spellings
(whisper/normalizers/english.json, Copyright (c) 2022 OpenAI, MIT License), which comes with no package.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

SPELLINGS = Path(__file__).with_name("english_spellings.json")
UNSPACED_LANGUAGES = frozenset(("zh", "yue", "ja", "th", "lo", "km", "my", "bo", "dz"))  # ISO 639
UNSPACED_SCRIPTS = ("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
MAX_UNSPACED_SHARE = 0.1  # of the letters; words cannot be told apart where there are more of such scripts
MIN_ENGLISH_SHARE = 0.02  # of the words, in texts of many; English has ten times as many of those below
MANY_WORDS = 20  # different ones
# Frequent in English and rare in other languages that are written in these letters; numbers, for lists of commands.
ENGLISH_WORDS = """the and that with you his they this not but from which were she there have been would what who your
their them can these has had its how when could should one two three four five six seven eight nine ten zero"""
BRACKETED = re.compile(r"[<\[][^>\]]*[>\]]|\([^)]+?\)")
SPACING_MARKS = str.maketrans("゛゜", "\u3099\u309a")  # voicing marks of Japanese that stand behind their letter


@dataclass(frozen=True)
class Normalisation:
    """What is done to texts of a language before they are compared."""

    name: str
    about: str  # for people
    apply: Callable[[str], str]
    has_words: bool = True  # words are told apart by spaces; else errors are counted in characters alone

    def __call__(self, text: str) -> str:
        return self.apply(text)


def normalise_english(text: str) -> str:
    """Without case, punctuation, accents and fillers, numbers in digits, American spelling: Whisper's for English."""
    return english_normaliser()(text).strip()


@cache
def english_normaliser() -> EnglishTextNormalizer:
    return EnglishTextNormalizer(json.loads(SPELLINGS.read_text(encoding="utf-8")))


def normalise_basic(text: str) -> str:
    """Without case, punctuation and what stands in brackets: Whisper's for other languages, but that marks stay.

    Marks are what tells が from か, й from и and ü from u, and vowels in the scripts of India.
    """
    text = unicodedata.normalize("NFKC", text.translate(SPACING_MARKS)).lower().replace("i̇", "i")  # of the Turkish İ
    kept = ""
    for character in BRACKETED.sub("", text):
        category = unicodedata.category(character)
        if category == "Cf" or "\ufe00" <= character <= "\ufe0f" or (category[0] == "M" and kept[-1:].isspace()):
            continue  # invisible, or a mark on nothing
        kept += " " if category[0] in "SP" else character
    return unicodedata.normalize("NFC", " ".join(kept.split()))


def normalise_unspaced(text: str) -> str:
    """`normalise_basic`, without the spaces beside letters of a script that needs none."""
    text = normalise_basic(text)
    around = zip(text, f" {text}", f"{text[1:]} ", strict=False)  # each character, the one before it, the one behind it
    return "".join(c for c, before, behind in around if c != " " or not (is_unspaced(before) or is_unspaced(behind)))


ENGLISH = Normalisation("english", "Whisper's for English, with its spelling table", normalise_english)
BASIC = Normalisation("basic", "Whisper's basic one, marks kept", normalise_basic)
UNSPACED = Normalisation(
    "unspaced", "Whisper's basic one, marks kept, spaces dropped", normalise_unspaced, has_words=False
)


def normalisation_for(language: str) -> Normalisation:
    """By a language's code, ISO 639: en, de, ja, ..."""
    return ENGLISH if language == "en" else UNSPACED if language in UNSPACED_LANGUAGES else BASIC


def normalisation_of(texts: Iterable[str]) -> Normalisation:
    """By what the texts are, together.

    English is told by its frequent words, and other languages in its letters by accents or by the lack of such words;
    few words without either count as English.
    """
    words = Counter(word for text in texts for word in normalise_basic(text).split() if not word.isdecimal())
    unspaced = sum(count * sum(map(is_unspaced, word)) for word, count in words.items())
    if unspaced > MAX_UNSPACED_SHARE * sum(count * len(word) for word, count in words.items()):
        return UNSPACED
    known = {*ENGLISH_WORDS.split()} | english_normaliser().standardize_spellings.mapping.keys()
    english = sum(count for word, count in words.items() if word in known)
    foreign = sum(count for word, count in words.items() if not word.isascii())
    enough = len(words) < MANY_WORDS or english >= MIN_ENGLISH_SHARE * words.total()
    return ENGLISH if english >= foreign and enough else BASIC


@cache
def is_unspaced(letter: str) -> bool:
    return unicodedata.name(letter, "").startswith(UNSPACED_SCRIPTS)
