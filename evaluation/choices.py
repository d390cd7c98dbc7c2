"""Parsing an answer to a multiple-choice question, strictly: what does not name exactly one option is unparsed."""

import re
import string
import unicodedata
from collections.abc import Mapping, Sequence

_WORD = re.compile(r"\d+(?:[.,:]\d+)+|\w+(?:'\w+)*[#♯♭]?")
_MARKUP = re.compile(r"<\|[^|>]*\|>|</?[a-zA-Z_]+>|\\(?:boxed|text|textbf|mathbf)\b|[*_`{}$]|\\[()\[\]]")
# A single letter that labels an option: what follows is the end, a mark, another letter, or a word that no option
# text would begin with. So neither "A dog" nor "D minor", "B flat" or "C#" holds a letter.
_LETTER = re.compile(
    r"(?<!\w)(?<!\w')(?P<open>[(\[]?)(?P<letter>[A-Za-z])"
    r"(?=$|\s*[.,:;!?)\]\"'/&\n]|\s+[-–—]|\s+\(?[A-Z]\b(?!['’])|\s+(?:is|isn't|was|would|because|since|as|and|or|but|for)\b)"
)
_LABEL = re.compile(r"\s*(?P<open>\()?(?P<letter>[A-Z])(?(open)\)|[.):])\s+")  # of a choice that brings its own
_STATEMENT = re.compile(r"\b(?:answer|choose|select|pick)\b", re.IGNORECASE)
_DISMISSAL = re.compile(r"[)\]]?\s*(?:isn't\b|(?:is|was)\s+(?:not|wrong|incorrect|false)\b)")
_CLAUSE_END = re.compile(r"[.,:;!?\n]")
_NEGATIONS = {"not", "isn't", "never", "neither", "nor", "except", "rather", "instead"}
# Words that make even a small letter a label: "option b", "the answer is b".
_ANNOUNCING = {"answer", "is", "be", "option", "choice", "letter", "choose", "select", "pick"}


def words(text: str) -> list[str]:
    """Lower-case words of `text`; punctuation is dropped, decimals and sharps (`C#`) are kept whole."""
    return _WORD.findall(unicodedata.normalize("NFKC", str(text)).replace("’", "'").casefold())


def parse_choice(response: str, choices: Sequence[str | None]) -> int | None:
    """The index of the option that `response` names, by its letter or by its text; None if it names none, or several.

    `choices` are the options in the order of their letters; None stands for a letter that is not on offer. Understood
    are, for example, "B", "(b)", "**B**.", "The answer is B", "B. text", "text", and sentences that hold one option's
    text. Two letters, or a letter and a text that disagree, give None.
    """
    text = unicodedata.normalize("NFKC", _MARKUP.sub(" ", str(response))).replace("’", "'").strip()
    letters = string.ascii_uppercase[: len(choices)]
    options = {i: words(choice) for i, choice in enumerate(without_labels(choices)) if choice is not None}
    said = words(text)
    is_letter = len(said) == 1 and said[0].upper() in letters  # a bare letter is a label, even if some option reads "B"
    same = [i for i, choice in enumerate(choices) if choice is not None and choice.strip() == text]
    same = same or [i for i, option in options.items() if option == said]
    if said and same and not is_letter:
        return same[0] if len({choices[i] for i in same}) == 1 else None
    if said and options.get(letters.find(said[0].upper())) == said[1:] != []:  # "A dog" where A is "dog"
        return letters.find(said[0].upper())
    named = {letters.find(letter) for letter in _letters(text)} & options.keys()
    quoted = _quoted(said, options)
    if len(named) == 1:
        return named.pop() if not quoted or named <= quoted else None
    return quoted.pop() if len(quoted) == 1 and not named else None


def without_labels(choices: Sequence[str | None]) -> list[str | None]:
    """Drop the letters of choices that all bring their own: "(A) dog", "B. cat". One "C. elegans" is no label."""
    labels = [choice and _LABEL.match(choice) for choice in choices]
    offered = [i for i, choice in enumerate(choices) if choice is not None]
    if not all(labels[i] and string.ascii_uppercase.find(labels[i]["letter"]) == i for i in offered):
        return list(choices)
    return [choice and choice[label.end() :] for choice, label in zip(choices, labels, strict=True)]


def _letters(text: str) -> set[str]:
    """Letters that `text` gives as its answer.

    Those after the last "answer", "choose", ... outrank earlier ones, but not one that opens the text: "A. The answer
    is B" contradicts itself.
    """
    found = []  # (position, letter)
    for match in _LETTER.finditer(text):
        before = words(text[: match.start()])
        clause = words(_CLAUSE_END.split(text[: match.start()])[-1])
        announced = match["open"] or not before or before[-1] in _ANNOUNCING
        dismissed = _NEGATIONS & set(clause[-2:]) or _DISMISSAL.match(text, match.end())
        if (match["letter"].isupper() or announced) and not dismissed:
            found.append((match.start(), match["letter"].upper()))
    statement = max((match.start() for match in _STATEMENT.finditer(text)), default=-1)
    stated = {letter for position, letter in found if position > statement}
    opening = {letter for position, letter in found if position == 0}
    return stated | opening if stated else {letter for _, letter in found}


def _quoted(said: list[str], options: Mapping[int, list[str]]) -> set[int]:
    """Options whose words stand in a row in the answer, longest first; a text inside a longer one does not count."""
    taken = [False] * len(said)
    found = set()
    for index, option in sorted(options.items(), key=lambda pair: -len(pair[1])):
        size = len(option)
        if size == 0 or (size == 1 and len(option[0]) == 1 and option[0].isalpha()):
            continue  # a single letter would match the article "a"
        for start in range(len(said) - size + 1):
            if said[start : start + size] == option and not any(taken[start : start + size]):
                taken[start : start + size] = [True] * size
                if not _NEGATIONS & set(said[max(0, start - 2) : start]):
                    found.add(index)
    return found
