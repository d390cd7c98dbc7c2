"""Word and character errors by edit distance, after Whisper's text normalisation, which is for English alone.

Light imports only, for the scorers.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cache

import jiwer
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer


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


def normalise(text: str) -> str:
    """Without case, punctuation and fillers, numbers in digits: what is left to compare."""
    return normaliser()(text)


@cache
def normaliser() -> EnglishTextNormalizer:
    return EnglishTextNormalizer({})  # Whisper's own table of British spellings comes with no package


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
