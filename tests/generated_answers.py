"""A thousand result items for each benchmark, put together by chance from pieces of what models say.

The same ones on every machine and Python: all draws go through `random.Random.random`. What the benchmarks' own scorers
say of them is written down in tests/data/official_verdicts.json; test_official_verdicts.py holds ours against it.
"""

import random
from collections.abc import Sequence

from voicebench.bbh import PHRASES as OUR_BBH_PHRASES
from voicebench.mcq import PHRASES as OUR_PHRASES

COUNT = 1000


class Draw:
    """Seeded draws."""

    def __init__(self, seed: int):
        self._random = random.Random(seed).random

    def of(self, pieces: Sequence):
        return pieces[int(self._random() * len(pieces))]

    def chance(self, probability: float) -> bool:
        return self._random() < probability


# --- VoiceBench: openbookqa, mmsu ----------------------------------------------------------------------------------

_OPENINGS = (
    "It",
    "The answer",
    "The correct answer",
    "That",
    "We can rule out C. It",
    "I think it",
    "The answer to the question",
)
_FAMILIES = (  # what goes before a letter, and how the letter is marked
    (("is", "is", "is:", "be", "would be", "would be:", "is likely", "is likely:", "is most likely", "is typically",
      "is often", "is option", "option", "was option", "is therefore option", "be option", "as", "with", "suggests",
      "is the", "be to", "is likely to be:", "corresponds to option", "closest to option", "is:\n", "is:\n\n",
      "is: \n\n", "is:  \n", "is:\n  \n", "corresponds to:\n-", "the answer is:\n", "question is",
      "the answer to the multiple-choice question is", "answer is"),
     ("**X**", "**X**.", "**X.", "**X)", "**X:", "**X,", "**X (", "**X", "**X ", "**X** and")),
    (("is", "is", "is:", "is option", "would be", "would be option", "i'd say", "is typically", "option", "is: \n\n",
      "is:  \n", "be: \n\n", "the answer is", "the correct answer is", "would select", "would choose option",
      "question is", "Hm", "(option", "is:\n\n", ":\n", ": \n", ":  \n", ":\n\n", ": \n\n"),
     ("X", "X.", "X,", "X:", "X)", "(X)", "X (", "X is the best answer", "(X) would be fine")),
    (("is", "is", "is likely", "is typically", "is option", "would be", "select option", "known as", "the answer is",
      "Say", "the answer to the question is", "the correct answer is"),
     ('"X"', "'X'", '"X.', '"X,', '"X:', '"X)', "'X)", "'X'.")),
    (("is \\(", "is \\(", "is: \\(", "is:\n\\[", "is:\n\n\\[", "is:\n\\("),
     ("\\boxed{X}", "\\boxed{X)", "\\boxed{X ", "\\boxed{\\text{X}} \\)", "\\text{X}", "\\text{X} \\)", "\\text{X) }",
      "\\text{X)", "\\text{X:", "\\text{X.}", "\\text{X.", "\\textbf{X)", "\\textbf{X}", "\\textbf{X.", "\\mathbf{X}",
      "X \\)")),
    (("is", "is }"), ("\\(X\\)", "\\(\\text{X.", "\\mathbf{X.")),
    (("答案", "正确答案", "我认为", "选项"),
     ("是X", "是 X", "是选项X", "应该是X", "应该是 X", "就是选项X", "是‘X’", "是X：", "选X", "X是正确的",
      "选项X是最合适的")),
)  # fmt: skip
_AFTER = (
    "",
    "",
    "",
    "",
    " a cat",
    ". a cat",
    " because it purrs",
    " It is not A.",
    ". Not D), no.",
    "\n",
    ".",
    " (b)",
    "：",
)
_ELSE = (
    "A", "b", "C.", "d)", "(c) a stone", "a cat", "I do not know", "", " ", "E", "Both of them", "ABCD", "A or B.",
    "B, C", "Before noon", "<1> b", "<2>\nC. ", " <1> A", "b because", "D: a cloud", "a.", "B\n", "cab",
    "The letter c", "...", "a: b",
)  # fmt: skip


def mcq() -> list[str]:
    draw, answers = Draw(1), []
    for number in range(COUNT):
        if number % 10 == 0:
            answers.append(draw.of(_ELSE))
            continue
        said = []
        for _ in range(2 if draw.chance(0.1) else 1):
            before, marked = map(draw.of, draw.of(_FAMILIES[:1] + _FAMILIES))
            glue = "" if before.endswith(("\n", "(option")) or not before.isascii() else " "
            letter = draw.of("abcdabcdabcdABCDe")
            said.append(f"{draw.of(_OPENINGS)} {before}{glue}{marked.replace('X', letter)}{draw.of(_AFTER)}")
        answers.append(draw.of(("", "", "", "", "<1>", "<3> ", " ")) + " ".join(said))
    return answers


def mcq_phrases() -> list[str]:
    """Every phrase that ours knows, alone, and with another one behind it."""
    return _in_pairs([phrase.text for phrase in OUR_PHRASES])


def _in_pairs(texts: Sequence[str]) -> list[str]:
    others = [texts[(7 * number + 3) % len(texts)] for number in range(len(texts))]
    return [f"{text} ~ {other}" for text, other in zip(texts, others, strict=True)] + list(texts)


# --- VoiceBench: bbh -----------------------------------------------------------------------------------------------

_STATED = (
    "The answer is", "So the answer is", "Final answer:", "I would answer", "The answer:", "Answer:", "Conclusion:",
    "The answer to the question is", "I will provide the answer as:", "Prefix answer:",
    "The answer is without any modification:", "The answer is $\\boxed{\\text{W}}$", "the answer is \\boxed{W}",
    "The answer is \\boxed{\\text{W}}", "My answer would be", "The answer to the question whether it fits is",
)  # fmt: skip
_WORDS = (
    "yes",
    "no",
    "Yes.",
    "No,",
    "true",
    "false",
    "**No**",
    '"yes"',
    "not clear",
    "Yes and no",
    "nobody",
    "the truth",
)
_SPORTS = (
    ("Considering these points,", "Based on this analysis,", "Given the context,", "I would say that", "I would say",
     "Yes,", "No,", "Final answer:", "The answer is:", "Given these points,", "Considering these factors,",
     "Therefore,", "", "Based on these steps,", "Given this information,", "Given this analysis,",
     "Considering these elements,", "So it's", "Given the context of sports, particularly basketball,"),
    ("the sentence", "the sentence", "the sentence", "this sentence", "the sentence about golf",
     "the following sentence", "the original sentence", "it", "\"He scored\""),
    ("is plausible", "is not plausible", "is not particularly plausible", "seems plausible", "is the plausible one",
     "is unlikely to be true", "is unlikely to be plausible", "is likely true", "is not entirely possible",
     "is not entirely accurate", "is generally plausible", "seems to be a plausible one",
     "appears to be a plausible one", "seems to be a possible one", "appears to be plausible",
     "is not very plausible", "is a plausible sentence", "is not a plausible statement", "is flexible and realistic",
     "is structurally plausible", "is not possible", "is grammatically correct and makes sense", "makes sense",
     "is unlikely", "could be, making it plausible", "fails, making it an implausible statement",
     "- it is indeed a plausible sentence", "- it seems unlikely", "-s not a plausible one",
     "is therefore not plausible"),
)  # fmt: skip
_NAVIGATE = (
    ("", "", "Yes,", "No,", "So", "Therefore", "After following these instructions,", "Following these instructions",
     "It appears that", "The final position", "Following these directions"),
    ("you", "you", "we", "I", "you-ll", "we-ve", "i-ll", "you haven-t", "indeed", "the path", ""),
    ("return", "do not return", "will not return", "cannot return", "are not at", "are not back at", "end up back at",
     "are now back at", "returned", "have now returned", "did not return", "returns us", "does not return us",
     "return you", "will always return us", "moved back", "will end up back where i started", "end up two steps from",
     "end up right back where you started", "end up back where you started", "be back where i started",
     "is the answer:", "not directly at", "are not facing", "does not lead you back"),
    ("to the starting point", "to the starting point", "the starting point", "to the exact starting point",
     "to the starting position", "to your original starting point", "the starting point!", "", "facing north"),
)  # fmt: skip
_WEB = (
    ("", "So", "Therefore", "The answer is that", "The answer is: No,", "Thus, truly,",
     "From the above steps we can conclude that", "Affirmatively,", "The answer to the question about", "Hence"),
    ("Kandi", "Lorene", "Delfina", "Osvaldo", "Alejandro", "Kandi says Fidel", "No one", "Veena's statement"),
    ("tells the truth", "lies", "tells a lie", "does not tell the truth", "does tell the truth", "is lying",
     "must be lying", "is also telling the truth", "must be telling the truth", "cannot be telling the truth",
     "tells the lie", "says lie", "is telling the truth", "didn-t tell the truth", "doesn-t tell the truth", "is no",
     "is yes", "cannot be true"),
)  # fmt: skip
_ORDERS = (
    "The correct adjective order",
    "The right adjective order",
    "The proper adjective order",
    "The correct adjectival order",
)
_RIGHT = ("The correct sentence", "The correct option", "The correct answer", "The answer", "The final answer",
          "The correct one", "The correct adjectivs", "The correct order", "The correct sentence order",
          "The correct answer order", "The correct object order", "The most logical order",
          "The closest correct order", "The correct grammatical order", "The correct order of adjectives",
          "The correct sentence with the adjective order", "The correct adverb order",
          "The sentence with the correct adjectives", "The correct objective order")  # fmt: skip
_LETTERS = ("A", "B", "(A)", "(B)", "option A", "option B", "option (A)", "option (B)")
_HYPERBATON = (
    (_ORDERS, ("is", "is", "option is", "options is", "is in", "is found in", "is provided in", "is, I think,"),
     (*_LETTERS, "sentence A", "sentence B", "A) of the two", "the first option", "the second option")),
    (_RIGHT, ("is", "is", "would be", "is in"), (*_LETTERS, "the A one", "the B one", "[A]", "[option B]",
     "sentence B")),
    (("The final answer", "The answer", "Answer", "Final answer", "So the one following the typical order",
      "The adjectives"),
     ("is", "is is", "directly is", "is without any modification", "without any modification is", "should be", ":",
      "is without any modification option", "are in the correct order for"), ("A", "B", "the first option",
                                                                              "the second option")),
)  # fmt: skip
_OPTIONS = (
    ("Option", "Option", "Option", "Sentence", "In option", "The adjectives in option"),
    ("A", "B", "(A)", "(B)", "A is incorrect and option B"),
    ("has the correct order", "has the correct adjective order", "follows the correct adjective order",
     "is more accurate", "follows the typical order of adjectives", "is the correct answer", "is the correct one",
     "is correct", "has a better adjective order", "is closer to being correct", "is the closest match",
     "uses the correct adjective sequence", "is the closest to the typical order", "has a more logical flow",
     "of the two seems to have a more logical flow", "is more grammatically correct",
     "would be more grammatically correct", "would be closer to the correct order",
     "follows the general adjective order", "seems to follow the typical order",
     "the adjectives are in the correct order", "are in the correct order",
     "is the closest to the correct adjective order", "has a correct adjective order", "has the correct word order",
     "correctly follows the standard adjective order", "would be more correct",
     "has a slightly better chance of being correct", "follows the correct sequence of adjectives",
     "follows the correct order", "has the adjectives in the correct order"),
)  # fmt: skip
_SHORT = ("Yes", "no", "No.", "yes!", "A", "b", "B)", "(A)", "a wooden table", "b it is", "North", "",
          "not plausible", "so, no", "I say yes", "The following sentence is plausible", "<1> no", "hm<|user|>",
          "so yes<|user|>", "so no<|user|>\n", "yes<|turn_end|>", "**Yes**", "Is the sentence plausible? Yes, it is",
          "You end up two steps away")  # fmt: skip


def bbh() -> list[tuple[str, str]]:
    """(subtask, response), a thousand of each subtask."""
    draw, answers = Draw(2), []
    parts = {"sports_understanding": (_SPORTS,), "navigate": (_NAVIGATE,), "web_of_lies": (_WEB,),
             "hyperbaton": (*_HYPERBATON, _OPTIONS, _OPTIONS)}  # fmt: skip
    for number in range(4 * COUNT):
        subtask = list(parts)[number % 4]
        kind, said = draw.of(range(10)), []
        if kind == 0:
            said = [draw.of(_SHORT)]
        elif kind == 1 and subtask != "hyperbaton":
            stated, word = draw.of(_STATED), draw.of(_WORDS)
            said = [stated.replace("W", word) if "W}" in stated else f"{stated} {word}"]
        else:
            for _ in range(2 if kind > 7 else 1):
                said.append(" ".join(piece for piece in map(draw.of, draw.of(parts[subtask])) if piece))
        answers.append((subtask, draw.of((". ", " ", ", ")).join(said) + draw.of(("", "", ".", " ", "\n"))))
    return answers


def bbh_phrases() -> list[tuple[str, str]]:
    """(subtask, response) with every phrase that ours knows, alone, and with another one behind it."""
    texts = {
        name: [p.text.replace("...", "that one").strip("\n") for p in known] for name, known in OUR_BBH_PHRASES.items()
    }
    return [(subtask, text) for subtask, known in texts.items() for text in _in_pairs(known)]


# --- VoiceBench: advbench, sd-qa, ifeval, open questions -----------------------------------------------------------

_REPLIES = (
    "Sure, here is how.", "I'm sorry", "Sorry to hear it.", "I apologize, no.", "As an example, mix them.",
    "As a model", "I cannot", "I can't do it", "I can’t assist with that request", "I won't lie, it is easy.",
    "Cannot comply.", "No.", "", " ", "That is illegal", "This is unethical and wrong.", "It is against the law.",
    "I do not mind.", "I am unable to", "I'm not able to", "我不能帮你", "抱歉", "It's wrong of them", "It’s wrong",
    "I don't think so", "Instead, I'll sing", "Instead, let us sing", "First, pick the lock.", "Then run.",
    "I'M JUST", "it is not</s>", "it is not appropriate", "goes against the principles",
    "with caution and responsibility", "Please don't ask me", "is not something I would do", "I' not able to",
    "I'm not interested in", "is not responsible for", "can't help you with that", "Unable to help", "I refuse.",
    "I must decline.", "违法", "不被允许", "I am not allowed to", "i' sorry", "legal and ethical standards",
)  # fmt: skip


def harm() -> list[str]:
    draw = Draw(3)
    return [" ".join(draw.of(_REPLIES) for _ in range(draw.of((1, 1, 1, 2)))) for _ in range(COUNT)]


def votes() -> list[list[str]]:
    draw = Draw(4)
    said = ("Yes", "No", "yes", "no", "YES", "Yes.", "No.", "**Yes**", "I think so")
    return [[draw.of(said) for _ in range(3)] for _ in range(COUNT)]


def ratings() -> list[list[str]]:
    draw = Draw(5)
    said = ("1", "2", "3", "4", "5", "4.5", "[[3]]", "Rating: [[5]]")
    return [[draw.of(said) for _ in range(3)] for _ in range(COUNT)]


def ifeval() -> list[str]:
    draw = Draw(6)
    front, back = (
        ("", "", "<1>", "<2> ", "<3>\n", " <1>", "<4>", "\n"),
        ("", "", "<|user|>", " <|user|>", "<|user|> ", "\n"),
    )
    return [f"{draw.of(front)}{draw.of(('a cat', 'cat, dog', '', ' two  '))}{draw.of(back)}" for _ in range(COUNT)]


# --- MMSU, MMAU, MMAR ----------------------------------------------------------------------------------------------

_TEXTS = ("Dog barking", "Cat", "A dog", "Two men", "Young woman", "Old woman", "woman", "C# minor", "D minor", "2.5",
          "None", "dog_barking", "Vitamin B", "It is not raining", "B", "10%", "", "狗叫")  # fmt: skip
_SAID = (
    "X", "X", "X.", "(X)", "X)", " X", "X\n", "\nX\n", "**X**", "[X]", "The answer is X", "The answer is X.",
    "Answer: X", "X. §", "X: §", "(X) §", "§", "§", "§.", "It is §", "The answer is §.", "not § but §", "§ and §",
    "§ or §", "None", "", " ", "I cannot tell", "Both", "Dog", "x", "x.", "X#", "X\n§", "None of them",
    "§ because of §", '"§"', "§-§", "X§", "X §",
)  # fmt: skip


def _said(draw: Draw, choices: Sequence[str | None]) -> str:
    """One of _SAID, X being a letter and § the text of a choice."""
    said = draw.of(_SAID).replace("X", draw.of("ABCDABCDE")).replace("x", draw.of("abcd"))
    while "§" in said:
        said = said.replace("§", str(draw.of(choices)), 1)
    return said.lower() if draw.chance(0.1) else said


def mmsu() -> list[dict]:
    draw, items = Draw(7), []
    for number in range(COUNT):
        choices = [draw.of(_TEXTS) for _ in range(4)]
        if draw.chance(0.1):
            choices[2] = choices[3] = None
        answer = draw.of(choices) if draw.chance(0.95) else draw.of(_TEXTS)
        item = {"id": number, **{f"choice_{letter}": c for letter, c in zip("abcd", choices, strict=True)}}
        response = None if draw.chance(0.01) else _said(draw, choices)
        items.append(item | {"answer_gt": answer, "response": response})
    return items


def airbench() -> list[dict]:
    """As MMSU, whose answers may be offered twice here, and always are."""
    draw, items = Draw(9), []
    for number in range(COUNT):
        choices = [draw.of(_TEXTS) for _ in range(4)]
        if draw.chance(0.2):
            choices[2] = choices[3] = None
        item = {"uniq_id": number, **{f"choice_{letter}": c for letter, c in zip("abcd", choices, strict=True)}}
        answer = draw.of([choice for choice in choices if choice is not None])
        task = draw.of(("Music_AQA", "Audio_Grounding", "Speaker_Age_Prediction"))
        item |= {"answer_gt": answer, "task_name": task, "dataset_name": "x", "path": "1.wav", "question": "Which?"}
        items.append(item | {"response": _said(draw, choices)})
    return items


def mmau() -> list[dict]:
    draw, items = Draw(8), []
    for number in range(COUNT):
        choices = [draw.of(_TEXTS) for _ in range(draw.of((2, 3, 4, 4, 4, 5)))]
        item = {
            "id": str(number),
            "choices": choices,
            "answer": draw.of(choices),
            "task": "sound",
            "difficulty": "easy",
        }
        items.append(item | {"model_prediction": _said(draw, choices)})
    return items
