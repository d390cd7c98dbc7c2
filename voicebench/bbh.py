"""Spoken BIG-Bench Hard (bbh): what a response answers to a yes-or-no question, or to one with two options.

The subtasks: sports_understanding (is the sentence plausible?), navigate (does one end where one started?) and
web_of_lies (does the last person tell the truth?) want yes or no; hyperbaton (which adjective order is right?) wants
(A) or (B).
"""

import re

from evaluation.choices import parse_choice
from voicebench.mcq import spoken_choices

ANSWERS = {
    "sports_understanding": ("yes", "no"),
    "navigate": ("yes", "no"),
    "web_of_lies": ("yes", "no"),
    "hyperbaton": ("(a)", "(b)"),
}


# --- the official rule ---------------------------------------------------------------------------------------------
#
# VoiceBench looks for phrases, collected from the answers of other models, in the lower-cased response without marks;
# the first on its list that occurs decides. Here they are folded into families, in about the same order. Its slips stay
# ("must be lying" is a yes, "b" alone an A), since published numbers hold them. Where nothing matches it draws lots;
# here such a response is wrong.


def _phrases(*pairs: tuple[str, str]) -> list[tuple[str, re.Pattern]]:
    return [(answer, re.compile(pattern.replace("SO the sentence", _SO_THE_SENTENCE))) for answer, pattern in pairs]


_MARKS = str.maketrans(dict.fromkeys(':"-,.：', " "))
_STATED = [  # for every yes-or-no question; of two that occur, no wins
    re.compile(pattern)
    for pattern in (
        r"answer is (no|yes)",
        r"(?:the|final|i would) answer (no|yes)",
        r"(?:answer is without any modification|the answer to the question is) (no|yes)",
        r"answer (?:is )?(false|true)",
        r"the answer is (?:\\boxed\{)?\$?(?:\\boxed\{)?(?:\\text\{)?(false|true|no|yes)\}",
        r"(?:i will provide the answer as|prefix answer|conclusion) (no|yes)",
    )
]
_SO_THE_SENTENCE = (
    r"(?:final answer|the answer is|yes|i would say(?: that)?|(?:based on|given) this analysis|given these points|"
    r"given the context|considering these (?:points|factors|elements)) the sentence"
)
_PHRASES = {
    "web_of_lies": _phrases(
        ("no", r"the prefix no applies to the statement|veena s statement cannot be true"),
        ("yes", r"(?:therefore truly lorene|affirmatively alejandro) tells the truth|the answer is the truth"),
        ("no", r"answer is .+? (?:tells a lie|lies|says lie|does not tell the truth)"),
        ("yes", r"answer is .+? (?:tells|does tell) the truth"),
        ("no", r"answer to the question .+? is no"),
        ("yes", r"answer to the question .+? is yes|from the above steps we can conclude that .+? tells the truth"),
        ("no", r"(?:does not tell the truth|cannot be telling the truth|is lying|tells the lie)\Z"),
        ("yes", r"(?:must be lying|tells the truth|(?:is also|must be) telling the truth)\Z"),
        ("yes", r"(?:delfina does tell|osvaldo is telling) the truth\Z"),
        ("no", r"lies\Z"),
    ),
    "navigate": _phrases(
        ("no", r"you (?:do not|cannot) return to the starting point|you are not at the starting point"),
        ("yes", r"you return to the starting point"),
        ("no", r"you are not facing the starting point"),
        ("yes", r"you end up back at the starting point"),
        ("no", r"you (?:are not back at|will not return to) the starting point"),
        ("yes", r"yes following these instructions|we end up back at the starting point|"
                r"i have returned to the starting position|indeed (?:returns us|bring us back) to the starting point"),
        ("no", r"the final position is not directly at the starting point|does not return us to the starting point|"
               r"it appears that we did not return to the exact starting point"),
        ("yes", r"(?:indeed return(?: you)?|instructions (?:we|will always) return(?: us)?|we have now returned) "
                r"to the starting point|we are (?:now back at the starting point|back at the starting point!)|"
                r"the answer is the starting point|i will end up back where i started"),
        ("no", r"following these directions does not lead you back to your original starting point"),
    ),
    "sports_understanding": _phrases(
        ("yes", r"the answer is directly yes|(?:final answer|the answer is) the sentence is plausible"),
        ("no", r"no the sentence is not possible|the answer is it is not possible|"
               r"the sentence is not (?:particularly )?plausible"),
        ("yes", r"the sentence is structurally plausible|is the sentence plausible\? yes it is"),
        ("no", r"no the original sentence is not plausible|to answer your original question no"),
        ("yes", r"making it plausible"),
        ("no", r"making it (?:an )?implausible|therefore not plausible|the following sentence is not plausible"),
        ("yes", r"it is indeed a plausible sentence"),
        ("yes", r"SO the sentence (?:is|seems) (?:the |generally )?plausible"),
        ("no", r"considering these points the sentence is unlikely"),
        ("yes", r"this sentence is plausible|considering these points the sentence is likely true"),
        ("no", r"it seems unlikely|the sentence is not entirely (?:possible|accurate|plausible)"),
        ("yes", r"the answer is plausible"),
        ("no", r"modification of answer not possible"),
        ("yes", r"the sentence (?:seems to be|appears to be) a plausible"),
        ("no", r"\Anot plausible\Z"),
        ("yes", r"considering these points the sentence .+? is (?:grammatically correct and makes sense|plausible)"),
        ("no", r"considering these points the sentence .+? is unlikely"),
        ("yes", r"(?:considering these points|based on this analysis|based on these steps|given this information|"
                r"given the context) the sentence .+? (?:is|seems|appears to be|seems to be a) (?:plausible|possible)"),
        ("no", r"the sentence .+? is not very plausible"),
        ("yes", r"considering these points .+? is a plausible sentence|the sentence .+? is flexible and realistic"),
        ("no", r"considering these points the sentence .+? is not a plausible statement"),
        ("yes", r"the sentence .+? is not plausible"),
    ),
}  # fmt: skip
_ORDERS = [  # X is the letter; of two that occur, a wins
    re.compile(pattern.replace("X", "([ab])"))
    for pattern in (
        r"(?:the (?:final |correct )?answer|the correct (?:option|sentence|adjectivs)|the (?:correct|right|proper) "
        r"adjective order) is (?:option )?\(X\)|the correct (?:sentence|option) would be (?:option )?\(X\)",
        r"(?:correct|proper|right) adject(?:ive|ival) order(?: options?)? is X|the right adjective order is X\)",
        r"(?:the adjectives in|in) option X (?:the adjectives )?are in the correct order",
        r"the correct sentence (?:order |with the (?:correct )?adjective order )?is X",
        r"option \(?X\)? (?:correctly )?(?:follows|has|uses) (?:the|a) (?:correct|better|standard|typical|general) "
        r"(?:order|sequence|word order|adjective order|adjective sequence)",
        r"answer (?:directly is|is without any modification(?: option)?|is(?: is| option| sentence)?) \[?(?:option )?X",
        r"final answer (?:should be )?X|the final answer without any modification is X",
        r"option \(?X\)? is the correct|option (?:a is incorrect and option X is correct)",
        r"the correct (?:order of adjectives|order|object order|answer order|option) is X",
        r"(?:adjective order is sentence|objective order option is|the correct adverb order would be|"
        r"the correct (?:sentence|answer) would be(?: the| option)?) X",
        r"the correct order would be option X|the (?:correct (?:option|one|adjective order|sentence|sentence with the "
        r"adjective order)|(?:most logical|closest correct) order) is option X",
        r"the correct (?:adjective |objective )?order is (?:in|found in|provided in) (?:option|sentence) X",
        r"option X (?:is more accurate|is closer to being correct|is the closest (?:match|to the typical order))",
        r"sentence X (?:is the closest to|has) the correct adjective order|sentence X has a more logical",
        r"option X has the adjectives in the correct order|the adjectives are in the correct order for X",
        r"option \(?X\)? (?:is|would be) (?:more (?:grammatically )?correct|closer to the correct order)",
        r"option X (?:seems to follow the typical order|has a slightly better chance of being correct)",
        r"sentence X .+? seems to have a more logical|the correct adjective order is .+? option X",
        r"\AX[ )]",
    )
]  # fmt: skip
_ORDINALS = re.compile(r"(?:correct adjective order is in|following the typical order is) the (first|second) option")


def official_answer(subtask: str, response: str) -> str | None:
    """The answer by VoiceBench's phrases, one of ANSWERS[subtask]; None where it would draw lots."""
    text = response.strip().lower().removesuffix("<|user|>").strip()
    text = text[3:].strip() if text.startswith(("<1>", "<2>", "<3>")) else text
    text = " ".join(text.replace("<|turn_end|>", "").replace("**", " ").translate(_MARKS).split())
    if subtask == "hyperbaton":
        return _official_order(text)
    for pattern in _STATED:
        said = {match[match.lastindex] for match in pattern.finditer(text)}
        if said:
            return "no" if said & {"no", "false"} else "yes"
    for answer, pattern in _PHRASES[subtask]:
        if pattern.search(text):
            return answer
    ends = [word for word in ("no", "yes") if text.startswith(word)] + [w for w in ("no", "yes") if text.endswith(w)]
    return ends[0] if ends else None


def _official_order(text: str) -> str | None:
    if text in ("a", "b"):
        return "(a)"
    for pattern in _ORDERS:
        letters = {match[match.lastindex] for match in pattern.finditer(text)}
        if letters:
            return f"({min(letters)})"
    ordinal = _ORDINALS.search(text)
    return None if not ordinal else {"first": "(a)", "second": "(b)"}[ordinal[1]]


# --- the strict rule -----------------------------------------------------------------------------------------------

_MARKUP = re.compile(r"<\|[^|>]*\|>|\\(?:boxed|text|textbf)\b|[*_`{}$\\]")
# A word that answers is followed by the end, a mark, or the subject of a sentence: not "no one", not "yes men".
_WORD = (
    r"(?P<said>yes|no|true|false)\b(?=\s*(?:$|[^\w\s])"
    r"|\s+(?:the|this|that|these|it|you|i|we|he|she|they|there|because|since|as)\b)"
)
_SAID = [
    re.compile(pattern)
    for pattern in (
        rf"^[\"'(\[\s]*{_WORD}",
        rf"\b(?:answer|conclusion)\b(?: \w+){{0,5}}?[\s,:]*(?:is\b)?[\s,:\"'(\[]*{_WORD}",
        r"(?:[^\w\s]|\b(?:so|therefore|thus|hence))\s*[\"'(\[]*(?P<said>yes|no)[^\w]*$",
    )
]
_OPTION = re.compile(r"\b(?:option|sentence) \(?([ab])\b\)?", re.IGNORECASE)
_NOT = r"(?:\bnot|n't|\bcannot|\bnever|\bno one|\bnobody)"
_END = r"(?:starting (?:point|position|place)|start\b|where \w+ (?:started|began))"
_IMPLIED = {  # a sentence that says no, and one that says yes once the former is taken out
    subtask: (re.compile(no), re.compile(yes))
    for subtask, no, yes in (
        ("sports_understanding", rf"\b(?:implausible|unlikely)\b|{_NOT}(?: \w+){{0,3}} plausible", r"\bplausible\b"),
        ("navigate", rf"{_NOT}(?: \w+){{0,6}} {_END}", rf"\b(?:return\w*|back|end up|at)(?: \w+){{0,4}} {_END}"),
        ("web_of_lies", rf"\b(?:lies|lied|lying)\b|{_NOT}(?: \w+){{0,2}} the truth", r"\btell(?:s|ing)? the truth\b"),
    )
}  # fmt: skip


def strict_answer(subtask: str, response: str, prompt: str = "") -> str | None:
    """The answer that `response` plainly gives, one of ANSWERS[subtask]; None if it gives none, or two."""
    if subtask == "hyperbaton":
        labelled = _OPTION.sub(lambda match: f"({match[1].upper()})", response)  # "option b has ..." names a letter
        index = parse_choice(labelled, spoken_choices({"prompt": prompt}, "AB"))
        return None if index is None else ANSWERS[subtask][index]
    text = _MARKUP.sub(" ", response).replace("’", "'").casefold().strip()
    said = {"no" if match["said"] in ("no", "false") else "yes" for p in _SAID for match in p.finditer(text)}
    if not said:
        no, yes = _IMPLIED[subtask]
        said = {answer for answer, found in (("no", no.search(text)), ("yes", yes.search(no.sub("", text)))) if found}
    return said.pop() if len(said) == 1 else None


def subtask_of(record: dict) -> str:
    """The subtask that the record's `id` tells. Raises ValueError for an id that tells none."""
    for subtask in ANSWERS:
        if subtask in str(record["id"]):
            return subtask
    raise ValueError(f"id {record['id']!r} names none of the subtasks {', '.join(ANSWERS)}")


def judge_bbh(record: dict, response: str) -> dict:
    """The Verdict's fields; `first` is for always saying yes, or (A). Raises ValueError for an unknown answer."""
    subtask = subtask_of(record)
    reference = str(record["reference"]).strip().lower()
    if reference not in ANSWERS[subtask]:
        raise ValueError(f"reference {record['reference']!r} is not one of {' and '.join(ANSWERS[subtask])}")
    parsed = strict_answer(subtask, response, str(record.get("prompt") or ""))
    return {
        "official": official_answer(subtask, response) == reference,
        "strict": parsed == reference,
        "parsed": parsed,
        "chance": 1 / 2,
        "first": reference == ANSWERS[subtask][0],
        "groups": {"subtask": subtask},
    }
