"""Word and character errors by edit distance, of normalised texts (src/text_normalisation.py).

Light imports only, for the scorers.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import jiwer


@dataclass(frozen=True)
class Edits:
    """The edits that turn a reference into a hypothesis, counted in words or in characters."""

    length: int  # of the reference
    substitutions: int
    deletions: int
    insertions: int

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        return self.errors / max(1, self.length)


def word_edits(reference: str, hypothesis: str) -> Edits:
    """Of two normalised texts."""
    return count(jiwer.process_words(reference, hypothesis))


def character_edits(reference: str, hypothesis: str) -> Edits:
    """Of two normalised texts."""
    return count(jiwer.process_characters(reference, hypothesis))


def count(found: jiwer.WordOutput | jiwer.CharacterOutput) -> Edits:
    length = found.hits + found.substitutions + found.deletions
    return Edits(length, found.substitutions, found.deletions, found.insertions)


def total(edits: Iterable[Edits]) -> Edits:
    edits = list(edits)
    return Edits(*(sum(getattr(one, field.name) for one in edits) for field in fields(Edits)))
