import json
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.benchmarks import MMAR
from evaluation.scoring import judge

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "mmar" / "evaluate.py"

CHOICES = [
    "Mountain canyon",
    "Dense forest",
    "Open grassland",
    "City streets",
    "Open sea",
]  # some items have five, or two

# For the answer "Open grassland" (C): the response, the verdict of MMAR's own evaluation.py, and the letter that the
# strict rule reads, labelled by hand.
SPELLINGS = [
    ("Open grassland", True, "C"),
    ("open grassland", True, "C"),
    ("OPEN GRASSLAND", True, "C"),
    ("Open grassland.", True, "C"),
    ("  Open grassland  ", True, "C"),
    ('"Open grassland"', True, "C"),
    ("**Open grassland**", True, "C"),
    ("*Open grassland*.", True, "C"),
    ("<answer>Open grassland</answer>", True, "C"),
    ("Open grassland<|eot_id|>", True, "C"),
    ("(C) Open grassland", True, "C"),
    ("C. Open grassland", True, "C"),
    ("C) Open grassland", True, "C"),
    ("C: Open grassland", True, "C"),
    ("c. open grassland", True, "C"),
    ("C Open grassland", True, "C"),
    ("The answer is Open grassland", True, "C"),
    ("The answer is (C) Open grassland.", True, "C"),
    ("Answer: C. Open grassland", True, "C"),
    ("Answer: Open grassland", True, "C"),
    ("An open grassland.", True, "C"),
    ("It comes from an open grassland", True, "C"),
    ("The music is from open grassland in Mongolia", True, "C"),
    ("Probably the Open grassland", True, "C"),
    ("Not clear, but open grassland", True, "C"),
    ("The grassland is open", True, None),  # all the words, but not the option's text
    ("grassland, open", True, None),
    ("open-grassland", True, "C"),
    ("open_grassland", False, "C"),  # an underscore belongs to the word
    ("Opengrassland", False, "C"),
    ("Open\ngrassland", True, "C"),
    ("Open grasslands", False, None),
    ("C", False, "C"),
    ("c", False, "C"),
    ("C.", False, "C"),
    ("(C)", False, "C"),
    ("(c)", False, "C"),
    ("**C**", False, "C"),
    ("Option C", False, "C"),
    ("The answer is C", False, "C"),
    ("the answer is (c).", False, "C"),
    ("It must be C.", False, "C"),
    ("E", False, "E"),
    ("A", False, "A"),
    ("(A) Mountain canyon", False, "A"),
    ("A mountain canyon", False, "A"),
    ("Mountain canyon", False, "A"),
    ("Dense forest", False, "B"),
    ("B. Dense forest", False, "B"),
    ("City streets", False, "D"),
    ("D", False, "D"),
    ("Open sea", False, "E"),
    ("E. Open sea", False, "E"),
    ("Open", False, None),
    ("open sea or open grassland", False, None),
    ("Grassland", False, None),
    ("grassland.", False, None),
    ("canyon", False, None),
    ("Open grassland and city streets", False, None),
    ("Open grassland, not a dense forest", False, "C"),
    ("Not open grassland", True, None),  # the official rule does not see the negation
    ("It is not open grassland", True, None),
    ("C. Open sea", False, None),
    ("(A) Open grassland", True, None),
    ("A or C", False, None),
    ("C, E", False, None),
    ("", False, None),
    ("   ", False, None),
    ("...", False, None),
    ("F", False, None),
    ("None of these", False, None),
    ("I cannot tell.", False, None),
    ("The steppe", False, None),
]


def item(response, answer="Open grassland", **extra):
    return {
        "id": "a_00-00-00_00-00-05",
        "audio_path": "./audio/a_00-00-00_00-00-05.wav",
        "question": "What natural environment might this music originate from",
        "choices": CHOICES,
        "answer": answer,
        "modality": "music",
        "category": "Cultural Layer",
        "sub-category": "Professional Knowledge and Reasoning",
        "answer_prediction": response,
        **extra,
    }


def test_fixture_is_large_enough():
    assert len(SPELLINGS) >= 60
    assert len({response for response, _, _ in SPELLINGS}) == len(SPELLINGS)


@pytest.mark.parametrize(("response", "official", "strict"), SPELLINGS)
def test_spelling(response, official, strict):
    verdict = judge(MMAR, "1", item(response))
    assert (verdict.official, verdict.parsed, verdict.strict) == (official, strict, strict == "C")
    assert (verdict.chance, verdict.first) == (0.2, False)


def test_the_official_rule_knows_no_order_of_words():
    """Of MMAR's 1000 items 20 have a wrong choice that the rule takes for the answer."""
    record = item("From near to far", "From far to near") | {"choices": ["From far to near", "From near to far"]}
    verdict = judge(MMAR, "1", record)
    assert (verdict.official, verdict.strict, verdict.parsed) == (True, False, "B")


def test_other_fields_of_the_answer():
    record = item("x")
    answer = record.pop("answer_prediction").replace("x", "Open grassland")
    for field in ("model_output", "model_prediction"):
        assert judge(MMAR, "1", record | {field: answer}).official
    assert judge(MMAR, "1", record | {"model_output": answer, "answer_prediction": None}).official
    assert not judge(MMAR, "1", record | {"model_output": answer, "answer_prediction": "City streets"}).official
    assert judge(MMAR, "1", record).error


def run(*arguments, cwd):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=120
    )


def test_scores_by_modality_and_category(tmp_path):
    """Of the reference's items, in the authors' JSON Lines, one was never answered."""
    records = [
        item("Open grassland", id="a"),
        item("C", id="b", modality="mix-sound-music-speech", category="Signal Layer"),
        item("Open sea", id="c", modality="mix-sound-music-speech", category="Signal Layer"),
        item("Mountain canyon", id="d", modality="speech", category="Perception Layer", answer="Mountain canyon"),
        item("", id="e", modality="speech", category="Semantic Layer", error="no audio"),
    ]
    missing = item("", id="f", modality="sound", category="Semantic Layer")
    (tmp_path / "r.json").write_text(json.dumps(records, indent=1))
    (tmp_path / "MMAR-meta.jsonl").write_text("".join(json.dumps(record) + "\n" for record in [*records, missing]))
    done = run("r.json", "--reference", "MMAR-meta.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 item(s) have no answer" in done.stdout and "mix-sound-music-speech" in done.stdout
    scores = json.loads((tmp_path / "r.json.scores.json").read_text())
    assert scores["benchmark"] == "mmar" and scores["missing"] == ["f"]
    rates = {
        level: {name: (group["n"], group["official"], group["strict"]) for name, group in groups.items()}
        for level, groups in scores["levels"].items()
    }
    assert rates == {
        "total": {"total": (6, 2 / 6, 3 / 6)},
        "modality": {
            "mix-sound-music-speech": (2, 0, 0.5), "music": (1, 1, 1), "sound": (1, 0, 0), "speech": (2, 0.5, 0.5),
        },
        "category": {
            "Cultural Layer": (1, 1, 1), "Perception Layer": (1, 1, 1), "Semantic Layer": (2, 0, 0),
            "Signal Layer": (2, 0, 0.5),
        },
        "sub-category": {"Professional Knowledge and Reasoning": (6, 2 / 6, 3 / 6)},
    }  # fmt: skip
