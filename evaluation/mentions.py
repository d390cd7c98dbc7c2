"""The choices that an answer names, how plainly, and which of them it dismisses.

A choice is named by its label or by its text. What stands around a name is looked at by rules of one line each, with an
example behind them; texts come cleaned (`terms.clean`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from evaluation.discourse import SENTENCE_END
from evaluation.labels import Label, find_labels
from evaluation.offered import Offered, without_labels
from evaluation.terms import MAX_LEAD, Term, any_of, clean, find_row, lead_of
from evaluation.yes_no import find_yes_no

# How plainly a choice is named: somewhere in a sentence; as a label, or by a whole sentence; where an answer is
# announced ("the answer is"); as the final answer.
PASSING, GIVEN, ANNOUNCED, FINAL = range(4)

# Choices of such words alone stand in any sentence: they are taken only where they are announced or the whole answer.
_COMMON = {
    "a", "an", "the", "to", "of", "in", "on", "at", "and", "or", "it", "is", "be", "i", "he", "she", "they",
    "we", "you", "this", "that", "not", "none", "all", "both",
}  # fmt: skip
_YES_NO = {"yes", "no", "true", "false"}


@dataclass(frozen=True)
class Mention:
    """A choice named in an answer, from `start` to `end`."""

    index: int
    start: int
    end: int
    level: int = PASSING
    denied: bool = False
    label: bool = False


def find_mentions(text: str, offered: Offered) -> list[Mention]:
    """The choices that `text` names, in order, with how plainly, and whether they are dismissed."""
    labels = find_labels(text, offered.choices)
    texts = _texts(text, offered, labels)
    covered = {place for m in texts if len(offered.rows[m.index]) > 1 for place in range(m.start, m.end)}
    by_label = []
    for label in labels:
        if label.start in covered and label.end - 1 in covered:
            continue  # "Plan A", where that is a choice
        own = [index for index, words in offered.words.items() if label.letter and words == [label.letter]]
        places = [label.place] if label.place < len(offered.choices) else []
        by_label += [Mention(index, label.start, label.end, label=True) for index in dict.fromkeys([*places, *own])]
    found = sorted([*texts, *by_label], key=lambda mention: (mention.start, mention.end))
    found = [replace(mention, level=_level(text, mention)) for mention in found]
    found = [_attached(text, m, found[max(0, place - 3) : place]) for place, m in enumerate(found)]
    for row in _rows(text, found):  # "it could be a cat or a dog": both are said as plainly
        top = max(found[place].level for place in row)
        for place in row:
            found[place] = replace(found[place], level=top)
    return _with_denials(text, found)


def most_plain(text: str, mentions: Sequence[Mention], alike: Sequence[int]) -> int | None:
    """The one choice that is named most plainly and not dismissed; None where there are two.

    `alike` is that of `Offered`; one mention at least must not be dismissed.
    """
    affirmed = [mention for mention in mentions if not mention.denied]
    top = max(mention.level for mention in affirmed)
    named = [mention for mention in affirmed if mention.level == top]
    given = {mention.index for mention in affirmed if mention.label and mention.level == GIVEN}
    first = min(affirmed, key=lambda mention: mention.start)
    answers_first = first.label and not text[: first.start].strip(" ([\"'") and not _STATEMENT.match(text, first.end)
    if answers_first and len(given) <= 2 and top < FINAL:  # more than two: the choices are repeated
        named.append(first)  # "A. The answer is B" contradicts itself
    if len({alike[mention.index] for mention in named}) > 1:
        return None
    return next((mention.index for mention in named if mention.label), named[0].index)


def _texts(text: str, offered: Offered, labels: Sequence[Label]) -> list[Mention]:
    """Choices whose words stand in a row, longest first; a text inside a longer one does not count."""
    terms = offered.terms(text, labels)
    said, taken, found = [term.word for term in terms], [False] * len(terms), []
    named: dict[tuple[str, ...], list[int]] = {}  # choices by their words, which several may have
    for index, row in offered.rows.items():
        named.setdefault(tuple(row), []).append(index)
    for indices in sorted(named.values(), key=lambda indices: -len(offered.rows[indices[0]])):
        row = offered.rows[indices[0]]
        if row and set(row) <= _YES_NO:
            given = [Mention(indices[0], a, b, GIVEN) for word, a, b in find_yes_no(text) if [word] == row]
            found += [replace(m, index=index) for m in given for index in _meant(text, m, offered, indices, labels)]
            continue
        if not row or (len(row) == 1 and re.fullmatch("[a-z]", row[0])):
            continue  # a single letter is found as a label
        place = find_row(row, said)
        while place is not None:
            span = slice(place, place + len(row))
            mention = Mention(indices[0], terms[place].start, terms[place + len(row) - 1].end)
            in_passing = set(row) <= _COMMON or (row[0] == "a" and text[mention.start] == "a")  # "in a minor key"
            counts = row[0].isdigit() and _is_bound(text, terms, span)
            if not any(taken[span]) and not counts and (not in_passing or _level(text, mention) >= ANNOUNCED):
                taken[span] = [True] * len(row)
                found += [replace(mention, index=index) for index in _meant(text, mention, offered, indices, labels)]
            place = find_row(row, said, place + 1)
    return [] if len(found) == 1 and not labels and _is_one_of_two(text, found[0]) else found


def _meant(
    text: str, mention: Mention, offered: Offered, indices: Sequence[int], labels: Sequence[Label]
) -> Sequence[int]:
    """Of choices whose words are the same ("-5 dB", "5 dB"), the one that stands there letter by letter; else all.

    None of them where the label of one stands before: "A. I never said it", of choices that differ in their stress.
    """
    if len(indices) == 1:
        return indices
    lengths, texts = {}, without_labels(offered.choices)
    for index in indices:
        choice = clean(texts[index])
        first, last = max(0, mention.end - len(choice)), mention.start  # where it may begin
        if any(text.startswith(choice, start) for start in range(first, last + 1)):
            lengths[index] = len(choice)
    longest = [index for index in lengths if lengths[index] == max(lengths.values())]
    if len(longest) == 1 and not _LOOSE_SIGN.search(lead_of(text, mention.start + 1)):
        return longest
    before = [label for label in labels if label.place in indices and label.end <= mention.start]
    return [] if any(_ATTACHED.fullmatch(text[label.end : mention.start]) for label in before) else indices


_LOOSE_SIGN = re.compile(r"-\s+\d$")  # "- 5 dB": a minus, or a dash
_AND_BEFORE = re.compile(r"(?:an?|the|some) (?:[\w-]+ ){1,3}and (?:(?:an?|the|some) )?", re.IGNORECASE)
_AND_BEHIND = re.compile(r" and (?:an?|the|some)(?: [\w-]+){1,3}\s*[.!]?\s*$", re.IGNORECASE)


def _is_one_of_two(text: str, mention: Mention) -> bool:
    """Whether the whole answer is a choice and another thing: "a clock and footsteps", where only the latter is one."""
    before = text[: mention.start]
    alone = before.strip().casefold() in ("", "a", "an", "the", "some")
    return bool(_AND_BEHIND.match(text, mention.end) if alone else _AND_BEFORE.fullmatch(before)) and bool(
        alone or re.fullmatch(r"\s*[.!]?\s*", text[mention.end :])
    )


def _is_bound(text: str, terms: Sequence[Term], span: slice) -> bool:
    """Whether a number is the end of a range: "between 10 and 20 seconds", "2-4", "3 or 4", "over 5", "3 or more"."""
    before = ["", "", "", "", *(term.word for term in terms[max(0, span.start - 4) : span.start])]
    behind = [*(term.word for term in terms[span.stop : span.stop + 2]), "", ""]
    if before[-1] in ("over", "under", "above", "below") or (before[-1] == "and" and "between" in before[-4:-2]):
        return True
    if before[-1] == "between" and behind[0] == "and" and behind[1].isdigit():
        return True
    if (before[-1] in ("to", "or") and before[-2].isdigit()) or (before[-1].isdigit() and _dashed(text, terms, span)):
        return True
    return (behind[0] in ("to", "or") and (behind[1].isdigit() or behind[1] in ("more", "less", "fewer"))) or (
        behind[0].isdigit() and _dashed(text, terms, slice(span.stop, span.stop + 1))
    )


def _dashed(text: str, terms: Sequence[Term], span: slice) -> bool:
    """Whether a hyphen joins the words at `span` to the one before."""
    return text[terms[span.start - 1].end : terms[span.start].start].strip() == "-"


# --- how plainly ---------------------------------------------------------------------------------------------------

_FINAL_WORDS = any_of(r"\bfinal (?:answer|choice)\b", r"\bconclu\w+")
_ANSWER_WORDS = any_of(
    r"\b(?:answers?|choose|chose|select|pick|go with|leaving|leaves|lean(?:ing)? (?:towards?|to))\b",
    r"\b(?:correct|right|best) (?:option|choice|one|sentence)\b",
    r"\b(?:antwort|respuesta|réponse|reponse|risposta|resposta)\b|答案|正解|答え|정답|답",
)
# Between such words and a text: "the answer is most likely the ..."
_COPULA = (
    r"(?:[\s\"'(\[:,=-]|\b(?:is|be|was|would|should|must|could|most|likely|that|it|option|choice|definitely|probably|"
    r"clearly|therefore|a|an|the|to)\b|は|是|为|為)*$"
)
_FINAL_LABEL = re.compile(_FINAL_WORDS, re.IGNORECASE)
_ANNOUNCED_LABEL = re.compile(_ANSWER_WORDS, re.IGNORECASE)
_FINAL_TEXT = re.compile(_FINAL_WORDS + _COPULA, re.IGNORECASE)
_ANNOUNCED_TEXT = re.compile(_ANSWER_WORDS + _COPULA, re.IGNORECASE)
_ASSERTED_TEXT = re.compile(  # "it is probably a", "it was a dog, then a"
    r"\bit (?:is|was)\b.{1,60},? then (?:(?:a|an|the)\s+)?$"
    r"|\b(?:it|this|that)\b\s+(?:\w+\s+){0,2}?(?:is|was|be|like)\s+(?:(?:a|an|the|probably|likely|definitely|clearly)\s+)*$",
    re.IGNORECASE,
)
_STATEMENT = re.compile(r"\s+(?!because|since|as\b)[a-z]")  # "A is tempting": no answer by its place alone
_IS_RIGHT = re.compile(  # "B is the best answer"
    r"[)\]\"']*\s+(?:is|was|must be|seems|it is|sounds|fits)\b(?:\s+(?:the|probably|definitely|clearly|most))*\s*"
    r"(?:correct|right|best|answer|one|likely|it\b|$|[.!\n])",
    re.IGNORECASE,
)
_ENDS = re.compile(r"[\"')\]]*\s*(?:$|[.,;!?\n])")
_ATTACHED = re.compile(  # between a label and its text: "B. Cat", "B, which is a cat"
    r"[\s)\].,:;\"'(=-]*(?:(?:which is|which means|meaning|i\.e\.|is|a|an|the)\s+)*", re.IGNORECASE
)


def _level(text: str, mention: Mention) -> int:
    before, after = lead_of(text, mention.start), text[mention.end : mention.end + MAX_LEAD]
    sentence = before[max((m.end() for m in SENTENCE_END.finditer(before)), default=0) :]
    if mention.label:
        if _FINAL_LABEL.search(sentence):
            return FINAL
        return ANNOUNCED if _ANNOUNCED_LABEL.search(sentence) or _IS_RIGHT.match(after) else GIVEN
    if _FINAL_TEXT.search(before):
        return FINAL
    if _ANNOUNCED_TEXT.search(before):
        return ANNOUNCED
    begins = sentence.strip(" \"'([").casefold() in ("", "a", "an", "the")
    alone = begins and re.match(r"[\"')\]]*\s*(?:$|[.!?\n])", after)
    return GIVEN if mention.level == GIVEN or alone or _ASSERTED_TEXT.search(sentence) else PASSING


def _attached(text: str, mention: Mention, earlier: Sequence[Mention]) -> Mention:
    """A text that follows a label at once, and ends there, is said as plainly as the label: "B. Cat".

    `earlier` are the mentions just before it.
    """
    if mention.label or not _ENDS.match(text, mention.end):
        return mention
    before = [other for other in earlier if other.end <= mention.start]
    if before and before[-1].label and _ATTACHED.fullmatch(text[before[-1].end : mention.start]):
        return replace(mention, level=max(mention.level, before[-1].level))
    return mention


# --- what is dismissed ---------------------------------------------------------------------------------------------

_CLAUSE_END = re.compile(r"[.,:;!?\n()-]")
_FILLERS = (
    r"(?:a|an|the|any|some|of|to|as|be|been|being|is|are|was|were|it|that|this|there|i|we|think|believe|say|sure|"
    r"certain|clear|really|actually|quite|very|exactly|necessarily|just|only|like|hear|heard|hearing|sound|sounds|sounding|option|"
    r"choice|answer|letter|correct|right|either|have|do|did|does|plan)"
)
_DENIED_BEFORE = re.compile(
    any_of(
        r"\b(?:not|never|neither|nor|no|no longer|without|hardly)\b",
        r"\b(?:except|excluding|exclude[sd]?|eliminat\w+|dismiss\w*|discard\w*|reject\w*|rul\w+ out|besides)\b",
        r"\b(?:unlike|instead|rather|than|opposed)\b",  # "instead of A", "rather than A"
        r"\b(?:choose|chose|pick|prefer|select|take)\b[^.;!?\n]*\bover\b",
        r"\b(?:doubt\w*|whether|if|impossible|unlikely|improbable)\b",
        r"\b(?:anything|all|everything) but\b",
        r"\b(?:wrong|incorrect|false|worst) (?:answer|option|choice|one)\b",
    )
    + rf"(?:[\s\"']+{_FILLERS}\b)*[\s\"'(\[]*$"
    + r"|(?:不|没|沒|非|无|無|別|别)(?:是|有|像|会|會|选|選|\s)*[\s\"'(\[]*$",
    re.IGNORECASE,
)
_DENIED_BEHIND = re.compile(
    any_of(
        # "A (the dog) is clearly not", "A is wrong", "A can be ruled out"
        r"[)\]\"']*(?:\s*[,(]\s*[^,.;()!?\n]{1,40}[,)])?\s*,?\s*"
        r"\b(?:is|are|was|were|seems?|looks?|can|could|does|do|did|would|may|must)\b\s+"
        r"(?:be |also |both |all |clearly |certainly |definitely |probably |likely |most |highly |simply )*"
        r"(?:not|never|too|wrong|incorrect|false|out|unlikely|implausible|impossible|absent|inaudible|missing|"
        r"ruled out|excluded|eliminated|be (?:ruled|excluded|eliminated|dismissed|discarded))\b",
        r"\s+not(?=\s*(?:$|[.,!;]))",  # "A not, B"
        r"\s*\?\s*(?:i (?:really )?(?:doubt|do not think)|no\b|unlikely|hardly|not\b)",  # "a cat? I doubt it"
        r"\s*(?:の声|の音)?(?:では|じゃ)(?:ない|なく|ありません)",
        r"\s*[은는이가]?\s*아[니닙]",
    ),
    re.IGNORECASE,
)
_BESIDE = re.compile(  # between two names in a row: "A, B and C are wrong"
    r"[)\]\"'\s]*(?:,|/|,?\s*\b(?P<joined>and|or|nor)\b|和|与|或)?\s*(?:(?:the|a|an|option|choice|either)\s+)*[(\[\"']*",
    re.IGNORECASE,
)


def _with_denials(text: str, found: list[Mention]) -> list[Mention]:
    """Mark what is dismissed: by what stands before it, behind it, or before or behind the row that it stands in."""
    denied = []
    for mention in found:
        clause = _CLAUSE_END.split(lead_of(text, mention.start).rstrip("([\"' "))[-1]
        behind = _DENIED_BEHIND.match(text, mention.end)
        denied.append(bool(behind) or bool(_DENIED_BEFORE.search(clause)))
    for row in _rows(text, found):
        if denied[row[0]] or _DENIED_BEHIND.match(text, found[row[-1]].end):
            for place in row:
                denied[place] = True
    return [replace(mention, denied=mark) for mention, mark in zip(found, denied, strict=True)]


def _rows(text: str, found: Sequence[Mention]) -> list[list[int]]:
    """Places in `found` of names side by side, joined by "and", "or" or "nor"."""
    rows, joined = [[0]] if found else [], [False]
    for place in range(1, len(found)):
        before, mention = found[place - 1], found[place]
        between = _BESIDE.fullmatch(text[before.end : mention.start]) if before.end <= mention.start else None
        if between and between[0].strip():
            rows[-1].append(place)
            joined[-1] |= bool(between["joined"])
        else:
            rows.append([place])
            joined.append(False)
    return [row for row, is_joined in zip(rows, joined, strict=False) if is_joined]
