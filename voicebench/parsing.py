"""Reading a judge's replies: ratings and votes."""

import re

from evaluation.endpoint import visible_answer

_NUMBER = r"(\d+(?:\.\d+)?)"
_NAME = r"\b(?:score|rating|grade)\b"
_ALONE = re.compile(rf"\W*(?:{_NAME}\W+(?:is\W+)?)?{_NUMBER}(?:\s*(?:/|out of)\s*5|\s*points?)?\W*", re.IGNORECASE)
_BRACKETED = re.compile(rf"\[\[{_NUMBER}\]\]")
_NAMED = re.compile(rf"{_NAME}(?: is|:| =)\s*{_NUMBER}", re.IGNORECASE)
_VOTE = re.compile(
    r"\W*(?:(?:final )?(?:answer|verdict)\W+(?:is\W+)?)?(yes|no|correct|incorrect)\b\s*(?:$|[^\w\s])", re.IGNORECASE
)


def parse_rating(reply: str) -> float | None:
    """The number from 1 to 5 that `reply` gives: "4", "4/5", "[[4]]", "Rating: 4", ...; None for anything else."""
    text = visible_answer(reply).replace("*", "")
    alone = _ALONE.fullmatch(text)
    said = [alone[1]] if alone else _BRACKETED.findall(text) or _NAMED.findall(text)
    ratings = {float(number) for number in said}
    return ratings.pop() if len(ratings) == 1 and 1 <= min(ratings) <= 5 else None


def parse_vote(reply: str) -> float | None:
    """1 for yes or correct, 0 for no or incorrect, else None; what follows the word and a mark is not read."""
    vote = _VOTE.match(visible_answer(reply))
    return None if not vote else float(vote[1].lower() in ("yes", "correct"))
