"""Score an MMAU result file by the official rule and by a strict one, in total, per task, difficulty and sub-category.

    python mmau/evaluate.py results/mmau.json
    python mmau/evaluate.py results/mmau.json --reference data/mmau/mmau-test-mini.json --compare baseline/mmau.json

Each item of the result holds the benchmark's own fields and the model's answer as `model_prediction` (or, as in some
published result files, `model_output`).
"""

import re
import string
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evaluation.choices import parse_choice
from evaluation.result_files import answer_of
from evaluation.scoring import Verdict, groups_of, run_scorer

LEVELS = ("task", "difficulty", "sub-category")
ANSWER_FIELDS = ("model_prediction", "model_output")


def tokens(text: str) -> set[str]:
    return set(re.findall(r"\b\w+\b", text.lower()))


def official_match(answer: str, prediction: str, choices: list[str | None]) -> bool:
    """The published rule, on sets of words.

    All of the answer's words are in the prediction, and no word of a wrong choice is, unless the answer has it too.
    """
    said, right = tokens(prediction), tokens(answer)
    wrong = set().union(*(tokens(choice) for choice in choices if choice is not None)) - right
    return bool(said) and right <= said and not wrong & said


def judge(record: dict) -> Verdict:
    """Verdict on one result item; an item whose answer is none of its choices cannot be strictly right.

    Raises KeyError for a missing field.
    """
    choices, answer, answered = record["choices"], record["answer"], answer_of(record, ANSWER_FIELDS)
    offered = [choice for choice in choices if choice is not None]
    response = answered or ""
    index = parse_choice(response, choices)
    return Verdict(
        key=key(record),
        groups=groups_of(record, LEVELS),
        official=official_match(answer, response, choices),
        strict=index is not None and choices[index] == answer,
        parsed=None if index is None else string.ascii_uppercase[index],
        chance=offered.count(answer) / max(1, len(offered)),
        first=choices[:1] == [answer],
        error=answered is None,
    )


def key(record: dict) -> str:
    """The item's `id`; without one, the audio and the question (one clip may be asked about more than once)."""
    return str(record["id"]) if "id" in record else f"{record['audio_id']} {record.get('question', '')}".strip()


if __name__ == "__main__":
    sys.exit(run_scorer("mmau", __doc__.split("\n")[0], key, judge, ANSWER_FIELDS))
