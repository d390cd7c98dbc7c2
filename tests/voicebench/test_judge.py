import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evaluation import endpoint
from evaluation.result_files import BenchmarkFileError
from tests.chat_server import chat_server, kill_when_lines
from voicebench.judge import main
from voicebench.parsing import parse_rating, parse_vote
from voicebench.rubric import Rubric
from voicebench.verdicts import JudgeQuestion, Verdicts, verdict_path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "voicebench" / "judge.py"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("OPENAI_API_KEY", "s3cret")
    with chat_server() as server:
        yield server


def write(folder, count=2, name="diffa-alpacaeval-test-audio.jsonl", **fields):
    result = folder / name
    records = [{"prompt": f"question {n}", "response": f"answer {n}", **fields} for n in range(count)]
    result.write_text("".join(json.dumps(record) + "\n" for record in records))
    return result


def flags(result, server, *more):
    return [str(result), "--base_url", server.url, "--model", "some-judge", "--backoff", "0.01", *map(str, more)]


def entries(result):
    return [json.loads(line) for line in verdict_path(result).read_text().splitlines()[1:]]


def test_three_samples_of_each_answer(tmp_path, server):
    result = write(tmp_path)
    assert main(flags(result, server)) == 0
    assert [
        (e["key"], e["sample"], e["rating"]) for e in sorted(entries(result), key=lambda e: (e["key"], e["sample"]))
    ] == [(key, sample, 4.0) for key in "12" for sample in range(3)]
    body = server.requests[0]
    assert (body["model"], body["temperature"], body["top_p"]) == ("some-judge", 0.5, 0.95)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    asked = [request["messages"][1]["content"] for request in server.requests]
    assert len(asked) == 6 and sum("question 0" in text and "answer 0" in text for text in asked) == 3
    assert set(server.keys) == {"Bearer s3cret"}
    assert "s3cret" not in verdict_path(result).read_text()


def test_sd_qa_shows_the_reference_and_takes_votes(tmp_path, server):
    result = write(tmp_path, 1, "diffa-sd-qa-usa-audio.jsonl", reference=["Paris", "the city of Paris"])
    server.script, server.reply = ["Yes.", "no", "yes"], "no rating"
    assert main(flags(result, server, "--concurrency", 1)) == 0
    assert [entry["rating"] for entry in entries(result)] == [1.0, 0.0, 1.0]
    assert "Paris / the city of Paris" in server.requests[0]["messages"][-1]["content"]


@pytest.mark.parametrize(
    "trouble", [429, 500, 503, 408, "slow", "cut", "half", "html", "odd", "abort", "error", "short of room"]
)
def test_passing_trouble_is_waited_out(tmp_path, server, trouble):
    server.script = [trouble] * 2
    result = write(tmp_path, 1)
    timeout = 1 if trouble == "slow" else 30
    assert main(flags(result, server, "--samples", 1, "--timeout", timeout)) == 0
    assert [entry["rating"] for entry in entries(result)] == [4.0]
    assert len(server.requests) == 3


def test_retry_after_is_kept(tmp_path, server):
    result = write(tmp_path, 1)
    server.script = [(429, {"Retry-After": "1"})]
    assert main(flags(result, server, "--samples", 1)) == 0
    assert server.times[1] - server.times[0] >= 0.95  # without it, a hundredth of a second


def test_back_off_doubles(tmp_path, server, monkeypatch):
    waits = []
    monkeypatch.setattr("evaluation.endpoint.time.sleep", waits.append)
    monkeypatch.setattr("evaluation.endpoint.random.uniform", lambda low, high: high)
    server.script = [500] * 8
    command = flags(write(tmp_path, 1), server, "--samples", 1, "--tries", 9)
    command[command.index("--backoff") + 1] = "1"
    assert main(command) == 0
    assert [wait for wait in waits if wait >= 1] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_lasting_trouble_spares_the_other_answers(tmp_path, server, capsys):
    server.reply = lambda body: 500 if "question 1" in body["messages"][1]["content"] else "5"
    result = write(tmp_path, 3)
    assert main(flags(result, server, "--tries", 2, "--samples", 1)) == 1
    assert {entry["key"] for entry in entries(result)} == {"1", "3"}
    told = capsys.readouterr().err
    assert "item 2: HTTP 500" in told and "after 2 tries" in told and "1 verdict(s) could not be had" in told
    server.reply = "3"
    before = len(server.requests)
    assert main(flags(result, server, "--samples", 1)) == 0
    assert len(server.requests) == before + 1
    assert [entry["rating"] for entry in entries(result)] == [5.0, 5.0, 3.0]


def test_a_question_that_is_refused_is_not_tried_again(tmp_path, server, capsys):
    server.reply = 400
    assert main(flags(write(tmp_path, 1), server, "--samples", 1)) == 1
    assert len(server.requests) == 1 and "HTTP 400" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "key is not accepted: give one in the environment variable OPENAI_API_KEY"),
        (404, "no such address or model"),
    ],
)
def test_a_wrong_key_or_model_ends_the_run_at_once(tmp_path, server, capsys, status, message):
    server.reply = status
    assert main(flags(write(tmp_path, 50), server, "--concurrency", 2)) == 2
    assert message in capsys.readouterr().err
    assert len(server.requests) < 10


def test_a_question_that_is_forbidden_spares_the_rest(tmp_path, server, capsys, monkeypatch):
    server.reply = lambda body: 403 if "question 1" in body["messages"][1]["content"] else "5"
    result = write(tmp_path, 3)
    for asked in (3, 4):  # started again, it is the only one
        assert main(flags(result, server, "--samples", 1)) == 1 and len(server.requests) == asked
        assert {entry["key"] for entry in entries(result)} == {"1", "3"}
        assert "item 2: HTTP 403" in capsys.readouterr().err
    monkeypatch.setattr(endpoint, "MAX_FAILURES_IN_A_ROW", 5)
    server.reply = 403
    assert main(flags(write(tmp_path, 50), server, "--samples", 1, "--concurrency", 2)) == 2
    assert "5 questions failed one after the other, the last one: HTTP 403" in capsys.readouterr().err


def test_a_dead_endpoint_is_given_up(tmp_path, server, capsys, monkeypatch):
    monkeypatch.setattr(endpoint, "MAX_FAILURES_IN_A_ROW", 5)
    server.reply = 500
    assert main(flags(write(tmp_path, 50), server, "--tries", 1, "--concurrency", 2)) == 2
    assert "5 questions failed one after the other" in capsys.readouterr().err
    assert len(server.requests) < 12


def test_nonsense_is_asked_again_then_reported_and_never_scored(tmp_path, server, capsys):
    result = write(tmp_path, 2)
    server.script = ["What a lovely answer!", "6", ""]  # then fours
    assert main(flags(result, server, "--concurrency", 1, "--samples", 1, "--asks", 3)) == 1
    assert [(entry["key"], entry["rating"]) for entry in entries(result)] == [("2", 4.0)]
    assert "item 1: no verdict in 3 replies, the last one ''" in capsys.readouterr().err
    assert len(server.requests) == 4


def test_requests_go_out_side_by_side(tmp_path, server):
    server.together = 4
    assert main(flags(write(tmp_path, 8), server, "--samples", 1, "--concurrency", 4)) == 0
    assert server.most_under_way == 4
    server.most_under_way, server.together, server.delay = 0, 0, 0.1
    assert main(flags(write(tmp_path, 3), server, "--samples", 1, "--concurrency", 1, "--overwrite")) == 0
    assert server.most_under_way == 1


def test_killed_and_resumed(tmp_path, server):
    """Killed with kill -9 in the middle, started again: only what is missing is asked for, nothing stands twice."""
    result = write(tmp_path, 10)
    server.delay = 0.05
    command = [sys.executable, str(SCRIPT), *flags(result, server, "--concurrency", 2)]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    kill_when_lines(process, verdict_path(result), 7)  # the first has the settings
    with verdict_path(result).open("a") as file:
        file.write('{"key": "9", "digest": "')  # as if killed within a line
    time.sleep(0.5)  # what it had asked for arrives
    saved, asked = len(Verdicts.read(verdict_path(result)).ratings), len(server.requests)
    kept = sum(map(len, Verdicts.read(verdict_path(result)).ratings.values()))
    assert 6 <= kept < 30 and saved < 10
    server.delay = 0
    assert main(flags(result, server)) == 0
    assert len(server.requests) - asked == 30 - kept
    ratings = Verdicts.read(verdict_path(result)).ratings
    assert {len(samples) for samples in ratings.values()} == {3} and len(ratings) == 10
    asked = len(server.requests)
    assert main(flags(result, server)) == 0
    assert len(server.requests) == asked


def test_killed_while_the_file_was_begun(tmp_path, server, monkeypatch):
    result = write(tmp_path, 1)

    def killed(path, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", killed)
        main(flags(result, server, "--concurrency", 1))
    assert not verdict_path(result).exists()
    verdict_path(result).touch()  # earlier versions left an empty file
    assert main(flags(result, server)) == 0
    assert [entry["rating"] for entry in entries(result)] == [4.0] * 3


def test_another_judge_or_rubric_is_refused(tmp_path, server, capsys):
    result = write(tmp_path)
    assert main(flags(result, server)) == 0
    asked = len(server.requests)
    rubric = tmp_path / "mine.txt"
    rubric.write_text("{prompt} {response} ?")
    assert main([*flags(result, server), "--model", "another-judge"]) == 2
    assert "model was 'some-judge', now 'another-judge'" in capsys.readouterr().err
    assert main([*flags(result, server), "--rubric", str(rubric), "--samples", "5"]) == 2
    told = capsys.readouterr().err
    assert "rubric was '" in told and "samples was 3, now 5" in told and "--overwrite" in told
    assert len(server.requests) == asked
    assert main([*flags(result, server), "--rubric", str(rubric), "--overwrite"]) == 0
    assert server.requests[-1]["messages"] in [
        [{"role": "user", "content": f"question {n} answer {n} ?"}] for n in range(2)
    ]


def test_changed_answers_are_refused_and_new_ones_judged(tmp_path, server, capsys):
    result = write(tmp_path, 2)
    assert main(flags(result, server)) == 0
    write(tmp_path, 3)  # one more answer is no change
    assert main(flags(result, server)) == 0
    assert len(server.requests) == 9
    result.write_text(result.read_text().replace("answer 1", "another answer"))
    assert main(flags(result, server)) == 2
    assert "1 of the answers judged there are not in the result" in capsys.readouterr().err
    assert len(server.requests) == 9


def test_items_without_an_answer_are_not_judged_and_equal_ones_once(tmp_path, server, capsys):
    result = write(tmp_path, 1)
    with result.open("a") as file:
        file.write(json.dumps({"prompt": "question 0", "response": "answer 0"}) + "\n")
        file.write(json.dumps({"prompt": "question 2", "response": "", "error": "no audio"}) + "\n")
        file.write(json.dumps({"prompt": "question 3", "response": ""}) + "\n")
    assert main(flags(result, server)) == 0
    assert len(server.requests) == 6
    assert "3 answers, 1 item(s) without one; 6 of 6 verdicts to be asked for" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("x-openbookqa-test-audio.jsonl", [], "needs no judge: evaluate.py scores it by its rule for mcq"),
        ("x-alpacaeval-test-audio.jsonl", ["--rubric", "none.txt"], "none.txt: no such rubric"),
        ("x-alpacaeval-test-audio.jsonl", ["--base_url", "localhost:80"], "must begin with http:// or https://"),
        ("x-sd-qa-usa-audio.jsonl", [], "item 1: no field 'reference'"),
    ],
)
def test_what_cannot_start_says_why(tmp_path, server, capsys, name, more, message):
    assert main([*flags(write(tmp_path, 1, name), server), *more]) == 2
    assert message in capsys.readouterr().err
    assert not server.requests


def test_a_foreign_file_is_not_taken_for_verdicts(tmp_path):
    path = tmp_path / "x.judge.jsonl"
    path.write_text('{"key": "1"}\n')
    with pytest.raises(BenchmarkFileError, match="does not begin with a judge's settings"):
        Verdicts.read(path)


def test_rubric_fills_in_and_splits(tmp_path):
    path = tmp_path / "rubric.txt"
    path.write_text("Be fair.\n---\nQ: {prompt} A: {response} {other}\n")
    rubric = Rubric.read(path, "open")
    question = JudgeQuestion("1", "what is {response}?", " it is {prompt}\n", None)
    assert rubric.messages(question) == [
        {"role": "system", "content": "Be fair."},
        {"role": "user", "content": "Q: what is {response}? A: it is {prompt} {other}"},
    ]
    with pytest.raises(BenchmarkFileError, match=r"must hold \{reference\}"):
        Rubric.read(path, "qa")


@pytest.mark.parametrize(
    ("reply", "rating"),
    [
        ("4", 4), (" 5\n", 5), ("1.", 1), ("**3**", 3), ("4/5", 4), ("4 out of 5", 4), ("3 points", 3), ("4.5", 4.5),
        ("[[2]]", 2), ("Rating: 4", 4), ("Score: **3**", 3), ("The rating is 4.", 4), ("I like it. [[5]]", 5),
        ("<think>maybe 2</think>\n4", 4), ("(2)", 2),
        ("The answer is thin, score: 3 seems low.</think>\n\n4", 4), ("<think>score: 3", None), ("4</think>", None),
        ("0", None), ("6", None), ("10", None), ("45", None), ("-", None), ("", None), ("good", None),
        ("4 or 5", None), ("Rating: 2, no, rating: 3", None), ("There are 4 errors", None), ("5 stars? No, 3", None),
    ],
)  # fmt: skip
def test_ratings(reply, rating):
    assert parse_rating(reply) == rating


@pytest.mark.parametrize(
    ("reply", "vote"),
    [
        ("Yes", 1), ("yes.", 1), ("**No**", 0), (" no\n", 0), ("No, it is not.", 0), ('"Yes"', 1), ("YES!", 1),
        ("<think>no, or</think> yes", 1),
        ("", None), ("Nope", None), ("maybe", None), ("The answer is yes", None), ("Yes and no", None), ("1", None),
    ],
)  # fmt: skip
def test_votes(reply, vote):
    assert parse_vote(reply) == vote
