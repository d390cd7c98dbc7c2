"""Labels of choices in an answer: letters ("B", "option b", "(c)", "Bです") and ordinals ("the second option").

Most letters in a text are no labels: those of "Vitamin B", "Plan A", "C'est", "D minor", "Lyndon B. Johnson", "a cat".
One is a label where both of its sides allow it: before it the beginning, a mark, or a word that announces an answer;
behind it the end, a mark, or a word with which no text of a choice goes on. Texts come cleaned (`terms.clean`).
"""

import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evaluation.terms import MAX_LEAD, any_of, lead_of, words_of


@dataclass(frozen=True)
class Label:
    """A letter or an ordinal that names a choice, by its place among them."""

    place: int  # may be past the choices on offer
    start: int
    end: int
    letter: str = ""  # empty for an ordinal


_NUMBER = re.compile(r"number\b", re.IGNORECASE)


def find_labels(text: str, choices: Sequence[str | None]) -> list[Label]:
    """Labels in `text`, in order; places past the choices are kept: "E" contradicts nothing, but names none."""
    texts = [words_of(choice) if choice is not None else [] for choice in choices]
    single = {words[0] for words in texts if len(words) == 1 and len(words[0]) == 1}
    last = max((place for place, choice in enumerate(choices, start=1) if choice is not None), default=0)
    letters = _letters(text, single | set(string.ascii_lowercase[: len(choices)]), texts)
    counts = any(word.isdigit() for words in texts for word in words)  # then "number 3" is a text
    ordinals = [label for label in _ordinals(text, last) if not (counts and _NUMBER.match(text, label.start))]
    return sorted([*letters, *ordinals], key=lambda label: label.start)


# --- letters -------------------------------------------------------------------------------------------------------

_LETTER = re.compile(r"(?<!\w)(?<!\w['.+-])(?P<open>[(\[\"']?)(?P<letter>[A-Za-z])(?![\w#♭]|'\w)(?P<close>[)\]\"']*)")
_INITIALS = re.compile(r"(?<!\w)(?:(?:[A-Za-z]\.){2,}|[Nn]/[Aa]\b)")  # "D.C.", "n/a"
_CHORD = r"[A-G](?:#|♭|b)?(?:m|maj|min|dim|aug|sus|add)?\d?(?![\w'#♭])"
_CHORDS = re.compile(rf"(?<![\w']){_CHORD}(?:\s*[,/|-]\s*{_CHORD}|\s+{_CHORD})+")  # "G, D, Em, C"
_TITLES = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|vs|No)\.\s*$")  # "Dr. B"
_LISTED = re.compile(r"[).:]\s")  # "B) bird sound", when bird sound is B, wherever it stands
_CLOSED = re.compile(r"[ \t]*(?:$|[\n.,:;!?/&=)\]\"']|-(?!\w))")  # what ends a label

# Words with which a sentence goes on behind a label, but no choice does: not "D minor", "A cat", "B is for bee".
_GOES_ON = re.compile(
    any_of(
        r"\s+is(?!\s+(?:for|spoken|said|sung|played|heard|mentioned|closed|pronounced)\b)\b",
        r"\s+(?:are|was|were|has|have|had|does|do|did|can|could|would|will|should|must)\b",
        r"\s+(?:seems?|sounds?|fits?|matches|makes|remains?|wins|works)\b",
        r"\s+(?:because|since|as|and|or|nor|but|not|over|rather|instead|then|here|now|it|too|please)\b",
        r"\s+(?:ist|est|es|são|é)\b",
        r"\s+[A-Z](?![\w'])\b",  # another letter
        r"\s*\(|\s+-",
        r"\s*(?:です|だ|でしょ|と思|を選|が正|が答)",
        r"\s*(?:が適|选|選|项|項|是正|是对|是對|是最|正确|正確|吧)",
        r"\s*(?:입니다|이다|이에요|예요)",
    )
)
# Words that announce an answer: a small letter behind them is a label, where it is closed.
_ANNOUNCING = {
    "answer", "answers", "option", "options", "choice", "choices", "letter", "choose", "chose", "select", "selected",
    "pick", "picked", "is", "be", "say", "antwort", "ist", "respuesta", "es", "réponse", "reponse", "est", "risposta",
    "resposta", "é", "opción", "opcion",
}  # fmt: skip
_LABEL_NOUNS = {"option", "choice", "letter", "answer", "sentence"}  # behind them, even where the sentence goes on
# Words behind which a capital letter is a label.
_POINTING = _ANNOUNCING | {
    "was", "guess", "think", "believe", "suppose", "mean", "meant", "prefer", "favor", "suggests", "indicates",
    "leaves", "leaving", "so", "thus", "hence", "therefore", "then", "either", "neither", "both", "not", "than",
    "of", "for", "with", "except", "unlike", "eliminate", "exclude", "reject", "dismiss", "out", "definitely",
    "probably", "likely", "maybe", "perhaps", "possibly", "clearly", "obviously", "certainly", "surely", "just",
    "only", "simply", "yes", "yeah", "ok", "well", "um", "uh", "hmm", "sure", "correct", "right", "best",
    "final", "number", "item", "alternative", "sentence", "statement", "label", "c'est", "it's", "i'd", "هي", "هو",
}  # fmt: skip
_JOINING = {"and", "or", "nor", "but"}
_LEADS_TO = re.compile(  # "changed my answer to B": but not "from point A to point B"
    any_of(
        r"\b(?:answer|chang\w*|switch\w*|correspond\w*|points?|pointing|leads?|close|closest|equals?|goes|towards?)\b"
        r"[^.;!?\n]*\bto\s*$",
        r"\btowards?\s*$",
    ),
    re.IGNORECASE,
)
_ANNOUNCING_CJK = re.compile(r"(?:是|为|為|选|選|择|擇|案|项|項|(?<!また)は|肢|답은|답|は、)\s*$")


def _letters(text: str, known: set[str], texts: Sequence[list[str]]) -> Iterator[Label]:
    """The labels among the letters of `text`; `known` are those that choices may have, `texts` the choices' words."""
    masked = {place for match in _INITIALS.finditer(text) for place in range(*match.span())}
    for match in _CHORDS.finditer(text):
        chords = re.findall(_CHORD, match[0])
        if any(chord.lower() not in known or not chord.isalpha() or len(chord) > 1 for chord in chords):
            masked.update(range(*match.span()))  # a row of notes or chords
    last_end = -1  # of the last label
    for match in _LETTER.finditer(text):
        letter = match["letter"].lower()
        if letter not in known or match.start("letter") in masked:
            continue
        place = string.ascii_lowercase.index(letter)
        listed = False
        if place < len(texts) and texts[place] and _LISTED.match(text, match.end("letter")):
            own = texts[place]
            listed = words_of(text[match.end() : match.end() + MAX_LEAD])[: len(own)] == own
        if listed or _is_label(text, match, last_end):
            last_end = match.end()
            yield Label(place, match.start(), match.end(), letter)


def _is_label(text: str, match: re.Match, last_end: int) -> bool:
    """Whether both sides of a letter allow it to be a label; the last label ends at `last_end`, -1 for none."""
    before, after = lead_of(text, match.start()).rstrip(" \t"), text[match.end() : match.end() + MAX_LEAD]
    bracketed = match["open"] in ("(", "[") and match["close"][:1] in (")", "]")
    closed = bracketed or bool(match["close"]) or _CLOSED.match(after) is not None
    goes_on = _GOES_ON.match(after) is not None
    if not (closed or goes_on):
        return False
    if match["letter"] in "Ii" and not (bracketed or text.strip() == match[0]):
        return False  # "I" speaks
    if re.search(r"\bletter$", before) and not closed:
        return False  # "the letter B is heard"
    begins = not before or before.endswith("\n")
    word = _last_word(before)
    if match["letter"].islower():
        if bracketed or (begins and (closed or match["letter"] != "a")):
            return True
        announced = word in _ANNOUNCING or _LEADS_TO.search(before) is not None
        return (closed and announced) or (goes_on and word in _LABEL_NOUNS)
    near = 0 <= match.start() - last_end < MAX_LEAD and last_end >= 0
    between = text[last_end : match.start()].casefold() if near else None
    if bracketed or begins or (between is not None and not between.strip()):
        return True
    if not (before[-1].isalnum() or before[-1] in "\"'"):
        return not _TITLES.search(before)
    if word in _JOINING:
        return (between or "").strip(" ,\t") in _JOINING or word == "but" or goes_on
    return word in _POINTING or bool(_LEADS_TO.search(before)) or bool(_ANNOUNCING_CJK.search(before))


def _last_word(before: str) -> str:
    last = re.search(r"[^\s\"'(\[]+$", before.rstrip("\"'([ "))
    return re.sub(r"^\W+|\W+$", "", last[0]).casefold() if last else ""


# --- ordinals ------------------------------------------------------------------------------------------------------

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
_CARDINALS = ("one", "two", "three", "four", "five", "six")
_LAST = ("last", "final")
_OF_TWO = ("former", "latter")
_ORDINAL = rf"(?P<ordinal>{any_of(*_ORDINALS, *_LAST, *_OF_TWO)}|\d(?:st|nd|rd|th))"
_ENDS = r"(?=\s*(?:$|[.,;:!?\n)]))"
_ORDINAL_OPTION = re.compile(
    any_of(
        # "the second option"; not "my first answer was that ...", "the final answer"
        rf"\b(?!final (?:answer|choice)){_ORDINAL}\s+"
        r"(?:option|choice|answer|alternative|candidate|statement|possibility|sentence|item)\b(?!\s+(?:is|was)\s+(?:that|to)\b)",
        # "the second one is right"; not "the first one to speak"
        rf"\b{_ORDINAL.replace('ordinal', 'one')}\s+one\b(?={_ENDS}|\s*(?:is|was|because|since|fits|seems)\b)",
        # "option two", "answer no. 3"
        rf"\b(?:option|choice|answer)\s+(?:number\s+|no\.?\s*)?(?P<cardinal>[1-9]|{any_of(*_CARDINALS)})\b(?!\s*(?:%|\w))",
        rf"\bnumber\s+(?P<number>[1-9]|{any_of(*_CARDINALS)})\b{_ENDS}",
        rf"\bthe\s+(?P<of_two>{any_of(*_OF_TWO)})\b{_ENDS}",
        # "I choose the first."
        rf"(?:(?:is|choose|pick|select|with|be)\s+|^\s*)the\s+(?P<bare>{any_of(*_ORDINALS)})(?=\s*(?:$|[.!?\n]))",
    ),
    re.IGNORECASE,
)
_COORDINATED = re.compile(  # "the first or" before "the second option"
    rf"\b{_ORDINAL}\s+(?:(?:option|choice|answer|sentence|one)\s+)?(?:and|or)\s+(?:the\s+)?$", re.IGNORECASE
)
_NUMERALS = {c: n for n, c in enumerate("一二三四五六七八九", start=1)} | {"첫": 1, "두": 2, "세": 3, "네": 4}
_ORDINAL_CJK = re.compile(
    any_of(
        r"第\s*(?P<zh>[一二三四五六七八九1-9])\s*(?:个|個|项|項|つ|種|种)?\s*(?:选项|選項|选择|選択肢|答案)?",
        r"(?P<ja>[一二三四五六七八九1-9])\s*(?:番目|つ目)(?:\s*の\s*(?:選択肢|答え))?",
        r"(?P<ko>첫|두|세|네|[1-9])\s*번째(?:\s*(?:선택지|보기|답))?",
    )
    + r"(?=\s*(?:$|[.,!?\n)\"']|です|だ|が|を|は|입니다|吧|是))"  # not "2番目の人"
)


def _ordinals(text: str, count: int) -> Iterator[Label]:
    """The choices that are named by their place, of `count` choices."""
    for match in _ORDINAL_OPTION.finditer(text):
        said = next(word for word in match.groups() if word)
        yield Label(_place(said, count), match.start(), match.end())
        lead = lead_of(text, match.start())
        if earlier := _COORDINATED.search(lead):
            start = match.start() - len(lead)
            yield Label(_place(earlier["ordinal"], count), start + earlier.start(), start + earlier.end())
    for match in _ORDINAL_CJK.finditer(text):
        said = match["zh"] or match["ja"] or match["ko"]
        yield Label((int(said) if said.isdigit() else _NUMERALS[said]) - 1, match.start(), match.end())


def _place(said: str, count: int) -> int:
    """The place that an ordinal or a number names; past the choices where it is none of theirs."""
    said = said.casefold()
    if said in _LAST:
        return count - 1
    if said in _OF_TWO:
        return _OF_TWO.index(said) if count == 2 else count
    if said[0].isdigit():
        return int(said[0]) - 1
    return (_ORDINALS if said in _ORDINALS else _CARDINALS).index(said)
