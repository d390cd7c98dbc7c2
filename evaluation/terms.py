"""The words of an answer in one spelling, so that texts which read the same are the same.

Case, width, accents, underscores, hyphens, contractions ("isn't", "is not"), British and American spelling, numbers as
words or digits, and notes ("C sharp", "C#") make no difference. A character of Chinese, Japanese or Korean is a word of
its own, since these are written without spaces.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

MAX_LEAD = 300  # letters before a word that are looked at
CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_MARKS = str.maketrans("’‘“”「」『』–—―−→、・♯", '\'\'""""""---- , #') | {ord("。"): ". "}
_MARKUP = re.compile(r"<\|[^|>]*\|>|</?[a-zA-Z_]+>|\\(?:text|textbf|mathbf|mathrm)\b|[*_`{}$]|\\[()\[\]]")
_THOUGHTS = re.compile(r"^.*</think>", re.DOTALL)
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")
_CONTRACTIONS = [
    (re.compile(pattern, re.IGNORECASE), long)
    for pattern, long in (
        (r"\bcan(?:'t|not)\b", "can not"),
        (r"\bwon't\b", "will not"),
        (r"\bshan't\b", "shall not"),
        (r"\bain't\b", "is not"),
        (r"n't\b", " not"),
        (r"\b(it|that|there|this|he|she|what|here|answer)'s\b", r"\1 is"),
        (r"\b(i|you|we|they)'d\b", r"\1 would"),
        (r"'ll\b", " will"),
        (r"'re\b", " are"),
        (r"'ve\b", " have"),
        (r"\bi'm\b", "i am"),
    )
]
_WORD = re.compile(rf"\d+(?:[.,:]\d+)+|[{CJK}]|[^\W_{CJK}]+(?:'[^\W_{CJK}]+)*[#♭]?|[&%]")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+")
_FLAT = re.compile(r"[A-G]b")
_TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
_NUMBERS = {word: str(value) for word, value in _TENS.items()} | {
    word: str(value)
    for value, word in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
         "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
    )
} | {
    "first": "1st", "second": "2nd", "third": "3rd", "fourth": "4th", "fifth": "5th", "sixth": "6th", "seventh": "7th",
    "eighth": "8th", "ninth": "9th", "tenth": "10th",
}  # fmt: skip
_MINUS = re.compile(  # "minus 5", "minus five"; not "10 minus 5"
    rf"(?<!\d )\bminus (?=\d|(?:{'|'.join(word for word, value in _NUMBERS.items() if value.isdigit())})\b)",
    re.IGNORECASE,
)
_COUNTS_NOTHING = {  # "one" behind these: "the right one is B"
    "the", "this", "that", "which", "each", "every", "any", "no", "some", "other", "another", "correct", "right",
    "wrong", "last", "good", "best",
}  # fmt: skip
# British to American, by ending. Other words that an ending takes along change alike in all texts.
_SPELLINGS = [
    (re.compile(pattern), american)
    for pattern, american in (
        (r"^practis", "practic"),
        (r"(?<=[a-z]{3})is(e[srd]?|ers?|ing|ations?)$", r"iz\1"),
        (r"(?<=[a-z]{3})ys(e[srd]?|ing)$", r"yz\1"),
        (r"(?<=[a-z]{2})our(s|ed|ing|ful|less|able|ites?|hoods?|al)?$", r"or\1"),
        (r"^(cent|theat|fib|lit|met|calib|somb|lust|spect|[a-z]{4,5}met)re(s?)$", r"\1er\2"),
        (
            r"^(travel|cancel|model|signal|label|level|marvel|quarrel|fuel|dial|jewel|channel|tunnel|total)"
            r"l(ed|ing|ers?|ery)$",
            r"\1\2",
        ),
        (r"(?<=[a-z]{3})ogue(s?)$", r"og\1"),
        (r"(?<=[a-z]{2})ence$", "ense"),
        (r"^grey", "gray"),
        (r"^(alumin)ium$", r"\1um"),
        (r"^aeroplane", "airplane"),
        (r"^mum(s?)$", r"mom\1"),
        (r"^pyjamas$", "pajamas"),
        (r"^tyre", "tire"),
        (r"^cheque", "check"),
        (r"^programme(s?)$", r"program\1"),
        (r"^moustache", "mustache"),
        (r"^sceptic", "skeptic"),
        (r"^judgement", "judgment"),
        (r"^doughnut", "donut"),
        (r"^storey(s?)$", r"story\1"),
        (r"^okay$", "ok"),
    )
]


def any_of(*patterns: str) -> str:
    """A regular expression for any of `patterns`, the first that fits."""
    return f"(?:{'|'.join(patterns)})"


@dataclass(frozen=True)
class Term:
    """A word in its one spelling, and where it stands in the cleaned text."""

    word: str
    start: int
    end: int


def clean(text: object) -> str:
    """`text` without markup and thoughts, with ASCII's marks, "-" for "minus", contractions spelt out.

    "\\boxed{}" is a final answer.
    """
    text = unicodedata.normalize("NFKC", _THOUGHTS.sub("", str(text)).replace("_", " ")).translate(_MARKS)
    text = _MARKUP.sub(" ", _BOXED.sub(" Final answer: ", text))
    text = re.sub(rf"(?<=[{CJK}])(?=[A-Za-z0-9])|(?<=[A-Za-z0-9])(?=[{CJK}])", " ", text)
    text = _MINUS.sub("-", text)
    for contraction, long in _CONTRACTIONS:
        text = contraction.sub(long, text)
    return text.strip()


def terms_of(cleaned: str) -> list[Term]:
    """The words of a cleaned text, each in its one spelling."""
    found: list[Term] = []
    for match in _WORD.finditer(cleaned):
        before = found[-1] if found else None
        word = _spelling(match[0], before.word if before else "")
        if word in ("%", "percent") or (word == "cent" and before and before.word == "per"):
            if word == "cent":
                found.pop()
        elif before and _is_one(
            cleaned[before.start : before.end], before.word, cleaned[before.end : match.start()], word
        ):
            found[-1] = Term(_joined(before.word, word), before.start, match.end())
        else:
            found.append(Term(word, match.start(), match.end()))
    return found


def words_of(text: object) -> list[str]:
    """The words of any text, each in its one spelling."""
    return [term.word for term in terms_of(clean(text))]


def without_articles(cleaned: str, terms: Sequence[Term]) -> list[Term]:
    """The words but for articles: "a", "an", "the" before a word; a capital "A" only where a sentence begins."""
    kept = []
    for term in terms:
        if term.word not in ("a", "an", "the") or term is terms[-1]:
            kept.append(term)
        elif cleaned[term.start : term.end] == "A":
            before = lead_of(cleaned, term.start).rstrip(" \t\"'")
            if before and before[-1] not in ".;:!?\n":
                kept.append(term)
    return kept


def lead_of(text: str, place: int) -> str:
    """What stands before a place, as far as rules look back, so that time grows with an answer's length alone."""
    return text[max(0, place - MAX_LEAD) : place]


def find_row(wanted: Sequence[str], said: Sequence[str], start: int = 0) -> int | None:
    """Where the words `wanted` first stand in a row in `said`, from place `start` on; None where they do not."""
    for place in range(start, len(said) - len(wanted) + 1):
        if list(said[place : place + len(wanted)]) == list(wanted):
            return place
    return None


def _spelling(word: str, before: str) -> str:
    if _FLAT.fullmatch(word):
        return word[0].lower() + "♭"
    if word == "&":
        return "and"
    if _THOUSANDS.fullmatch(word):
        return word.replace(",", "")
    word = word.casefold().removesuffix("'s")
    if word.isascii() or not re.match(rf"[{CJK}]", word):
        word = "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c))
    if word == "one" and (before in _COUNTS_NOTHING or re.fullmatch(r"\d+(?:st|nd|rd|th)", before)):
        return word
    if word in _NUMBERS:
        return _NUMBERS[word]
    for british, american in _SPELLINGS:
        word = british.sub(american, word)
    return word


def _is_one(raw: str, before: str, between: str, word: str) -> bool:
    """Whether two words are one: twenty-one, C sharp."""
    if between.strip(" -"):
        return False
    if word in ("sharp", "flat"):
        return re.fullmatch("[a-g]", before) is not None
    return raw.casefold() in _TENS and word.isdigit() and len(word) == 1 and word != "0"


def _joined(before: str, word: str) -> str:
    return before + {"sharp": "#", "flat": "♭"}[word] if word in ("sharp", "flat") else str(int(before) + int(word))
