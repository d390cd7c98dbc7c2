"""Score an MMSU result file by the official rule and by a strict one, in total and per category.

    python mmsu/evaluate.py results/mmsu.jsonl
    python mmsu/evaluate.py results/mmsu.jsonl --reference data/mmsu/mmsu.jsonl --compare baseline/mmsu.jsonl

Each line of the result holds the benchmark's own fields and the model's answer as `response`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evaluation.choices import parse_choice
from evaluation.result_files import answer_of
from evaluation.scoring import Verdict, groups_of, run_scorer

LETTERS = "ABCD"
ANSWER_FIELDS = ("response",)
LEVELS = ("category", "sub-category", "sub-sub-category", "linguistics_sub_discipline", "task_name")


def official_letter(response: str) -> str | None:
    """The published rule: the first character if it is one of ABCD, else the second to last one.

    It comes without the white space around it and without line breaks, as the published scorer reads it.
    """
    said = response.strip().replace("\n", "")
    for character in (said[:1], said[-2:-1]):
        if character and character in LETTERS:
            return character
    return None


def judge(record: dict) -> Verdict:
    """Verdict on one result line; an item whose answer is none of its choices cannot be right. Raises KeyError."""
    choices = [record.get(f"choice_{letter.lower()}") for letter in LETTERS]
    offered = [choice for choice in choices if choice is not None]
    answer, answered = record["answer_gt"], answer_of(record, ANSWER_FIELDS)
    response = answered or ""
    letter, index = official_letter(response), parse_choice(response, choices)
    return Verdict(
        key=key(record),
        groups=groups_of(record, LEVELS),
        official=letter is not None and choices[LETTERS.index(letter)] == answer,
        strict=index is not None and choices[index] == answer,
        parsed=None if index is None else LETTERS[index],
        chance=offered.count(answer) / max(1, len(offered)),
        first=choices[0] == answer,
        error=answered is None,
    )


def key(record: dict) -> str:
    return str(record["id"])


if __name__ == "__main__":
    sys.exit(run_scorer("mmsu", __doc__.split("\n")[0], key, judge, ANSWER_FIELDS))
