"""How the benchmarks' own scorers tell whether a response is right: the official column, traps included.

Every rule takes the response, the right answer's text and the choices in the order of their letters (None for a letter
that is not on offer), and returns whether the response counts as right.
"""

import re
import unicodedata
from collections.abc import Sequence

LETTERS = "ABCD"
ASR_PUNCTUATION = frozenset("!,?、。！，；？：「」︰『』《》")
ASR_SPACES = frozenset(" \t\r\n")


def mmsu_letter(response: str) -> str | None:
    """The first character if it is one of ABCD, else the second to last one if that is; else None.

    The response comes without the white space around it and without line breaks, as the published scorer reads it.
    """
    said = response.strip().replace("\n", "")
    for character in (said[:1], said[-2:-1]):
        if character and character in LETTERS:
            return character
    return None


def mmsu_leaves_out(answer: object) -> bool:
    """Whether MMSU's own evaluator leaves an item out of its denominator, by what stands in the file as its answer.

    It does where `mmsu_letter` gives none, and where the answer is no text. Empty answers, and "None", are wrong.
    """
    if not isinstance(answer, str):
        return True
    return answer.strip().replace("\n", "") not in ("", "None") and mmsu_letter(answer) is None


def mmsu_rule(response: str, answer: str, choices: Sequence[str | None]) -> bool:
    """MMSU, as DIFFA scores it: the choice that `mmsu_letter` gives reads as the answer does."""
    letter = mmsu_letter(response)
    return letter is not None and choices[LETTERS.index(letter)] == answer


def airbench_rule(response: str, answer: str, choices: Sequence[str | None]) -> bool:
    """AIR-Bench foundation: the letter of `mmsu_letter` is that of the first choice that reads as the answer does."""
    letter = mmsu_letter(response)
    return letter is not None and answer in choices and choices.index(answer) == LETTERS.index(letter)


def mmau_rule(response: str, answer: str, choices: Sequence[str | None]) -> bool:
    """MMAU and MMAR, on sets of words.

    All of the answer's words are in the response, and no word of a wrong choice is, unless the answer has it too.
    """
    said, right = word_set(response), word_set(answer)
    wrong = set().union(*(word_set(choice) for choice in choices if choice is not None)) - right
    return bool(said) and right <= said and not wrong & said


def word_set(text: str) -> set[str]:
    return set(re.findall(r"\b\w+\b", text.lower()))


def asr_tokens(text: str) -> list[str]:
    """ASR, as DIFFA-2's authors score it: what WeNet's compute-wer.py takes as a word, with --char=1.

    Upper case; a letter of a script without case (Chinese, Japanese, Arabic, ...) is a token of its own, others go up
    to the next space or the next character that is not ASCII. `<...>` is dropped, and so is listed punctuation where a
    token starts: "hello," keeps its comma, and is not "hello".
    """
    tokens, start = [], 0
    while start < len(text):
        first, category, end = text[start], unicodedata.category(text[start]), start + 1
        if first in ASR_PUNCTUATION or first in ASR_SPACES or category in ("Zs", "Cn"):
            start = end
            continue
        if category != "Lo":
            while end < len(text) and text[end].isascii() and text[end] not in ASR_SPACES:
                end += 1
                if first == "<" and text[end - 1] == ">":
                    break
        tokens.append(re.sub("<[^>]*>?", "", text[start:end].upper()))
        start = end
    return [token for token in tokens if token]
