"""Big Bench Audio, from its file to the table: strict alone, and with a judge's verdicts."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from bigbenchaudio.evaluate import main
from evaluation.benchmarks import BIG_BENCH_AUDIO
from evaluation.result_files import BenchmarkFileError
from evaluation.scoreboard import read_runs
from evaluation.tasks import read_items
from src.prompts import VOICEBENCH_PROMPT
from tests.chat_server import chat_server
from tests.evaluation.small_runs import write_lines
from voicebench import judge

ITEMS = [  # category, official_answer, response, whether strict takes it as right
    ("formal_fallacies", "invalid", "The argument is not valid.", True),
    ("formal_fallacies", "valid", "invalid", False),
    ("navigate", "Yes", "You end up back at the starting point.", True),
    ("navigate", "No", "no", True),
    ("object_counting", "11", "You have eleven.", True),
    ("object_counting", "7", "There are 8 in total.", False),
    ("web_of_lies", "No", "Ann lies.", True),
    ("web_of_lies", "Yes", "I cannot say.", False),
]


@pytest.fixture
def result(tmp_path):
    records = [
        {"category": c, "official_answer": right, "file_name": f"data/question_{n}.mp3", "id": n, "response": said}
        for n, (c, right, said, _) in enumerate(ITEMS)
    ]
    write_lines(tmp_path / "bigbenchaudio.jsonl", map(BIG_BENCH_AUDIO.form, records))
    return tmp_path / "bigbenchaudio.jsonl"


def scores_of(result):
    return json.loads(result.with_name(f"{result.name}.scores.json").read_text())


def test_without_a_judge_there_is_no_official_score(result, capsys):
    assert main([str(result)]) == 0
    told, scores = capsys.readouterr().out, scores_of(result)
    assert "no official score: it takes a judge's verdict" in told
    assert scores["not_scored"].startswith("no official score")
    assert [v["strict"] for v in scores["verdicts"]] == [right for *_, right in ITEMS]
    total, groups = scores["levels"]["total"]["total"], scores["levels"]["category"]
    assert (total["official"], total["official_interval"], total["strict"], total["chance"]) == (
        None,
        None,
        5 / 8,
        None,
    )
    assert (groups["navigate"]["chance"], groups["navigate"]["always_a"]) == (0.5, 0.5)
    assert groups["object_counting"]["chance"] is None
    entry, *_ = read_runs([result.with_name(f"{result.name}.scores.json")], ["base"])
    assert (entry.place, entry.official, entry.strict) == (("bigbenchaudio", "total", "total"), None, 5 / 8)


def test_a_judge_gives_the_official_score(result, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with chat_server() as server:
        server.reply = "CORRECT"
        flags = ["--evaluator", "qa", "--base_url", server.url, "--model", "m", "--samples", "1", "--concurrency", "1"]
        assert judge.main([str(result), *flags]) == 0
        asked = [request["messages"][-1]["content"] for request in server.requests]
    assert len(asked) == 8 and "The argument is not valid." in asked[0] and "deductively valid" in asked[0]
    verdicts = result.with_name(f"{result.name}.judge.jsonl")
    settings, first, *others = verdicts.read_text().splitlines()
    wrong = json.dumps(json.loads(first) | {"reply": "INCORRECT", "rating": 0.0})
    verdicts.write_text("\n".join([settings, wrong, *others]) + "\n")
    assert main([str(result)]) == 0
    scores = scores_of(result)
    assert scores["levels"]["total"]["total"]["official"] == 7 / 8 and "not_scored" not in scores
    verdicts.write_text("\n".join([settings, *others]) + "\n")  # one answer is not judged
    assert main([str(result)]) == 0 and scores_of(result)["levels"]["total"]["total"]["official"] is None


def test_two_runs_are_compared_by_the_rules_that_are_known(result, tmp_path, capsys):
    records = [json.loads(line) | {"response": "no"} for line in result.read_text().splitlines()]
    write_lines(tmp_path / "other.jsonl", records)
    assert main([str(result), "--compare", str(tmp_path / "other.jsonl")]) == 0
    assert set(scores_of(result)["comparison"]) == {"with", "strict"}


def test_its_files_are_read(tmp_path):
    """metadata.jsonl, and Parquet with the audio inside, which has no file names."""
    record = {"category": "navigate", "official_answer": "Yes", "file_name": "data/question_3.mp3", "id": 3}
    write_lines(tmp_path / "metadata.jsonl", [record])
    [item] = read_items(BIG_BENCH_AUDIO, tmp_path / "metadata.jsonl", None)
    assert (item.audio, item.instruction) == (tmp_path / "data" / "question_3.mp3", VOICEBENCH_PROMPT)
    assert (item.record["reference"], item.record["official_answer"]) == ("Yes", "Yes")
    del record["file_name"]
    row = record | {"audio": {"bytes": b"x", "path": "question_3.mp3"}}
    (tmp_path / "hub").mkdir()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "hub" / "train-00000-of-00001.parquet")
    [item] = read_items(BIG_BENCH_AUDIO, tmp_path / "hub", None)
    assert item.audio.read() == b"x" and item.record["id"] == 3


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"category": "sums"}, "category must be one of formal_fallacies, navigate, object_counting, web_of_lies"),
        ({"official_answer": "maybe"}, "official_answer of navigate must be yes or no, found 'maybe'"),
        ({"category": "object_counting"}, "official_answer of object_counting must be a number, found 'Yes'"),
    ],
)
def test_what_its_file_may_not_hold(tmp_path, changes, told):
    record = {"category": "navigate", "official_answer": "Yes", "file_name": "data/q.mp3", "id": 3}
    write_lines(tmp_path / "metadata.jsonl", [record | changes])
    with pytest.raises(BenchmarkFileError, match=told):
        read_items(BIG_BENCH_AUDIO, tmp_path / "metadata.jsonl", None)
