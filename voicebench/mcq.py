"""Multiple choice with four spoken options (openbookqa, mmsu): which letter a response gives."""

import re
from dataclasses import replace

from evaluation.choices import parse_choice
from evaluation.result_files import Result, answer_of
from evaluation.scoring import percent
from voicebench.scored import Scored, score_verdicts
from voicebench.subsets import ANSWER_FIELDS

LETTERS = "ABCD"

# VoiceBench finds the letter by a long ordered list of phrases in the lower-cased response. Here they are folded into
# families, X standing for the letter, tried in the same order: statements, then marked letters, then a leading one.
_OPENING = r"[\s*\"'(\[\\{}-]*(?:\\?(?:boxed|text|textbf|mathbf)\{(?:\\text\{)?)?"
_PHRASES = [
    re.compile(pattern.replace("OPENING", _OPENING))
    for pattern in (
        r"答案(?:就|应该)?[是选](?:选项)?[ ']?(?P<X>[a-d])|(?:选项)?(?P<Y>[a-d])是(?:正确|最合适的)",
        r"answer (?:to the (?:multiple-choice )?question )?is:? \*\*(?P<X>[a-d])",
        r"(?P<X>[a-d]) is the best answer",
        r"the (?:correct )?answer is (?P<X>[a-d])",
        r"would (?:select|choose) (?:option )?(?P<X>[a-d])",
        r"\bis \"(?P<X>[a-d])[\".]",
        r"\bwould be (?:option )?\(?(?P<X>[a-d])",
        r"\b(?:is|be|was|as|to|with|option|suggests|say)\b(?: (?:typically|likely|most|often|the|therefore|option|to))*"
        r":?OPENING(?P<X>[a-d])(?:[.,:)\"'*}]| \(| ?\\)",
        r"(?:option \*\*|is \\\( \\boxed\{)(?P<X>[a-d]) ",
        r":\s*\n\s*(?P<X>[a-d])[.,):]",
        r"is:\s*(?:\*\*)?(?P<X>[a-d])",
        r" (?P<X>[a-d])\.",
        r" (?P<X>[a-d]),",
        r" (?P<X>[a-d]):",
        r" (?P<X>[a-d])\)",
        r"\*\*(?P<X>[a-d])[.)]",
        r"\"(?P<X>[a-d])[.,:]",
        r"\((?P<X>[a-d])\)",
        r"\"(?P<X>[a-d])\"",
        r"^(?P<X>[a-d])(?:\Z|[.,:)])",
    )
]


def official_letter(response: str) -> str | None:
    """The letter by VoiceBench's phrases: the first phrase that occurs decides, and for it the first letter."""
    text = response.strip().lower()
    text = text[3:].strip() if text.startswith(("<1>", "<2>", "<3>")) else text
    for phrase in _PHRASES:
        letters = {letter for match in phrase.finditer(text) for letter in match.groupdict().values() if letter}
        if letters:
            return min(letters).upper()
    return None


def spoken_choices(record: dict, letters: str = LETTERS) -> list[str]:
    """The options' texts, read off lines such as "B. text" of the prompt; empty texts where there are none."""
    line = rf"^\s*\(?([{letters}])[.):]\s*(\S.*?)\s*$"
    found = dict(re.findall(line, str(record.get("prompt") or ""), re.MULTILINE))
    return [found.get(letter, "") for letter in letters]


def judge_mcq(record: dict, response: str) -> dict:
    """The Verdict's fields for a question with four options, of which `reference` is the right letter."""
    reference = str(record["reference"]).strip().upper()
    index = parse_choice(response, spoken_choices(record))
    parsed = None if index is None else LETTERS[index]
    return {
        "official": official_letter(response) == reference,
        "strict": parsed == reference,
        "parsed": parsed,
        "chance": 1 / len(LETTERS),
        "first": reference == "A",
    }


def score_mcq(result: Result) -> Scored:
    """Accuracy, and VoiceBench's failure rate: the share of items in whose answer its phrases find no letter."""
    scored = score_verdicts(result, judge_mcq)
    letters = [official_letter(answer_of(record, ANSWER_FIELDS) or "") for record in result.items.values()]
    failed = letters.count(None) / len(letters)
    text = f"{scored.text}\nfailure rate: {percent(failed)}, where VoiceBench's phrases find no letter"
    return replace(scored, scores=scored.scores | {"failure_rate": failed}, text=text)
