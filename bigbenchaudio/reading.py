"""What a response to Big Bench Audio answers, the strict way: what is not plainly one answer is none.

The kinds of questions: formal_fallacies (valid or invalid), navigate and web_of_lies (yes or no, as in VoiceBench's
bbh) and object_counting (a number, in digits or words).
"""

import re

from evaluation.discourse import after_second_thoughts, without_emphasis
from evaluation.terms import clean, terms_of
from voicebench.bbh import strict_answer as yes_or_no

_NOT = r"\b(?:not|never|neither|nor|hardly)\b(?: \w+){0,3}? "
_INVALID = re.compile(rf"(?<!not )\b(?:invalid|fallacious)\b|{_NOT}valid\b")
_VALID = re.compile(rf"\bvalid\b|{_NOT}(?:invalid|fallacious)\b")
_LEFT_OPEN = re.compile(
    r"\bwhether\b[^,.;!?\n]*|\b(?:in)?valid or (?:not|invalid|valid)\b"
    r"|\b(?:may|might|could) be (?:in)?valid(?: or (?:in)?valid)?\b"
)
_NUMBER = re.compile(r"(?<![\w.,-])\d+(?!\w|[.,]\d)")
_RANGE = re.compile(r"\d\s*(?:-|to|or)\s*\d|\bbetween \d+ and \d")
_TOTAL = re.compile(  # before the number: "the answer is 8", "2 + 3 + 3 = 8"
    r"(?:\b(?:answer|total|sum|altogether|in all|makes?|equals?|gives?|counts?|counted|so|therefore|thus|hence)\b|=)"
    r"[^.;!?\n\d]{0,40}$"
)
_IN_TOTAL = re.compile(r"[^.;!?\n\d]{0,40}\b(?:in total|altogether|in all|overall)\b")  # behind it
_STATED = re.compile(r"\s*(?:(?:you|i|we) have|there (?:are|is))\s*")  # "You have 8 fruits: 4 oranges, ..."


def strict_answer(category: str, response: str) -> str | None:
    """The answer that `response` plainly gives: valid or invalid, yes or no, a number in digits; None without one."""
    if category not in ("formal_fallacies", "object_counting"):
        return yes_or_no(category, response)
    read = valid_or_invalid if category == "formal_fallacies" else number
    text = without_emphasis(clean(response))
    return next((answer for said in (*after_second_thoughts(text), text) if (answer := read(said))), None)


def valid_or_invalid(text: str) -> str | None:
    """What a cleaned answer says of an argument."""
    shown = _LEFT_OPEN.sub(" ", text.casefold())
    found = ["invalid"] if _INVALID.search(shown) else []
    found += ["valid"] if _VALID.search(_INVALID.sub(" ", shown)) else []
    return found[0] if len(found) == 1 else None


def number(text: str) -> str | None:
    """The one number in a cleaned answer, else the one that is called the answer or the sum, in digits."""
    for term in reversed(terms_of(text)):
        if term.word.isdecimal():
            text = text[: term.start] + term.word + text[term.end :]
    text = text.casefold()
    if _RANGE.search(text):
        return None
    said = list(_NUMBER.finditer(text))
    sums = [m for m in said if _TOTAL.search(text[: m.start()]) or _IN_TOTAL.match(text, m.end())]
    stated = [m for m in said if _STATED.fullmatch(text[: m.start()]) and re.match(r"[^.;!?\n,]*:", text[m.end() :])]
    for chosen in (said, sums, stated):
        numbers = {str(int(match[0])) for match in chosen}
        if len(numbers) == 1:
            return numbers.pop()
    return None
