"""The choices of a question: their words, which read the same, which is right, and which is the whole of an answer."""

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from evaluation.labels import Label, find_labels
from evaluation.terms import Term, clean, terms_of, without_articles, words_of

_OWN_LABEL = re.compile(r"\s*(?P<open>\()?(?P<letter>[A-Z])(?(open)\)|[.):])\s+")
_NOTE = re.compile("[b-g][#♭]?")
_LEADING = {"in", "inside", "on", "at", "to"}  # words that say nothing where every choice begins with one
CONTRADICTION = -1  # in place of an index: a label and a text that disagree, or two choices


def without_labels(choices: Sequence[str | None]) -> list[str | None]:
    """Drop the letters of choices that all bring their own: "(A) dog", "B. cat". One "C. elegans" is no label."""
    labels = [choice and _OWN_LABEL.match(str(choice)) for choice in choices]
    offered = [i for i, choice in enumerate(choices) if choice is not None]
    if not all(labels[i] and string.ascii_uppercase.find(labels[i]["letter"]) == i for i in offered):
        return list(choices)
    return [choice and choice[label.end() :] for choice, label in zip(choices, labels, strict=True)]


def right_choices(answer: object, choices: Sequence[str | None]) -> set[int]:
    """The indices of the choices whose text is the answer, and of those that read the same.

    Where none is verbatim, the answer in another spelling, or without a label, will do.
    """
    texts = without_labels(choices)
    right = {i for i, choice in enumerate(choices) if choice is not None and choice == answer}
    if not right:
        label = _OWN_LABEL.match(str(answer))
        wanted = [words_of(answer), *([words_of(str(answer)[label.end() :])] if label else [])]
        right = {i for i, text in enumerate(texts) if text is not None and words_of(text) in wanted}
        right = {i for i in right if clean(texts[i]) == clean(answer)} or right  # "-5 dB" beside "5 dB"
    same = {_plain(texts[i]) for i in right}
    return right | {i for i, text in enumerate(texts) if text is not None and _plain(text) in same}


def _plain(text: object) -> str:
    """A text as choices are compared: the case of words' first letters, white space and full stops do not count.

    Other capitals do: "I NEVER said it" and "I never SAID it" are two answers to which word is stressed.
    """
    return " ".join(word[:1].casefold() + word[1:] for word in str(text).split()).strip(" .")


@dataclass(frozen=True)
class Offered:
    """The choices of a question, in the order of their letters; None for a letter that is not on offer."""

    choices: Sequence[str | None]
    alike: Sequence[int]  # for each, the first that reads the same
    words: Mapping[int, list[str]]  # of each that is the first of its kind, without a label of its own
    rows: Mapping[int, list[str]]  # of these, the words that name it: no articles, nor "in" where all have one

    @classmethod
    def of(cls, choices: Sequence[str | None]) -> "Offered":
        texts = without_labels(choices)
        alike = [
            next((i for i in range(index) if text is not None and _same(texts[i], text)), index)
            for index, text in enumerate(texts)
        ]
        words = {i: words_of(text) for i, text in enumerate(texts) if text is not None and alike[i] == i}
        keys = any(len(found) > 1 and _NOTE.fullmatch(found[0]) for found in words.values())
        rows = {}
        for index, found in words.items():
            text = clean(texts[index])
            is_key = keys and found[:1] == ["a"]  # "A minor" beside "C minor": no article
            rows[index] = found if is_key else [term.word for term in without_articles(text, terms_of(text))]
        shorter = {i: row[1:] for i, row in rows.items() if len(row) > 1 and row[0] in _LEADING}
        if len(set(map(tuple, shorter.values()))) == len(
            rows
        ):  # "In a kitchen", "On a beach"; "To apologise", "To ask"
            rows = shorter
        return cls(choices, alike, words, rows)

    def terms(self, text: str, labels: Sequence[Label]) -> list[Term]:
        """The words of a cleaned answer without articles; the label A, which is among its `labels`, is none."""
        terms = terms_of(text)
        labelled = {place for label in labels for place in range(label.start, label.end)}
        keys = {tuple(row[:2]) for row in self.rows.values() if row[:1] == ["a"]}  # "A minor" beside "C minor"
        notes = {a.start for a, b in pairwise(terms) if text[a.start] == "A" and (a.word, b.word) in keys}
        kept = {term.start for term in without_articles(text, terms)} | labelled | notes
        return [term for term in terms if term.start in kept]

    def verbatim(self, response: str) -> int | None:
        """The choice that the response repeats letter by letter; else the only one that it does but for case."""
        if len(response.strip()) < 2:
            return None
        offered = {index: str(choice) for index, choice in enumerate(self.choices) if choice is not None}
        for form in (str.strip, _plain, lambda text: text.strip().casefold()):
            repeated = {self.alike[index] for index, text in offered.items() if form(text) == form(response)}
            if repeated:
                return repeated.pop() if len(repeated) == 1 else None
        return None

    def whole(self, text: str) -> int | None:
        """The choice that is the whole of a cleaned answer: by text, by letter, or both; or CONTRADICTION."""
        said = [term.word for term in terms_of(text)]
        if not said:
            return None
        labels = find_labels(text, self.choices)
        bare = [term.word for term in self.terms(text, labels)]
        exact = {i for i, words in self.words.items() if words == said}
        named = exact or {i for i, row in self.rows.items() if row == bare}
        letter = string.ascii_lowercase.find(said[0]) if len(said[0]) == 1 else -1
        on_offer = 0 <= letter < len(self.choices) and self.choices[letter] is not None
        if len(said) == 1 and on_offer:
            return letter if named <= {self.alike[letter]} else CONTRADICTION
        if not named and on_offer:
            row = self.rows[self.alike[letter]]
            if said[1:] not in (self.words[self.alike[letter]], row):
                return None
            if list(self.rows.values()).count(row) == 1:
                return letter  # "B bird sound"; and "A dog", where A is "dog"
            return None if labels else CONTRADICTION  # "B. -5 dB" beside "5 dB"; but "B 5 dB" may be either
        if not named and len(said) == 1 and said[0].isdecimal():  # "120" for "120 BPM"
            with_it = {i for i, row in self.rows.items() if said[0] in row}
            named = {i for i in with_it if self.rows[i][0] == said[0]} if len(with_it) == 1 else set()
        if not named and len("".join(said)) > 3:  # "hip hop", "hiphop"
            named = {i for i, row in self.rows.items() if "".join(row) == "".join(bare)}
        if len(named) == 1:
            return named.pop()
        # Of choices with the same words, "-5 dB" and "5 dB", what stands around these may tell; not in "A 5 dB".
        same = len({tuple(self.rows[i]) for i in named}) == 1 and (exact or not on_offer)
        return CONTRADICTION if named and not same else None


def _same(one: object, other: object) -> bool:
    return one is not None and _plain(one) == _plain(other)
