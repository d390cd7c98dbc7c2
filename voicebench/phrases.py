"""Published rules that look for phrases: which of an ordered list occurs first decides.

VoiceBench reads letters and yes or no off lists of phrases, collected from the answers of other models. Its verdicts
depend on their order, so that is kept. In the notation here `<a|b>` stands for each of the two in turn, X for the word
that gives the verdict (tried in the order of the verdicts), and `...` for one character or more.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Mapping

_GAP = "..."
_GROUP = re.compile(r"<([^<>]*)>")

Needle = tuple[Callable[[str], object], str]  # whether a text holds it, and its verdict


def expand(pattern: str) -> list[str]:
    """The phrases that `pattern` stands for, in order: "<a|b> <c|d>" gives a c, a d, b c, b d."""
    parts = _GROUP.split(pattern)  # texts at even places, groups at odd ones
    options = [part.split("|") if place % 2 else [part] for place, part in enumerate(parts)]
    return ["".join(phrase) for phrase in itertools.product(*options)]


def needles(verdicts: Mapping[str, str], *patterns: str) -> list[Needle]:
    """Phrases that hold one of the words of `verdicts` in the place of X, which is their verdict."""
    return [
        (_finder(phrase.replace("X", word)), verdict)
        for pattern in patterns for phrase in expand(pattern) for word, verdict in verdicts.items()
    ]  # fmt: skip


def saying(verdict: str, *patterns: str) -> list[Needle]:
    """Phrases that all have the same verdict."""
    return needles({"": verdict}, *patterns)


def first_verdict(text: str, phrases: Iterable[Needle]) -> str | None:
    """The verdict of the first of `phrases` that occurs in `text`; None where none does."""
    return next((verdict for is_in, verdict in phrases if is_in(text)), None)


def _finder(phrase: str) -> Callable[[str], object]:
    if _GAP in phrase:
        return re.compile(".+".join(map(re.escape, phrase.split(_GAP)))).search
    return lambda text: phrase in text
