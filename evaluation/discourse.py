"""What a speaker takes back, gives reasons for, or stresses: what is cut from an answer before it is read.

All functions take cleaned texts (`terms.clean`).
"""

import re
from collections.abc import Iterator

from evaluation.terms import any_of

MAX_THOUGHTS = 4  # places where something is taken back; before that nobody looks
SENTENCE_END = re.compile(r"[.;!?\n]")
_TAKES_BACK = re.compile(
    any_of(
        r"\b(?:no,?\s+)?wait\b(?:,?\s*no\b)?",
        r"\b(?:scratch that|correction\b\s*:?|or rather|i mean(?:t)?|actually|my mistake|sorry,|oops|i was wrong)",
        r"\b(?:on (?:second thoughts?|reflection)|let me correct (?:that|myself)|i take that back)\b",
        r"\bi(?: now)? (?:change|switch) (?:my (?:mind|answer|choice))(?: to)?\b",
        r"(?<=[.!?\n-])\s*\bno,",
    ),
    re.IGNORECASE,
)
_EMPHASIS = re.compile(
    any_of(
        r"\b(?:without (?:a |any )?doubt|(?:there is )?no (?:doubt|question)(?: about it)?)\b,?",
        r",?\s*\bis(?:n't| not) (?:it|he|she)\s*(?=\?)",
    ),
    re.IGNORECASE,
)
_GUESS = re.compile(  # not where the other side of "but" is a guess as well
    r"\b(?:could|might|may|first (?:thought|heard|took))\b[^.;!?\n]{0,120}?,? but\b"
    r"(?![^.;!?\n]{0,120}\b(?:could|might|may)\b)",
    re.IGNORECASE,
)
_BECAUSE = re.compile(
    r"\b(?:because|since|due to|given that|as (?=(?:the|it|there|he|she|they|we|i|you|no)\b))[^.!?;\n]*", re.IGNORECASE
)
_EXPLANATION = re.compile(
    r"\b(?:explanation|reason|reasoning|rationale|justification|analysis|note)\s*:.*", re.IGNORECASE | re.DOTALL
)


def after_second_thoughts(text: str) -> Iterator[str]:
    """What follows the last places where something is taken back, the last one first: "B" of "A. No wait, B"."""
    for match in reversed(list(_TAKES_BACK.finditer(text))[-MAX_THOUGHTS:]):
        if text[: match.start()].strip():
            yield text[match.end() :].lstrip(" ,.:;-")


def after_question(text: str) -> str:
    """What follows the last question: "B" of "A or B? B"."""
    return text.rpartition("?")[2]


def without_emphasis(text: str) -> str:
    """Without words that negate nothing: "no doubt", "isn't it?"."""
    return _EMPHASIS.sub(" ", text).strip()


def without_guesses(text: str) -> str:
    """Without what is said only to say otherwise: "It could be a cello, but" before "I'd say violin"."""
    return _GUESS.sub(" ", text)


def without_reasons(text: str) -> str:
    """Without what comes after "because" and the like, and after "Explanation:"."""
    explanation = _EXPLANATION.search(text)
    if explanation and text[: explanation.start()].strip():
        text = text[: explanation.start()]

    def cut(match: re.Match) -> str:
        before = text[: match.start()].rstrip(" \t")
        if before and not SENTENCE_END.match(before[-1]):
            return ""
        comma = match[0].find(",")  # "Because it rattles, C."
        return match[0][comma + 1 :] if comma >= 0 else match[0]

    return _BECAUSE.sub(cut, text)
