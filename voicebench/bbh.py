"""Spoken BIG-Bench Hard (bbh): what a response answers to a yes-or-no question, or to one with two options.

The subtasks: sports_understanding (is the sentence plausible?), navigate (does one end where one started?) and
web_of_lies (does the last person tell the truth?) want yes or no; hyperbaton (which adjective order is right?) wants
(A) or (B).
"""

import re

from evaluation.choices import parse_choice
from evaluation.discourse import after_second_thoughts, without_emphasis
from evaluation.terms import any_of, clean
from evaluation.yes_no import find_yes_no
from voicebench.mcq import spoken_choices
from voicebench.phrases import choosing, first_verdict, saying

ANSWERS = {
    "sports_understanding": ("yes", "no"),
    "navigate": ("yes", "no"),
    "web_of_lies": ("yes", "no"),
    "hyperbaton": ("(a)", "(b)"),
}


# --- the official rule ---------------------------------------------------------------------------------------------
#
# VoiceBench looks for phrases, collected from the answers of other models, in the lower-cased response without marks;
# the first on its list that occurs decides, and where none does it tosses a coin. Its slips stay ("must be lying" is a
# yes, "b" alone an A), since published numbers hold them. A line break stands for the response's beginning and end.

_YES_NO = {"no": "no", "yes": "yes"}
_TRUTH = {"false": "no", "true": "yes"}
_STATED = [  # for every yes-or-no question
    *choosing(_YES_NO, "answer is X", "the answer X", "final answer X", "i would answer X"),
    *choosing(_YES_NO, "the answer is without any modification X", "the answer to the question is X"),
    *choosing(_TRUTH, "the answer is X", "answer X", r"the answer is $\boxed{\text{X}}$"),
    *choosing(_YES_NO, r"the answer is \boxed{X}"),
    *choosing(_TRUTH, r"the answer is \boxed{\text{X}}"),
    *choosing(_YES_NO, r"the answer is \boxed{\text{X}}", "i will provide the answer as X", "prefix answer X"),
    *choosing(_YES_NO, "conclusion X"),
]
_BEGINNING, _END = choosing(_YES_NO, "\nX"), choosing(_YES_NO, "X\n")
_WEB_OF_LIES = [
    *saying("no", "the prefix no applies to the statement", "veena s statement cannot be true"),
    *saying("yes", "<therefore truly lorene|affirmatively alejandro> tells the truth", "the answer is the truth"),
    *saying(
        "no", "answer is ... <tells a lie|lies|says lie>", "answer is ... <doesn t|does not|didn t> tell the truth"
    ),
    *saying("yes", "answer is ... <tells|does tell> the truth"),
    *choosing(_YES_NO, "answer to the question ... is X"),
    *saying("yes", "from the above steps we can conclude that ... tells the truth"),
    *saying("no", "<does not tell the truth|cannot be telling the truth|is lying|tells the lie>\n"),
    *saying("yes", "<is also|must be|osvaldo is> telling the truth\n", "must be lying\n"),
    *saying("yes", "<tells|delfina does tell> the truth\n"),
    *saying("no", "lies\n"),
    *_BEGINNING,
    *_END,
]
_NAVIGATE = [
    *saying("no", "you <do not return to|are not at|haven t moved back to|cannot return to> the starting point"),
    *saying("yes", "you return to the starting point"),
    *saying("no", "you <are not facing|haven t returned to> the starting point"),
    *saying("yes", "you end up back at the starting point"),
    *saying("no", "you <are not back at|will not return to> the starting point"),
    *saying("yes", "yes following these instructions", "you ll end up right back where you started"),
    *saying("yes", "<we end up back at|we ve now returned to|indeed returns us to> the starting point"),
    *saying("yes", "indeed bring us back to the starting point", "i have returned to the starting position"),
    *saying("no", "the final position is not directly at the starting point"),
    *saying("no", "it appears that we did not return to the exact starting point"),
    *saying("no", "does not return us to the starting point"),
    *saying("yes", "<i will end up|i ll be> back where i started", "you ll end up back where you started"),
    *saying("yes", "i ll end up back at the starting point"),
    *saying("yes", "<indeed return|indeed return you|i ve returned> to the starting point"),
    *saying("yes", "we are <back at the starting point!|now back at the starting point>"),
    *saying("yes", "<after following these instructions we return|we have now returned> to the starting point"),
    *saying("yes", "following these instructions will always return us to the starting point"),
    *saying("yes", "the answer is the starting point"),
    *saying("no", "following these instructions doesn t return us to the starting point"),
    *saying("no", "following these directions does not lead you back to your original starting point"),
    *_BEGINNING,
    *_END,
]
_POINTS, _ANALYSIS = "considering these points", "based on this analysis"
_SPORTS = [
    *saying("yes", "final answer the sentence is plausible", "the answer is directly yes"),
    *saying("no", "no the sentence is not possible", "the answer is it is not possible"),
    *saying("yes", "the answer is the sentence is plausible"),
    *saying("no", "the sentence is not <|particularly >plausible"),
    *saying("yes", "yes the sentence is structurally plausible", "is the sentence plausible? yes it is"),
    *saying("no", "no the original sentence is not plausible", "it s not a plausible"),
    *saying("no", "to answer your original question no"),
    *saying("yes", "making it plausible"),
    *saying("no", "making it implausible"),
    *saying("yes", "it is indeed a plausible sentence", "i would say <|that >the sentence is plausible"),
    *saying("yes", f"{_POINTS} the sentence is plausible"),
    *saying(
        "no", "i d say it s not entirely plausible", "therefore not plausible", "making it an implausible statement"
    ),
    *saying("no", "the following sentence is not plausible", f"{_POINTS} the sentence is unlikely to be true"),
    *saying("yes", f"<yes|{_ANALYSIS}|given the context|considering these factors> the sentence is plausible"),
    *saying("yes", f"{_POINTS} the sentence seems plausible"),
    *saying("no", f"{_POINTS} the sentence is unlikely to be plausible"),
    *saying("yes", "given the context of sports particularly basketball this sentence is plausible"),
    *saying("yes", f"{_POINTS} the sentence is likely true", "considering these elements the sentence is plausible"),
    *saying("no", "i would say it s unlikely", "it seems unlikely"),
    *saying("yes", "given this analysis the sentence is plausible", f"{_POINTS} the sentence is the plausible"),
    *saying("no", "the sentence is not entirely <possible|accurate|plausible>"),
    *saying("yes", "the answer is plausible"),
    *saying("no", "modification of answer not possible"),
    *saying(
        "yes", "i would say that the sentence is generally plausible", "given these points the sentence is plausible"
    ),
    *saying("yes", f"{_POINTS} the sentence seems to be a plausible", "the sentence appears to be a plausible"),
    *saying("no", "\nnot plausible\n"),
    *saying("yes", f"{_POINTS} the sentence ... is <grammatically correct and makes sense|plausible>"),
    *saying("no", f"{_POINTS} the sentence ... is unlikely"),
    *saying("yes", f"<{_ANALYSIS}|based on these steps> the sentence ... is plausible"),
    *saying("yes", f"{_ANALYSIS} the sentence ... seems plausible"),
    *saying("yes", f"{_POINTS} the sentence ... <seems to be a possible|appears to be plausible|seems plausible>"),
    *saying("no", "the sentence ... is not very plausible"),
    *saying("yes", f"{_POINTS} ... is a plausible sentence", "the sentence ... is flexible and realistic"),
    *saying("yes", "given <this information|the context> the sentence ... is plausible"),
    *saying("no", f"{_POINTS} the sentence ... is not a plausible statement"),
    *saying("yes", "the sentence ... is not plausible"),
    *_BEGINNING,
    *saying("yes", "\nthe following sentence is plausible"),
    *_END,
]
_AB = {"a": "(a)", "b": "(b)"}
_ORDER, _RIGHT_ORDER = "adjective order", "the correct adjective order"
_HYPERBATON = [
    *saying("(a)", "\na\n", "\nb\n"),
    *choosing(_AB, "the answer is (X)", f"{_RIGHT_ORDER} is option (X)", "the correct grammatical order is X"),
    *choosing(_AB, "the correct sentence is option (X)", "the sentence with the correct adjectives is X"),
    *choosing(_AB, f"correct {_ORDER} options is X", "the correct <answer|option> is (X)"),
    *choosing(_AB, "the correct order of adjectives in the sentence is option X"),
    *choosing(
        _AB, "the correct sentence <would be option|is> (X)", f"the proper {_ORDER} is X", f"{_RIGHT_ORDER} is (X)"
    ),
    *choosing(_AB, f"correct {_ORDER} is X", "the adjectives in option X are in the correct order"),
    *choosing(_AB, f"the right {_ORDER} is X)", "the correct adjectivs is (X)", f"the right {_ORDER} is (X)"),
    *choosing(_AB, "correct adjectival order is X", f"the proper {_ORDER} is (X)", "the correct sentence order is X"),
    *choosing(_AB, f"option X correctly follows the standard {_ORDER}", "the answer directly is X"),
    *choosing(_AB, "the correct order would be option X", "final answer <should be |>X"),
    *choosing(_AB, "option (X) uses the correct adjective sequence", "the correct option is option X"),
    *choosing(_AB, "the answer is without any modification X", "the correct one is option X"),
    *choosing(_AB, "answer is without any modification X", "the answer is without any modification option X"),
    *choosing(_AB, "answer is X", "the answer is [X]"),
    *choosing(_AB, f"option X follows {_RIGHT_ORDER}", "the correct order of adjectives is X"),
    *choosing(_AB, "option (X) is the correct answer", "the correct <|object |answer >order is X"),
    *choosing(_AB, "the final answer without any modification is X", "the correct sentence is X"),
    *choosing(_AB, f"correct {_ORDER} <option is|is sentence> X", "correct objective order option is X"),
    *choosing(_AB, "the answer is is X", f"{_RIGHT_ORDER} is <|provided in >option X", "option X is more accurate"),
    *choosing(_AB, "answer is option X", "option X has the adjectives in the correct order"),
    *choosing(_AB, "option X is closer to being correct", "the most logical order is option X"),
    *choosing(
        _AB, "in option X the adjectives are in the correct order", f"sentence X is the closest to {_RIGHT_ORDER}"
    ),
    *choosing(_AB, "option X has the correct order", "sentence X has a more logical"),
    *choosing(_AB, "the closest correct order is option X", f"sentence X has {_RIGHT_ORDER}"),
    *choosing(_AB, "option X is the closest to the typical order", "the correct answer would be option X"),
    *choosing(_AB, "the correct option is X", f"option X has <a better {_ORDER}|{_RIGHT_ORDER}>"),
    *choosing(_AB, "option X seems to follow the typical order", "the correct order is found in option X"),
    *choosing({"first": "(a)", "second": "(b)"}, f"{_RIGHT_ORDER} is in the X option"),
    *choosing(_AB, "the correct adverb order would be X", "the correct answer would be the X"),
    *choosing(_AB, f"{_RIGHT_ORDER} is in <option|sentence> X", "the adjectives are in the correct order for X"),
    *choosing(_AB, "the answer is [option X]", f"option (X) has a correct {_ORDER}", "the correct sentence would be X"),
    *choosing(
        _AB, "option X follows the correct sequence of adjectives", "option X would be closer to the correct order"
    ),
    *choosing(_AB, f"the correct sentence with the {_ORDER} is X", "option X is more grammatically correct"),
    *choosing(_AB, "option X would be more correct"),
    *saying("(b)", "option a is incorrect and option b is correct"),
    *choosing(_AB, "option X is the closest match"),
    *saying("(b)", "option b follows the typical order of adjectives"),
    *choosing(
        _AB, f"the correct sentence <with the {_ORDER} |>is option X", "the correct objective order is in option X"
    ),
    *choosing(_AB, "the answer is option (X)", "the correct option would be (X)", "the correct order is in option X"),
    *choosing(_AB, f"{_RIGHT_ORDER} is found in option X", "option (X) follows the typical order of adjectives"),
    *choosing(_AB, f"option (X) <has {_RIGHT_ORDER}|follows the general {_ORDER}|would be more grammatically correct>"),
    *choosing(_AB, "option X is the correct", "option X <has the correct word|follows the correct> order"),
    *choosing({"first": "(a)", "second": "(b)"}, "following the typical order is the X option"),
    *choosing(_AB, "option X has a slightly better chance of being correct", "the answer is sentence X"),
    *choosing(_AB, "the final answer is (X)", "sentence X ... seems to have a more logical"),
    *choosing(_AB, f"{_RIGHT_ORDER} is ... option X", "\nX< |)>"),
]
PHRASES = {
    "sports_understanding": _STATED + _SPORTS,
    "navigate": _STATED + _NAVIGATE,
    "web_of_lies": _STATED + _WEB_OF_LIES,
    "hyperbaton": _HYPERBATON,
}
_MARKS = str.maketrans(dict.fromkeys(':"-,.：', " "))


def official_answer(subtask: str, response: str) -> str | None:
    """The answer by VoiceBench's phrases, one of ANSWERS[subtask]; None where it would toss a coin."""
    text = response.lower()
    text = text.removesuffix("<|user|>").strip() if text.endswith("<|user|>") else text
    text = text[3:].strip() if text.startswith(("<1>", "<2>", "<3>")) else text
    text = " ".join(text.replace("<|turn_end|>", "").replace("**", " ").translate(_MARKS).split())
    return first_verdict(f"\n{text}\n", PHRASES[subtask])


# --- the strict rule -----------------------------------------------------------------------------------------------

_NOT = r"\b(?:not|never|no way|no one|nobody|hardly|neither)\b"
_START = r"(?:the|your|our|my|its|where) (?:\w+ ){0,2}?(?:start\w*|began|begun|begin\w*|origin\w*)\b"
_STEPS = (
    r"\b(?:\d+|one|two|three|four|five|six|seven|eight|nine|ten|several|some|a few|many) "
    r"(?:steps?|units?|paces?|meters?|metres?)\b"
)
_NOT_WALKED = "".join(f"(?<!{verb} )" for verb in ("take", "took", "walk", "move", "moved", "go", "0"))
_HEDGES = re.compile(
    r"\b(?:whether|unknown|unclear|not (?:known|clear|certain|sure)|(?:can not|can|could) (?:be determined|tell|say))\b"
)
# For each subtask, a sentence that says no, and one that says yes once the former is taken out.
_IMPLIED = {
    "sports_understanding": (
        re.compile(any_of(r"(?<!not )\b(?:implausible|unlikely)\b", rf"{_NOT}(?: \w+){{0,3}} plausible\b")),
        re.compile(r"\bplausible\b"),
    ),
    "navigate": (
        re.compile(
            any_of(
                rf"{_NOT}(?: \w+){{0,6}} {_START}",
                rf"{_NOT_WALKED}{_STEPS}(?: \w+){{0,4}}? (?:from|of|off|away) (?:from )?{_START}",
            )
        ),
        re.compile(rf"\b(?:return\w*|back|end|ends|ended|at|brings?|finish\w*)(?: \w+){{0,4}}? {_START}"),
    ),
    "web_of_lies": (
        re.compile(
            any_of(
                r"(?<!no )(?<!no one )(?<!nobody )\b(?:lies|lied|lying|liar)\b",
                rf"{_NOT}(?: \w+){{0,2}} (?:the truth|truthful|honest)\b",
            )
        ),
        re.compile(
            any_of(
                r"(?<!no one )(?<!nobody )\b(?:tells?|telling|told|speaks?|speaking) the truth\b",
                r"\b(?:truthful|honest|truth-teller)\b",
            )
        ),
    ),
}
# Says nothing of where one ends.
_ELSEWHERE = re.compile(rf"\b(?:fac(?:es?|ing)|(?:start|begin)s?(?: at| from| out from)?|(?:leaves?|leaving)) {_START}")
# What somebody says of another: "Sam says Kim lies."
_REPORTED = re.compile(
    r"\b(?:says?|said|claims?|claimed|states?|stated)(?: that)? \w+ "
    r"(?:lies|lied|is lying|is a liar|tells? the truth|told the truth|is telling the truth|is truthful)\b"
)


def strict_answer(subtask: str, response: str, prompt: str = "") -> str | None:
    """The answer that `response` plainly gives, one of ANSWERS[subtask]; None if it gives none, or two."""
    if subtask == "hyperbaton":
        index = parse_choice(response, spoken_choices({"prompt": prompt}, "AB"))
        return None if index is None else ANSWERS[subtask][index]
    text = without_emphasis(clean(response)).casefold()
    for shown in (*after_second_thoughts(text), text):
        said = {"no" if word in ("no", "false") else "yes" for word, _, _ in find_yes_no(shown)}
        if not said and not _HEDGES.search(shown):
            no, yes = _IMPLIED[subtask]
            shown = _ELSEWHERE.sub(" ", shown)
            own = _REPORTED.sub(" ", shown)  # what is not another's word; nothing, and nothing is said
            if no.search(own) or yes.search(own):
                said = {
                    word for word, found in (("no", no.search(shown)), ("yes", yes.search(no.sub(" ", shown)))) if found
                }
        if said:
            return said.pop() if len(said) == 1 else None
    return None


def subtask_of(record: dict) -> str:
    """The subtask that the record's `id` tells. Raises ValueError for an id that tells none."""
    for subtask in ANSWERS:
        if subtask in str(record["id"]):
            return subtask
    raise ValueError(f"id {record['id']!r} names none of the subtasks {', '.join(ANSWERS)}: mend it")


def judge_bbh(record: dict, response: str) -> dict:
    """The Verdict's fields; `first` is for always saying yes, or (A). Raises ValueError for an unknown answer."""
    subtask = subtask_of(record)
    reference = str(record["reference"]).strip().lower()
    if reference not in ANSWERS[subtask]:
        raise ValueError(f"reference {record['reference']!r} is not one of {' and '.join(ANSWERS[subtask])}: mend it")
    parsed = strict_answer(subtask, response, str(record.get("prompt") or ""))
    official = official_answer(subtask, response)
    return {
        "official": 1 / 2 if official is None else official == reference,
        "undecided": official is None,
        "strict": parsed == reference,
        "parsed": parsed,
        "chance": 1 / 2,
        "first": reference == ANSWERS[subtask][0],
        "groups": {"subtask": subtask},
    }
