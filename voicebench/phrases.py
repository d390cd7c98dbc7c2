"""Published rules that look for phrases: which of an ordered list occurs first decides.

VoiceBench reads letters and yes or no off lists of phrases, collected from the answers of other models. Its verdicts
depend on their order, so that is kept. In the notation here `<a|b>` stands for each of the two in turn, X for the word
that gives the verdict (tried in the order of the verdicts), and `...` for one character or more.
"""

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_GAP = "..."
_GROUP = re.compile(r"<([^<>]*)>")


@dataclass(frozen=True)
class Phrase:
    """One phrase, and the verdict on an answer in which it is the first of the list."""

    text: str
    verdict: str
    gaps: re.Pattern | None = field(init=False)

    def __post_init__(self):
        parts = [re.escape(part) for part in self.text.split(_GAP)]
        object.__setattr__(self, "gaps", re.compile(".+".join(parts)) if len(parts) > 1 else None)

    def is_in(self, answer: str) -> bool:
        return self.gaps.search(answer) is not None if self.gaps else self.text in answer


def expand(pattern: str) -> list[str]:
    """The phrases that `pattern` stands for, in order: "<a|b> <c|d>" gives a c, a d, b c, b d."""
    parts = _GROUP.split(pattern)  # texts at even places, groups at odd ones
    options = [part.split("|") if place % 2 else [part] for place, part in enumerate(parts)]
    return ["".join(phrase) for phrase in itertools.product(*options)]


def choosing(verdicts: Mapping[str, str], *patterns: str) -> list[Phrase]:
    """Phrases that hold one of the words of `verdicts` in the place of X, which is their verdict."""
    return [
        Phrase(text.replace("X", word), verdict)
        for pattern in patterns for text in expand(pattern) for word, verdict in verdicts.items()
    ]  # fmt: skip


def saying(verdict: str, *patterns: str) -> list[Phrase]:
    """Phrases that all have the same verdict."""
    return [Phrase(text, verdict) for pattern in patterns for text in expand(pattern)]


def first_verdict(answer: str, phrases: Iterable[Phrase]) -> str | None:
    """The verdict of the first of `phrases` that occurs in `answer`; None where none does."""
    return next((phrase.verdict for phrase in phrases if phrase.is_in(answer)), None)
