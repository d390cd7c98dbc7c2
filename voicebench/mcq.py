"""Multiple choice with four spoken options (openbookqa, mmsu): which letter a response gives."""

import re

from evaluation.choices import parse_choice
from voicebench.phrases import choosing, first_verdict

LETTERS = "ABCD"

# VoiceBench's phrases, in its order, X standing for the letter. Those that hold an earlier one are left out, which
# changes nothing: an answer that holds them holds the earlier one as well.
PHRASES = choosing(
    {letter.lower(): letter for letter in LETTERS},
    "答案<是X|是 X|是选项X|应该是X|应该是 X|就是选项X|是‘X>", "是X：", "答案选X", "X是正确", "选项X是最合适的",
    # statements
    "answer is<: | >**X", "the answer to the <question is: |multiple-choice question is >**X", "the answer is 'X'",
    "X is the best answer", "the <|correct >answer is X", "would <select |choose |select option |choose option >X",
    # a word and a marked letter
    'is "X<"|.>', "is: **X)", "is **X<,|:|)>", "is: **X<.|:>", "is **X.", "be **X,", "is: **X**",
    "is therefore option **X:", "is: \n\n**X)", "as **X:", "be **X<)|:>", "is: \n\n**X**", "suggests **X)",
    "be option **X:", "with **X)", 'is typically "X)', "be to **X)", "is: \n\nX)", "is likely to be: **X.", "is **X (",
    "is <option|likely> **X**", "is:<\n|\n\n>**X.", "would be <X|option X|(X)|option (X)>", "is X,",
    "is typically X<,|.>", "i'd say X.", "option X<.|:|,>", "the answer is:\n**X", "is X<:|.>", "is: X.", "is (X)",
    "is:\n**X)", "is likely **X:", "is the **X)",
    # a letter on a line of its own
    ":\nX<.|)|,>", ":< |  >\nX.", ":\n\nX<.|)>", "is most likely **X:", ":\n\nX,", ": \n\nX.",
    # more of the same, as they were met
    "(X) would be", "is<|:> X)", "is:\n\nX:", "is: **X,", "(option X)", 'select option "X"', "is: X",
    "is typically **X,", "is **X**", "is <likely|option> 'X'", "is:\n**X:", "is \\( \\boxed{X ",
    "would be 'X'", "is the **X** ",
    "question is X (", "is:\n\n**X)", "closest to option **X**", "is most likely **X)",
    "the answer to the question is 'X'", "known as 'X'", "is 'X)", "is typically **X:",
    "is \\( <\\boxed{\\text{X}} \\)|\\text{X) }|\\text{X} \\)|\\text{X:|\\text{X)>", "is \\(\\text{X.", "is:\n\n**X",
    "is \\( <\\text{X.}|\\text{X.|\\boxed{X}>", "is:\n\\[ <\\boxed{\\text{X}}|\\text{X)>", "is:\n\n\\[ \\text{X)",
    "is \\( <\\textbf{X)|\\text{X}>", "is: \\( \\text{X.", "corresponds to:\n- **X:", "would be: **X**.",
    "is \\( X \\)", "is:\n**X ", "corresponds to option **X**", "be **X**", "be: \n\nX)",
    "is:\n\\[ \\boxed{X}", "is:  \n**X:",
    "is: \\( \\text{X)", "is likely: **X,", "is } \\mathbf{X.", "is \\( <\\boxed{X)|\\textbf{X}>", "is \\(X\\)",
    "is:\n  \n**X:", "is option **X ", "is:\n\\( \\textbf{X.", "is \\( \\mathbf{X}", "was option **X**",
    'is likely "X)', "option **X:", 'is "X)', "is <most likely **X,|often **X:>", "is:  \nX)",
    # any letter with a mark
    " X<.|,|:|)>", "**X<.|)>", '"X<.|,|:>', "(X)", '"X"',
)  # fmt: skip
_LEADING = re.compile(r"([a-d])(?:\Z|[.,:)])")


def official_letter(response: str) -> str | None:
    """The letter by VoiceBench's rule: the first of its phrases that occurs, else a letter at the very beginning.

    White space counts: " B" is none. Where there is none, VoiceBench draws one of the four.
    """
    text = response.lower()
    text = text[3:].strip() if text.startswith(("<1>", "<2>", "<3>")) else text
    leading = _LEADING.match(text)
    return first_verdict(text, PHRASES) or (leading and leading[1].upper())


def spoken_choices(record: dict, letters: str = LETTERS) -> list[str]:
    """The options' texts, read off "A. text", "(B) text", ... in the prompt, on one line or more; else empty texts."""
    prompt, found, end = str(record.get("prompt") or ""), [], None
    for letter in reversed(letters):  # the last ones: a question may hold a letter, too
        labels = list(re.finditer(rf"(?:^|(?<=\s))\(?{letter}[.):]\s+", prompt[:end], re.MULTILINE))
        if not labels:
            return [""] * len(letters)
        lines = prompt[labels[-1].end() : end].strip().splitlines() or [""]
        found.append(lines[0].strip(" ,;"))
        end = labels[-1].start()
    return found[::-1]


def judge_mcq(record: dict, response: str) -> dict:
    """The Verdict's fields for a question with four options, of which `reference` is the right letter.

    Raises ValueError where it is none.
    """
    reference = str(record["reference"]).strip().upper()
    if reference not in set(LETTERS):
        raise ValueError(f"reference {record['reference']!r} is not one of {', '.join(LETTERS)}: mend it")
    index = parse_choice(response, spoken_choices(record))
    parsed = None if index is None else LETTERS[index]
    letter = official_letter(response)
    return {
        "official": 1 / len(LETTERS) if letter is None else letter == reference,
        "undecided": letter is None,
        "strict": parsed == reference,
        "parsed": parsed,
        "chance": 1 / len(LETTERS),
        "first": reference == "A",
    }
