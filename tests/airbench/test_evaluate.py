"""AIR-Bench foundation, from its file to the table. The verdicts are those of its score_foundation.py, by hand."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from airbench.evaluate import main
from evaluation.benchmarks import AIRBENCH
from evaluation.scoreboard import read_runs
from evaluation.scoring import judge
from evaluation.tasks import read_items
from tests.evaluation.small_runs import write_lines

# For the choices cat, dog, cat, bird and the answer "cat", whose letter there is A: official (None: left out), strict.
SPELLINGS = [
    ("A", True, True),
    (" A\n", True, True),
    ("A.", True, True),
    ("A dog", True, False),
    ("A. cat", True, True),
    ("(A)", True, True),
    ("The answer is A.", True, True),
    ("The answer is A", None, True),
    ("Answer: B", True, False),  # begins with A
    ("The answer is\nA.", True, True),
    ("C", False, True),  # the same text, but not the first letter with it
    ("C. cat", False, True),
    ("Cat", False, True),  # begins with C
    ("Bird", False, False),
    ("B", False, False),
    ("(D)", False, False),
    ("Dog.", False, False),
    ("cat", None, True),
    ("a", None, True),
    ("**A**", None, True),
    ("", None, False),
    ("None", None, False),
    ("?", None, False),
    ("It is a cat", None, True),
]


def item(**changes):
    return {
        "uniq_id": 7, "path": "x.wav", "task_name": "Sound_AQA", "dataset_name": "clotho", "question": "Who?",
        "choice_a": "cat", "choice_b": "dog", "choice_c": "cat", "choice_d": "bird", "answer_gt": "cat",
    } | changes  # fmt: skip


@pytest.mark.parametrize(("response", "official", "strict"), SPELLINGS)
def test_spelling(response, official, strict):
    verdict = judge(AIRBENCH, "1", AIRBENCH.form(item(response=response)))
    assert (verdict.official, verdict.undecided, verdict.strict) == (bool(official), official is None, strict)


def test_its_own_file_is_read(tmp_path):
    """Folders are called after task and source; grounding names WAV files that are FLAC, and times to choose."""
    grounding = item(
        uniq_id=8, task_name="Audio_Grounding", choice_a=[0.5, 1.0], choice_b=[2, 3], choice_c=None, answer_gt=[2, 3]
    )
    del grounding["choice_d"]
    path = tmp_path / "Foundation_meta.json"
    path.write_text(json.dumps([item(), grounding, item(uniq_id=9, task_name="Music_AQA")]))
    first, second, third = read_items(AIRBENCH, path, None)
    assert first.audio == tmp_path / "Sound_AQA_clotho" / "x.wav"
    assert second.audio == tmp_path / "Audio_Grounding_clotho" / "x.flac"
    assert [found.record["modality"] for found in (first, second, third)] == ["sound", "sound", "music"]
    assert second.instruction == (
        "Choose the most suitable answer from options A, B, C, and D to respond the question in next line, you may "
        "only choose A or B or C or D.\nWho?\nA. [0.5, 1.0]\nB. [2, 3]\nC. None\nD. None"
    )
    assert judge(AIRBENCH, "8", second.record | {"response": "B"}).official


def test_parquet_with_the_audio_inside_is_read(tmp_path):
    rows = [item(uniq_id=n, audio={"bytes": b"x", "path": "x.wav"}) for n in range(2)]
    del rows[1]["path"]  # nothing but the audio itself
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "sound-00000-of-00001.parquet")
    found = read_items(AIRBENCH, tmp_path, None)
    assert [i.audio.read() for i in found] == [b"x", b"x"] and found[0].record["task_id"] == "Sound_AQA_clotho"


def test_scores_and_the_row_of_the_report(tmp_path, capsys):
    """Of four answers one has no letter: official is over three of them, as published scores are."""
    answers = [("A", "Sound_AQA"), ("B", "Sound_AQA"), ("a cat", "Sound_AQA"), ("A", "Speaker_Age_Prediction")]
    records = [item(uniq_id=n, response=r, task_name=t) for n, (r, t) in enumerate(answers)]
    write_lines(tmp_path / "airbench.jsonl", records)
    assert main([str(tmp_path / "airbench.jsonl")]) == 0
    told = capsys.readouterr().out
    assert "official (all items)" in told and "1 answer(s) without a letter" in told
    scores = json.loads((tmp_path / "airbench.jsonl.scores.json").read_text())
    total, tasks = scores["levels"]["total"]["total"], scores["levels"]["task_id"]
    assert (total["official"], total["official_decided"], total["strict"]) == (0.5, 2 / 3, 0.75)
    assert tasks["Sound_AQA_clotho"]["official_decided"] == 0.5 and scores["levels"]["modality"]["speech"]["n"] == 1
    entries = read_runs([tmp_path / "airbench.jsonl.scores.json"], ["base"])
    assert (entries[0].place, entries[0].official) == (("airbench", "total", "total"), 2 / 3)


def test_what_the_published_scorer_reads_is_written():
    """score_foundation.py strips `response`, and compares `answer_gt` with each choice; the last two may be missing."""
    written = AIRBENCH.form(item(response="A", choice_d=None))
    assert all(isinstance(written[n], str) for n in ("task_name", "dataset_name", "response", "answer_gt"))
    assert written["answer_gt"] == written["choice_a"] and AIRBENCH.answer_fields == ("response",)
    assert not AIRBENCH.as_list  # a line an item
