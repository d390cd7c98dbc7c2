"""Understanding an answer to a multiple-choice question, the strict way: what is not plainly one choice is none.

An answer names a choice by its label (labels.py) or by its text, in one spelling (terms.py). Of several names, those
that are dismissed ("not A", "B is wrong", "a cat rather than a dog") do not count, an announced one ("the answer is C")
counts more than one in passing, and two that are left make it none (mentions.py).
"""

import re
from collections.abc import Sequence

from evaluation.discourse import (
    after_question,
    after_second_thoughts,
    without_emphasis,
    without_guesses,
    without_reasons,
)
from evaluation.mentions import find_mentions, most_plain
from evaluation.offered import CONTRADICTION, Offered
from evaluation.terms import clean


def parse_choice(response: str, choices: Sequence[str | None]) -> int | None:
    """The index of the choice that `response` names; None if it names none, or several.

    `choices` are in the order of their letters; None stands for a letter that is not on offer. Of choices that read
    the same the first is meant. Understood are, for example, "B", "(b)", "**B**.", "The answer is B", "B. text",
    "text", "the second option", and sentences in which one choice's text stands. A label and a text that disagree
    give None.
    """
    offered = Offered.of(choices)
    index = offered.verbatim(str(response))
    if index is not None:
        return index
    text = without_emphasis(clean(response))
    index = offered.whole(text)
    if index is None:
        index = _named(text, offered)
    return None if index is None or index == CONTRADICTION or choices[index] is None else index


def _named(text: str, offered: Offered) -> int | None:
    """The choice that is named in the answer's words.

    What follows second thoughts or a question counts alone where it names one; so does what is left without reasons.
    """
    if ["no"] in offered.words.values():
        text = re.sub(r"\bno,", "no.", text, flags=re.IGNORECASE)  # an answer, not a second thought
    for said in (*after_second_thoughts(text), after_question(text), text):
        for shown in dict.fromkeys([without_guesses(without_reasons(said)), without_reasons(said), said]):
            mentions = find_mentions(shown, offered)
            if any(not mention.denied for mention in mentions):
                return most_plain(shown, mentions, offered.alike)
            if mentions and said is text:
                return None
    return None
