"""Preference pairs by a text LLM: what is asked, what is kept, what is dropped and counted, and what a kill leaves."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from data_prep import synthesize_preferences
from data_prep.synthesize_preferences import main, place_of_rejected, read_rejected, verdict_of_judge
from evaluation.journal import AnswerRecord
from src.manifest import Sample, read_manifest, write_manifest
from src.manifest_check import Limits, check_manifest
from tests.chat_server import kill_when_lines

SCRIPT = Path(synthesize_preferences.__file__)
WRITER = SCRIPT.with_name("rejected_answers.txt").read_text().strip()
GENDERS = ("woman", "man")


def is_writer(body):
    return body["messages"][0]["content"] == WRITER


def wrong_answer(body):
    """The good answer with the other gender, as JSON among other words."""
    answer = body["messages"][1]["content"].rpartition("Good answer: ")[2]
    right, wrong = GENDERS if "woman" in answer else GENDERS[::-1]
    reply = {"rejected": answer.replace(right, wrong), "explanation": f"The speaker is a {right}, not a {wrong}."}
    return f"<think>{{hm}}</think>```json\n{json.dumps(reply)}\n```"


def right_verdict(body):
    """What a perfect judge says: the recording is described, the answers stand in any order."""
    known, _, answers = body["messages"][1]["content"].partition("Answer 1: ")
    right = "woman" if "is female" in known else " man"
    wrong = 2 if right in answers.partition("Answer 2: ")[0] else 1
    return json.dumps({"wrong": wrong, "differences": 1, "about_sound": True, "claim_holds": True})


def reply(body):
    return wrong_answer(body) if is_writer(body) else right_verdict(body)


REPLY = reply


def entry(number, **changes):
    return {
        "audio_id": f"a{number}-q0", "audio_filepath": f"clips/a{number}.wav", "input": "Who speaks?",
        "target": f"A {GENDERS[number % 2]} says hello {number}.", "transcription": f"hello {number}", "dataset": "toy",
        "duration": 0.5, "kind": "attribute", "attributes": {"gender": ("female", "male")[number % 2]},
    } | changes  # fmt: skip


def run(manifest, server, *more):
    """`more` may begin with further manifests."""
    flags = ["--output", manifest.parent / "out.json", "--base_url", server.url, "--model", "Some-LLM 8B"]
    return main([str(item) for item in (*flags, "--backoff", 0.01, manifest, *more)])


def pairs_of(manifest):
    return json.loads((manifest.parent / "out.json").read_text())


def test_good_answers_become_pairs(manifest, server, capsys):
    assert run(manifest, server) == 0
    assert check_manifest(manifest.parent / "out.json", Limits()).problems == []
    pairs, source = pairs_of(manifest), read_manifest(manifest)
    assert [pair["audio_id"] for pair in pairs] == [sample.audio_id for sample in source]
    for number, (pair, sample) in enumerate(zip(pairs, source, strict=True)):
        right, wrong = GENDERS if number % 2 == 0 else GENDERS[::-1]
        assert pair["target"] == pair["chosen"] == sample.target == f"A {right} says hello {number}."
        assert pair["rejected"] == f"A {wrong} says hello {number}."
        assert pair["dpo_explanation"] == f"The speaker is a {right}, not a {wrong}."
        assert pair["dpo_source"].startswith("attribute_some_llm_8b_") and pair["attributes"]
    assert len(server.requests) == 20 and set(server.keys) == {"Bearer s3cret"}
    written = [body for body in server.requests if is_writer(body)]
    judged = [body for body in server.requests if not is_writer(body)]
    assert len(written) == 10 and {body["temperature"] for body in written} == {0.7}
    assert {body["temperature"] for body in judged} == {0.0}
    said = {body["messages"][1]["content"] for body in judged}
    known = 'What is known:\nThe recording lasts 0.5 seconds.\nThe speaker is female.\nThe words: "hello 4"\n\nInstruc'
    asked = next(text for text in said if "hello 4" in text)
    assert asked.startswith(known) and asked.endswith("Claim: The speaker is a woman, not a man.")
    orders = {"A woman says" in text.partition("Answer 2: ")[0] for text in said if "is female" in text}
    assert orders == {True, False}  # the rejected answer is now the first, now the second one
    told = capsys.readouterr().out
    assert "10 answers: 10 rejected ones written; 0 refused, " in told
    assert "judged away 0: " in told and "out.json: 10 preference pairs" in told
    assert not any("s3cret" in path.read_text() for path in manifest.parent.glob("out.json*"))


def test_what_is_dropped_is_counted_and_not_asked_again(manifest, server, capsys):
    bad = ["UNKNOWN", "", "A man says hello.", json.dumps({"rejected": "a woman says HELLO 4", "explanation": "none"})]
    verdicts = [
        {"wrong": 0, "differences": 0, "about_sound": False, "claim_holds": False},
        {"wrong": None, "differences": 2, "about_sound": True, "claim_holds": True},
        {"wrong": None, "differences": "1", "about_sound": False, "claim_holds": True},
        {"wrong": None, "differences": 1, "about_sound": True, "claim_holds": False},
        "I cannot tell.",
    ]

    def judge(verdict):
        def act(body):
            if isinstance(verdict, str):
                return verdict
            right = json.loads(right_verdict(body))
            return json.dumps(verdict | ({"wrong": str(right["wrong"])} if verdict["wrong"] is None else {}))

        return act

    # In the order of the samples: four that are never judged, then five whose verdicts speak against them, then one.
    order = [0, 1, 2, 4]
    by_number = dict(zip(order, bad, strict=True)), dict(zip([3, 5, 6, 7, 8], map(judge, verdicts), strict=True))

    def act(body):
        number = int(body["messages"][1]["content"].partition('"hello ')[2][0])
        what = by_number[not is_writer(body)].get(number, reply)
        return what(body) if callable(what) else what

    server.reply = act
    assert run(manifest, server) == 0
    assert [pair["audio_id"] for pair in pairs_of(manifest)] == ["a9-q0"]
    told = capsys.readouterr().out
    assert "10 answers: 6 rejected ones written; 1 refused, 1 empty, 1 unreadable, 1 unchanged, 0 failed" in told
    assert (
        "judged away 5: 1 the rejected answer not found wrong, 1 not one difference, 1 not about the sound, "
        "1 another difference than explained, 1 verdict unreadable, 0 no verdict"
    ) in told
    asked = len(server.requests)
    assert asked == 16
    assert run(manifest, server) == 0 and len(server.requests) == asked


SAMPLE = Sample("a", Path("a.wav"), "Who?", "A man, 3 years.", "", "toy", 1.0, {})


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ('{"rejected": "A woman, 3 years.", "explanation": "x"}', "written"),
        ('Here:\n```json\n{"rejected": "A man,\n4 years.", "explanation": "x"}\n``` Done.', "written"),
        ('<think>{"rejected": "no"</think>{"rejected": "A woman.", "explanation": "x"}', "written"),
        ('<think>{"rejected": "A woman.", "explanation": "x"}', "empty"),  # cut within its thoughts
        ('{"rejected": "a man 3 years", "explanation": "x"}', "unchanged"),
        ('{"rejected": "", "explanation": "x"}', "empty"), ('{"rejected": "UNKNOWN", "explanation": ""}', "unreadable"),
        ('{"rejected": "I am unable to do so.", "explanation": "x"}', "refused"), ("I cannot answer that.", "refused"),
        ('{"rejected": "A woman."}', "unreadable"), ('{"rejected": "A wo', "unreadable"), ("A woman.", "unreadable"),
        ('{"rejected": ["A woman."], "explanation": "x"}', "unreadable"),
        ('{"rejected": "A woman.<|eot_id|>", "explanation": "x"}', "unreadable"),
        ('{"rejected": "A woman.", "explanation": "\ufffd"}', "unreadable"),
        ('{"rejected": "A \\ud83d woman.", "explanation": "x"}', "unreadable"), ("{" * 100_000, "unreadable"),
    ],
)  # fmt: skip
def test_what_a_rejected_answer_is(reply, verdict):
    assert read_rejected(SAMPLE, AnswerRecord(reply)).verdict == verdict


def test_a_judge_that_always_names_the_same_answer_keeps_about_half():
    always = AnswerRecord('{"wrong": 1, "differences": 1, "about_sound": true, "claim_holds": true}')
    samples = [Sample(f"a{n}", Path("a.wav"), "", "", "", "toy", 1.0, {}) for n in range(200)]
    kept = sum(verdict_of_judge(sample, always) == "kept" for sample in samples)
    assert kept == sum(place_of_rejected(sample) == 1 for sample in samples) and 80 < kept < 120


def test_verdicts_are_not_read_for_other_ids(manifest, server, capsys):
    """Which answer the judge saw first hangs on them."""
    assert run(manifest, server) == 0
    entries = json.loads(manifest.read_text())
    manifest.write_text(json.dumps([entry | {"audio_id": f"stage2-{entry['audio_id']}"} for entry in entries]))
    assert run(manifest, server) == 2
    assert "judged.jsonl holds answers made with other settings: order was" in capsys.readouterr().err


def test_another_judge_does_not_ask_for_the_answers_again(manifest, server, capsys, tmp_path):
    assert run(manifest, server) == 0
    (tmp_path / "judge.txt").write_text("Judge.")
    asked = len(server.requests)
    more = ("--judge_prompt", tmp_path / "judge.txt", "--judge_model", "strict")
    assert run(manifest, server, *more) == 2
    told = capsys.readouterr().err
    assert "judge_model was 'Some-LLM 8B', now 'strict'" in told and len(server.requests) == asked
    assert "or pass --judge_again to start afresh" in told and "--overwrite" not in told
    assert run(manifest, server, *more, "--judge_again") == 0
    assert len(server.requests) == asked + 11  # one to see whether anybody answers
    assert {body["model"] for body in server.requests[asked:]} == {"strict"}
    assert {body["messages"][0]["content"] for body in server.requests[asked + 1 :]} == {"Judge."}
    for path in manifest.parent.glob("out.json.replies.*"):
        path.unlink()
    assert run(manifest, server, *more) == 2 and "verdicts on answers of which" in capsys.readouterr().err


def test_a_dead_endpoint_replaces_nothing(manifest, server, capsys):
    assert run(manifest, server) == 0
    before = {path.name: path.read_bytes() for path in manifest.parent.glob("out.json*")}
    server.reply = 500
    assert run(manifest, server, "--overwrite", "--tries", 1) == 2
    assert run(manifest, server, "--judge_again", "--tries", 1) == 2
    assert capsys.readouterr().err.count("Nothing was discarded") == 2
    write_manifest(manifest, [entry(number, input="Who is it?") for number in range(10)])
    assert run(manifest, server, "--tries", 1) == 2  # other questions: these are not replaced unasked either
    assert {path.name: path.read_bytes() for path in manifest.parent.glob("out.json*")} == before
    for path in manifest.parent.glob("out.json.*"):
        path.unlink()
    assert run(manifest, server, "--tries", 1) == 2
    assert "is not written: there are no samples" in capsys.readouterr().err
    assert (manifest.parent / "out.json").read_bytes() == before["out.json"]


def test_what_fails_is_asked_again(manifest, server, capsys):
    server.reply = lambda body: 400 if '"hello 3"' in body["messages"][1]["content"] else reply(body)
    assert run(manifest, server) == 1
    assert len(pairs_of(manifest)) == 9 and len(server.requests) == 19
    told = capsys.readouterr()
    assert "no answer: a3-q0, rejected answer: HTTP 400" in told.err and "1 reply(s) could not be had" in told.err
    assert "0 unchanged, 1 failed" in told.out
    server.reply = lambda body: reply(body) if is_writer(body) else 400
    assert run(manifest, server) == 1 and len(pairs_of(manifest)) == 9 and len(server.requests) == 21
    assert "no answer: a3-q0, verdict: HTTP 400" in capsys.readouterr().err
    server.reply = reply
    assert run(manifest, server) == 0 and len(pairs_of(manifest)) == 10 and len(server.requests) == 22


def test_a_sample_in_two_manifests_is_asked_about_once(manifest, server, capsys):
    other = manifest.parent / "other.jsonl"
    again = entry(1, audio_id="again", audio_filepath=str(manifest.parent / "clips" / "a1.wav"))
    unknown = entry(2, audio_id="sound", transcription="", attributes={}, transcribed=False)
    write_manifest(other, [entry(9), again, unknown, entry(1, audio_id="new", input="Who is it?")])
    assert run(manifest, server, other) == 0
    assert [pair["audio_id"] for pair in pairs_of(manifest)] == [f"a{n}-q0" for n in range(10)] + ["new"]
    assert len(server.requests) == 22
    write_manifest(other, [entry(9, input="Who is it?")])
    assert run(manifest, server, other, "--overwrite") == 2
    assert "two different samples have one audio_id, a9-q0" in capsys.readouterr().err


def test_a_draw_stays_when_samples_are_added(manifest, server):
    assert run(manifest, server, "--pairs", 4) == 0
    few = [pair["audio_id"] for pair in pairs_of(manifest)]
    assert len(few) == 4 and few == sorted(few)
    assert run(manifest, server, "--pairs", 7, "--overwrite") == 0
    assert set(few) < {pair["audio_id"] for pair in pairs_of(manifest)}


@pytest.mark.slow
def test_killed_and_resumed_in_either_pass(manifest, server):
    """Killed with kill -9 among the answers, then among the verdicts: only what is missing is asked for."""
    command = [sys.executable, SCRIPT, manifest, "--output", manifest.parent / "out.json", "--base_url", server.url]
    command += ["--model", "Some-LLM 8B", "--backoff", "0.01", "--concurrency", "2"]
    for name in ("replies", "judged"):
        resumed = threading.Event()
        server.reply = lambda body, writes=name == "replies", resumed=resumed: (
            reply(body)
            if is_writer(body) != writes or sum(is_writer(one) == writes for one in server.requests) <= 6
            else str(resumed.wait(60))
        )
        partial = manifest.parent / f"out.json.{name}.jsonl.partial"
        kill_when_lines(subprocess.Popen(command, stderr=subprocess.DEVNULL), partial, 5)
        resumed.set()
        server.reply = reply
        with partial.open("a") as file:
            file.write('{"index": 9, "te')  # as if killed within a line
    kept, asked = partial.read_text().count("\n") - 1, len(server.requests)
    assert run(manifest, server) == 0
    assert len(server.requests) - asked == 10 - kept and len(pairs_of(manifest)) == 10 and not partial.exists()


def test_an_input_is_never_an_output(manifest, server, capsys, tmp_path):
    prompt = tmp_path / "out.json.judged.jsonl"
    prompt.write_text("Judge.")
    assert run(manifest, server, "--judge_prompt", prompt) == 2
    assert run(manifest, server, manifest.parent / "out.json.replies.jsonl.meta.json") == 2  # no such file: its reader
    flags = ["--base_url", server.url, "--model", "m"]
    assert main([str(manifest), "--output", str(manifest), *flags]) == 2
    told = capsys.readouterr().err
    assert told.count("would be overwritten, and it is an input") == 2 and not server.requests


def test_what_cannot_start_says_why(manifest, server, capsys, tmp_path):
    (tmp_path / "empty.txt").write_text(" \n")
    assert run(manifest, server, "--prompt", tmp_path / "empty.txt") == 2
    assert "empty.txt is empty; expected a text for the LLM" in capsys.readouterr().err
    assert run(manifest, server, "--judge_prompt", tmp_path / "none.txt") == 2
    assert "none.txt cannot be read" in capsys.readouterr().err
    write_manifest(manifest, [entry(0, transcription="", attributes={})])
    assert run(manifest, server) == 2
    assert "nothing is known of any clip" in capsys.readouterr().err
    assert not server.requests
