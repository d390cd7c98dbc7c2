import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from data_prep.instructions import Pool
from data_prep.replies import verdict_on
from data_prep.synthesize_qa import main
from evaluation import endpoint
from evaluation.journal import AnswerRecord
from src.manifest import read_manifest, write_manifest
from src.manifest_check import Limits, check_manifest
from tests.chat_server import kill_when_lines

SCRIPT = Path(__file__).resolve().parents[2] / "data_prep" / "synthesize_qa.py"
POOL = SCRIPT.with_name("instructions.json")
REPLY = "A woman says hello."


def entry(number, **changes):
    return {
        "audio_id": f"a{number}", "audio_filepath": f"clips/a{number}.wav", "input": "What can you hear?",
        "target": f"hello {number}", "transcription": f"hello {number}", "dataset": "toy", "duration": 0.5,
        "attributes": {"gender": ("female", "male")[number % 2], "emotion": ("happy", "sad", "angry")[number % 3]},
    } | changes  # fmt: skip


def run(manifest, server, *more):
    """`more` may begin with further manifests."""
    flags = [
        "--output",
        manifest.parent / "out.json",
        "--base_url",
        server.url,
        "--model",
        "some-llm",
        "--backoff",
        0.01,
    ]
    return main([str(item) for item in (*flags, manifest, *more)])


def samples_of(manifest):
    return read_manifest(manifest.parent / "out.json")


def test_answers_become_samples(manifest, server, capsys):
    assert run(manifest, server, "--per_clip", 3) == 0
    samples = samples_of(manifest)
    assert check_manifest(manifest.parent / "out.json", Limits()).problems == []
    assert [sample.audio_id for sample in samples] == [f"a{n}-q{q}" for n in range(10) for q in range(3)]
    asked = {request["messages"][1]["content"]: request for request in server.requests}
    for sample in samples:
        assert sample.target == "A woman says hello." and sample.extra["kind"] in (
            "description",
            "content",
            "attribute",
            "choice",
        )
        known = sample.extra["attributes"]
        content = (
            f"What is known:\nThe recording lasts 0.5 seconds.\nThe speaker is {known['gender']} and sounds "
            f'{known["emotion"]}.\nThe words: "{sample.transcription}"\n\nInstruction: {sample.input}'
        )
        assert content in asked
    body = server.requests[0]
    assert body["model"] == "some-llm" and body["messages"][0] == {"role": "system", "content": Pool.read(POOL).system}
    assert len(server.requests) == 30 and set(server.keys) == {"Bearer s3cret"}
    assert "out.json: 30 samples (" in capsys.readouterr().out
    assert not any("s3cret" in path.read_text() for path in manifest.parent.glob("out.json*"))


def test_refusals_and_empty_answers_are_dropped_and_counted(manifest, server, capsys):
    server.script = ["UNKNOWN", "", "  \n", "I'm sorry, but I can't determine that."]
    assert run(manifest, server, "--concurrency", 1) == 0
    assert len(samples_of(manifest)) == 6
    assert "6 samples" in (told := capsys.readouterr().out) and "dropped 2 refusals, 2 empty and 0 unrea" in told
    asked = len(server.requests)
    assert run(manifest, server) == 0 and len(server.requests) == asked  # what was refused is not asked again


def test_half_an_answer_is_not_learned_and_is_asked_for_again(manifest, server, capsys):
    server.script = ["too long", "filtered", "parts", "A \ud83d", "number", "unsafe", "abort"]
    assert run(manifest, server, "--concurrency", 1, "--tries", 1) == 1
    told = capsys.readouterr()
    assert "the reply is cut at 256 tokens: raise --max_tokens" in told.err
    assert told.err.count("the reply is cut by the endpoint's filter") == 2 and "not a chat completion" in told.err
    assert "the reply broke off, finish_reason abort: '4, a man' (after 1 tries)" in told.err
    assert "dropped 0 refusals, 0 empty and 1 unreadable answers" in told.out
    targets = [sample.target for sample in samples_of(manifest)]
    assert targets.count("A man sings.") == 1 and len(targets) == 4 and set(targets) == {"A man sings.", REPLY}
    asked = len(server.requests)
    assert run(manifest, server) == 0 and len(server.requests) == asked + 5


def test_cut_answers_do_not_hold_up_the_rest(manifest, server, capsys, monkeypatch):
    """Where some are whole, a run goes on, however many are cut; --max_tokens may be raised for them alone."""
    monkeypatch.setattr(endpoint, "MAX_FAILURES_IN_A_ROW", 3)
    server.reply = "too long"
    assert run(manifest, server, "--concurrency", 1) == 2
    told = capsys.readouterr().err
    assert "3 questions failed one after the other" in told and "raise --max_tokens. Mend that, and start" in told
    server.script, asked = [REPLY], len(server.requests)
    for more in (10, 9):
        (manifest.parent / "out.json").unlink(missing_ok=True)
        assert run(manifest, server, "--concurrency", 1) == 1
        assert len(server.requests) - asked == more and len(samples_of(manifest)) == 1
        asked = len(server.requests)
    server.reply = REPLY
    assert run(manifest, server, "--max_tokens", 512) == 0
    assert len(server.requests) - asked == 9 and len(samples_of(manifest)) == 10


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ('The speaker says, "I\'m sorry, I can\'t help with that today."', "kept"),
        ("The woman is frustrated: “I can’t access my account.”", "kept"),
        ("The speaker says: I'm not able to go to work today.", "kept"),
        ("He mentions a given text message.", "kept"),
        ("I don't have access to the audio.", "refused"),
        ("I'm sorry, I do not have enough information.", "refused"),
        ("I cannot tell.", "refused"),
        ("There is not enough information to answer.", "refused"),
        ("It is not possible to determine the gender.", "refused"),
        ("The answer is UNKNOWN.", "refused"),
        ("From the words alone, I cannot determine it.", "refused"),
        ("A \ud83d", "unreadable"), ("A woman says hello.<|eot_id|>", "unreadable"),
        ("Une voix \ufffd.", "unreadable"), ("A woman\x07 says hello.", "unreadable"),
        ("A man speaks.", "kept"), ("", "empty"), (" \n", "empty"), ("UNKNOWN", "refused"), ("unknown.", "refused"),
        ("Unknown territory is what the speaker is afraid of.", "kept"), ("**UNKNOWN**", "refused"),
        ("I'm sorry, but I cannot hear the audio.", "refused"), ("Sorry, I can’t help with that.", "refused"),
        ("I am unable to listen to recordings.", "refused"), ("As an AI language model, I have no ears.", "refused"),
        ("Based on the provided description, she is sad.", "refused"), ("I cannot determine the age.", "refused"),
        ("I can't come tonight, I am too tired.", "kept"), ("I'm sorry I am late.", "kept"),
        ("He has been given information about the train.", "kept"), ("The speaker says sorry and sounds sad.", "kept"),
        ('"UNKNOWN"', "refused"), ("“UNKNOWN”", "refused"), ('"UNKNOWN".', "refused"), ("'UNKNOWN'", "refused"),
        ('The answer is "UNKNOWN".', "refused"), ('She asks for the "UNKNOWN SOLDIER".', "kept"),
        ('"I cannot determine the speaker\'s age."', "refused"), ('"A woman says: I cannot answer."', "kept"),
        ("Unfortunately I cannot determine the age.", "refused"), ("Unfortunately I'm unable to tell.", "refused"),
        ("Based on the words alone I cannot determine the region.", "refused"),
        ("Without more context I cannot answer this.", "refused"), ("I think I can't tell.", "refused"),
        ("From this recording I can't identify the accent.", "refused"),
        ("I'm afraid I cannot answer this.", "refused"), ("I’m afraid that I can’t answer this.", "refused"),
        ("The voice is female, but I'm unable to determine her age.", "refused"),
        ("It is a woman and I'm unable to say more.", "refused"),
        ("The words are short, so I’m not able to tell.", "refused"),
        ("The age cannot be determined from the words.", "refused"),
        ("From the words alone it is impossible to tell.", "refused"),
        ("It's not possible to say how old she is.", "refused"),
        ("His age is not possible to determine.", "refused"), ("Impossible to say.", "refused"),
        ("It was impossible to say who had won.", "kept"), ("The noise made it impossible to tell.", "kept"),
        ("The speaker says it is impossible to know what the future brings.", "kept"),
        ("He thinks that it is impossible to know.", "kept"), ("She works as an aide.", "kept"),
        ("The woman says 'I cannot answer the phone.'", "kept"), ("He said I'm not able to go.", "kept"),
        ("The speaker says I cannot answer the phone.", "kept"), ("He wears it as an artificial leg.", "kept"),
    ],
)  # fmt: skip
def test_what_a_refusal_is(reply, verdict):
    assert verdict_on(AnswerRecord(reply)) == verdict


def test_trouble_on_the_way_is_waited_out(manifest, server):
    server.script = [429, 500, "cut", "html", "odd"]
    assert run(manifest, server, "--concurrency", 1) == 0
    assert len(samples_of(manifest)) == 10 and len(server.requests) == 15


def test_what_cannot_be_answered_spares_the_rest_and_is_asked_again(manifest, server, capsys):
    server.reply = lambda body: 400 if '"hello 3"' in body["messages"][1]["content"] else "A woman says hello."
    assert run(manifest, server) == 1
    assert [sample.audio_id for sample in samples_of(manifest)] == [f"a{n}-q0" for n in range(10) if n != 3]
    told = capsys.readouterr().err
    assert "no answer: a3, question 0: HTTP 400" in told and "1 answer(s) could not be had; run again" in told
    asked, server.reply = len(server.requests), "At last."
    assert run(manifest, server) == 0
    assert len(server.requests) == asked + 1
    assert {sample.audio_id: sample.target for sample in samples_of(manifest)}["a3-q0"] == "At last."


def test_a_wrong_key_ends_the_run(manifest, server, capsys):
    server.reply = 401
    assert run(manifest, server) == 2
    assert "the key is not accepted" in capsys.readouterr().err and not (manifest.parent / "out.json").exists()


@pytest.mark.parametrize("how", ["fails", "refuses"])
def test_a_dead_endpoint_replaces_nothing(manifest, server, capsys, how):
    output, replies = manifest.parent / "out.json", manifest.parent / "out.json.replies.jsonl"
    output.write_bytes(before := manifest.read_bytes())
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))  # nobody listens: connections are refused
        server.reply = 500
        if how == "refuses":
            server.url = f"http://127.0.0.1:{unheard.getsockname()[1]}/v1"
        assert run(manifest, server, "--tries", 1) == 2
        assert "out.json is not written: there are no samples to put into it" in capsys.readouterr().err
        assert output.read_bytes() == before
        kept = replies.read_bytes()
        assert run(manifest, server, "--overwrite", "--tries", 1) == 2
    assert "Nothing was discarded" in capsys.readouterr().err and replies.read_bytes() == kept
    assert output.read_bytes() == before


def test_requests_go_out_side_by_side(manifest, server):
    server.together = 5
    assert run(manifest, server, "--concurrency", 5) == 0
    assert server.most_under_way == 5


def test_killed_and_resumed(manifest, server):
    """Killed with kill -9 in the middle, started again: only what is missing is asked for, nothing stands twice."""
    killed = threading.Event()
    server.reply = lambda body: "A woman says hello." if len(server.requests) < 12 or killed.wait(60) else ""
    replies = manifest.parent / "out.json.replies.jsonl.partial"
    command = [sys.executable, SCRIPT, manifest, "--output", manifest.parent / "out.json", "--base_url", server.url]
    command += ["--model", "some-llm", "--backoff", "0.01", "--per_clip", "3", "--concurrency", "2"]
    kill_when_lines(subprocess.Popen(command, stderr=subprocess.DEVNULL), replies, 7)
    killed.set()
    with replies.open("a") as file:
        file.write('{"index": 29, "te')  # as if killed within a line
    kept, asked = replies.read_text().count("\n") - 1, len(server.requests)
    assert 6 <= kept < 30
    assert run(manifest, server, "--per_clip", 3) == 0
    assert len(server.requests) - asked == 30 - kept
    assert len(samples_of(manifest)) == 30 and not replies.exists()


def test_another_way_of_asking_is_refused(manifest, server, capsys):
    assert run(manifest, server) == 0
    asked = len(server.requests)
    assert run(manifest, server, "--seed", 2) == 2
    told = capsys.readouterr().err
    assert "seed was 1, now 2" in told and "--overwrite" in told and len(server.requests) == asked
    assert run(manifest, server, "--seed", 2, "--overwrite") == 0
    assert len(server.requests) == asked + 11  # one to see whether anybody answers, before replies are discarded


def test_a_clip_in_two_manifests_is_asked_about_once(manifest, server, capsys):
    other = manifest.parent / "other.jsonl"
    write_manifest(other, [entry(9, audio_id="again"), entry(11, audio_filepath="clips/a0.wav"), entry(12)])
    assert run(manifest, server, other) == 0
    assert [sample.audio_id for sample in samples_of(manifest)][-2:] == ["a9-q0", "a12-q0"] and len(
        server.requests
    ) == 11
    write_manifest(other, [entry(9, audio_filepath="elsewhere.wav")])
    assert run(manifest, server, other, "--overwrite") == 2
    assert "have one audio_id, a9" in capsys.readouterr().err


def test_a_pool_of_ones_own(manifest, server, tmp_path):
    pool = {"system": "Be brief.", "description": [], "content": ["Repeat it."], "attribute": {}, "choice": {}}
    (tmp_path / "pool.json").write_text(json.dumps(pool))
    assert run(manifest, server, "--pool", tmp_path / "pool.json", "--per_clip", 2) == 0
    assert {sample.input for sample in samples_of(manifest)} == {"Repeat it."} and len(server.requests) == 10
    assert server.requests[0]["messages"][0]["content"] == "Be brief."


def test_what_cannot_start_says_why(manifest, server, capsys, tmp_path):
    assert run(manifest, server, "--pool", tmp_path / "none.json") == 2
    assert "none.json is no pool of instructions" in capsys.readouterr().err
    assert run(manifest.with_name("none.json"), server) == 2
    assert "manifest" in capsys.readouterr().err
    write_manifest(manifest, [entry(0, transcription="", attributes={})])
    assert run(manifest, server) == 2
    assert "no instruction fits any clip" in capsys.readouterr().err
    assert not server.requests
