"""MMAU-Pro, from the hub's Parquet file to the table, and to the file that its authors' script reads."""

import json

import pyarrow
import pyarrow.parquet
import pytest

import inference_stage2_mmaupro
from evaluation.benchmarks import MMAU_PRO
from evaluation.report_card import main as report_card
from evaluation.tasks import read_items
from mmaupro.evaluate import main
from src.prompts import mmau_instruction
from tests.evaluation.small_runs import GOLDEN, MODEL, lines, write_lines

ROWS = [
    {"category": "music", "choices": ["piano", "violin", "flute"], "answer": "violin", "length_type": "short"},
    {"category": "sound", "choices": ["rain", "wind"], "answer": "rain", "length_type": "long"},
    {"category": "open", "choices": [], "answer": "A man tells a joke.", "length_type": "short"},
    {"category": "instruction following", "choices": [], "answer": None, "length_type": "short"},
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    rows = []
    for n, row in enumerate(ROWS):
        (tmp_path / "data" / f"{n}.wav").write_bytes((GOLDEN / f"clip{n % 3}.wav").read_bytes())
        paths = [f"data/{n}.wav", *["data/other.wav"] * (n == 1)]
        rows.append({"id": f"q{n}", "audio_path": paths, "question": f"What is {n}?", "kwargs": {"N": n}, **row})
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "test.parquet")
    return tmp_path


def test_its_file_is_read(folder):
    """Choices as MMAU's; open questions and instructions in their own words; the first of several clips."""
    items = read_items(MMAU_PRO, folder / "test.parquet", None)
    assert [item.audio for item in items] == [folder / "data" / f"{n}.wav" for n in range(4)]
    assert items[0].instruction == mmau_instruction("What is 0?", ["piano", "violin", "flute"])
    assert [item.instruction for item in items[2:]] == ["What is 2?", "What is 3?"]


def test_answers_strict_scores_and_the_authors_file(folder, echo, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    answers = {"What is 0?": "B", "What is 1?": "It is the wind."}
    echo.reply = lambda waveform, asked: next((said for question, said in answers.items() if question in asked), "Ha!")
    flags = [*MODEL, "--input", "test.parquet", "--output", "base/mmaupro.jsonl"]
    assert inference_stage2_mmaupro.main([*map(str, flags)]) == 0
    assert [line["model_output"] for line in lines(folder / "base" / "mmaupro.jsonl")] == [
        "B", "It is the wind.", "Ha!", "Ha!",
    ]  # fmt: skip

    # What evaluate_mmau_pro_comprehensive.py reads: all rows and columns, model_output a text or null.
    table = pyarrow.parquet.read_table("base/mmaupro.parquet")
    assert table["model_output"].to_pylist() == ["B", "It is the wind.", "Ha!", "Ha!"]
    assert table.drop_columns("model_output").equals(pyarrow.parquet.read_table("test.parquet"))

    capsys.readouterr()
    assert main(["base/mmaupro.jsonl", "--reference", "test.parquet"]) == 0
    told = capsys.readouterr().out
    assert "2 item(s) without choices are not scored here" in told and "NV-Embed-v2" in told
    scores = json.loads((folder / "base" / "mmaupro.jsonl.scores.json").read_text())
    total = scores["levels"]["total"]["total"]
    assert (total["n"], total["official"], total["strict"], total["chance"]) == (2, None, 0.5, (1 / 3 + 1 / 2) / 2)
    assert {group: s["strict"] for group, s in scores["levels"]["category"].items()} == {"music": 1, "sound": 0}
    assert report_card(["base/mmaupro.jsonl.scores.json", "--output", "card"]) == 0
    assert (
        "MMAU-Pro, choices has no official score; strict: strict rule." in (folder / "card/report_card.md").read_text()
    )


def test_a_part_of_the_answers_leaves_the_others_empty(folder, echo, monkeypatch):
    monkeypatch.chdir(folder)
    flags = [*MODEL, "--input", "test.parquet", "--output", "o.jsonl", "--limit", "1"]
    assert inference_stage2_mmaupro.main([*map(str, flags)]) == 0
    found = pyarrow.parquet.read_table("o.parquet")["model_output"].to_pylist()
    assert len(found) == 4 and found[1:] == [None] * 3


def test_a_file_without_choices_has_nothing_to_score(tmp_path, capsys):
    write_lines(tmp_path / "r.jsonl", [{"id": "1", "category": "open", "question": "Why?", "model_output": "So."}])
    assert main([str(tmp_path / "r.jsonl")]) == 2
    assert "of 1 items none is scored here" in capsys.readouterr().err
