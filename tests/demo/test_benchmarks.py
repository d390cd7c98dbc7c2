"""The miniature's benchmarks: the public files' fields, audio that is there, answers that cannot be guessed."""

import json
import random
from collections import Counter

import pyarrow.parquet
import pytest

from demo import benchmarks, world
from src.audio import read_audio
from tests.demo.conftest import ITEMS, lines


def test_mmsu_file(data):
    records = lines(data / "benchmarks/mmsu.jsonl")
    assert len(records) == ITEMS * len(world.MMSU_CATEGORIES)
    assert len({record["id"] for record in records}) == len(records)
    for record in records:
        assert set(record) == {
            "id", "task_name", "audio_path", "question", "choice_a", "choice_b", "choice_c", "choice_d", "answer_gt",
            "category", "sub-category", "sub-sub-category", "linguistics_sub_discipline",
        }  # fmt: skip
        choices = [record[f"choice_{letter}"] for letter in "abcd"]
        assert len(set(choices)) == 4 and choices.count(record["answer_gt"]) == 1
        assert read_audio(data / "benchmarks" / record["audio_path"]).size > 0


def test_mmau_file(data):
    entries = json.loads((data / "benchmarks/mmau.json").read_text())
    assert Counter(entry["task"] for entry in entries) == {"speech": 14, "sound": 8, "music": 8}
    for entry in entries:
        assert {"id", "audio_id", "question", "choices", "answer", "task", "difficulty", "sub-category"} <= set(entry)
        assert entry["choices"].count(entry["answer"]) == 1 and len(entry["choices"]) == 4
        assert (data / "benchmarks" / entry["audio_id"]).is_file()


def test_voicebench_folders(data):
    folder = data / "benchmarks/voicebench"
    assert sorted(path.name for path in folder.iterdir()) == sorted(world.VOICEBENCH_SUBSETS)
    openbookqa = lines(folder / "openbookqa/test.jsonl")
    assert len(openbookqa) == 5 and {record["reference"] for record in openbookqa} == set("ABCD")
    assert set(lines(folder / "advbench/test.jsonl")[0]) == {"audio_path", "prompt"}
    for record in openbookqa:
        assert read_audio(folder / "openbookqa" / record["audio_path"]).size > 0
    rows = pyarrow.parquet.read_table(folder / "sd-qa/usa-00000-of-00001.parquet").to_pylist()
    assert len(rows) == 5 and set(rows[0]) == {"audio", "prompt", "reference"}
    for row in rows:
        assert read_audio(row["audio"]["bytes"], name=row["audio"]["path"]).size > 0
        assert row["reference"] in (*world.ROLES["colour"], *world.NUMBERS)


@pytest.mark.parametrize(
    ("kind", "category"), [("speech", "gender and pitch"), ("sound", "count"), ("speech", "animal")]
)
def test_benchmarks_cannot_be_guessed(kind, category):
    """Each answer, each letter, and each pair of them comes about equally often."""
    items = benchmarks.question_items(random.Random(1), "mmsu", kind, category, 64)
    pairs = Counter((item.choices[item.answer_index], item.answer_index) for item in items)
    answers = len(world.ROLES.get(category, "1234"))
    assert len(pairs) == 4 * answers
    assert max(pairs.values()) - min(pairs.values()) <= 1
    assert Counter(item.answer for item in items) == {letter: 16 for letter in "ABCD"}
