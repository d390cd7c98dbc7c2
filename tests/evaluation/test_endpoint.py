import argparse
import threading
import time
from email.utils import formatdate
from types import SimpleNamespace

import pytest
from urllib3 import HTTPResponse

from evaluation.endpoint import (
    EndpointError,
    NoReply,
    add_endpoint_flags,
    ask_all,
    endpoint_of,
    retry_after,
    visible_answer,
)


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [("7", 7, 7), ("in an hour", 3590, 3600), ("soon", None, None), (None, None, None)],
)
def test_retry_after_is_read(header, low, high):
    if header == "in an hour":
        header = formatdate(time.time() + 3600, usegmt=True)
    headers = {} if header is None else {"Retry-After": header}
    wait = retry_after(SimpleNamespace(raw=HTTPResponse(headers=headers)))
    assert wait is None if low is None else low <= wait <= high


def test_every_question_comes_back_with_its_answer_or_why_not():
    def ask(number):
        if number % 3 == 0:
            raise NoReply(f"not {number}")
        return number**2

    answers = dict(ask_all(ask, range(10), 3, "answer", "test"))
    assert {number: answer for number, answer in answers.items() if number % 3} == {
        n: n * n for n in (1, 2, 4, 5, 7, 8)
    }
    assert [str(answers[number]) for number in (0, 3, 6, 9)] == ["not 0", "not 3", "not 6", "not 9"]


def test_what_no_answer_will_come_of_is_given_up():
    asked = []

    def ask(number):
        asked.append(number)
        time.sleep(0.002)
        raise NoReply("busy") if number else EndpointError("no such model")

    with pytest.raises(EndpointError, match="no such model"):
        list(ask_all(ask, range(100), 1, "answer", "test"))
    with pytest.raises(EndpointError, match="20 questions failed one after the other, the last one: busy"):
        list(ask_all(ask, range(1, 100), 1, "answer", "test"))
    assert len(asked) < 60


def test_answers_that_came_beside_a_failure_are_kept():
    came = threading.Barrier(4, timeout=10)

    def ask(question):
        came.wait()  # all four are under way
        if question == 2:
            raise EndpointError("401")
        time.sleep(0.2)  # and the failure is known first
        return -question

    answers = []
    with pytest.raises(EndpointError, match="401"):
        for pair in ask_all(ask, range(4), 4, "answer", "test"):
            answers.append(pair)  # each as it comes, as callers do
    assert sorted(answers) == [(0, 0), (1, -1), (3, -3)]


def test_flags_make_an_endpoint(monkeypatch):
    monkeypatch.setenv("MY_KEY", "s3cret")
    parser = argparse.ArgumentParser()
    add_endpoint_flags(parser, temperature=0.5, top_p=0.9, max_tokens=7)
    flags = ["--base_url", "http://host/v1/", "--model", "m", "--api_key_env", "MY_KEY"]
    endpoint = endpoint_of(parser.parse_args(flags))
    assert endpoint.url == "http://host/v1/chat/completions"
    assert (endpoint.model, endpoint.key, endpoint.temperature, endpoint.top_p) == ("m", "s3cret", 0.5, 0.9)
    assert endpoint.max_tokens == 7 and "s3cret" not in repr(endpoint)
    with pytest.raises(EndpointError, match="'host/v1' must begin with http"):
        endpoint_of(parser.parse_args(["--base_url", "host/v1", "--model", "m"]))


@pytest.mark.parametrize("key", ["s3cret\r", "\ns3cret ", "s3\ncret", "s3cret s3cret", "“s3cret”"])
def test_a_key_is_one_word_and_never_shown(monkeypatch, key):
    """In a header that cannot be, requests would show it, and the reason is kept on disk."""
    monkeypatch.setenv("OPENAI_API_KEY", key)
    parser = argparse.ArgumentParser()
    add_endpoint_flags(parser, temperature=0.5, top_p=0.9, max_tokens=7)
    args = parser.parse_args(["--base_url", "http://host/v1", "--model", "m"])
    if key.strip() == "s3cret":
        assert endpoint_of(args).key == "s3cret"
    else:
        with pytest.raises(EndpointError, match="variable OPENAI_API_KEY holds blanks or characters") as refused:
            endpoint_of(args)
        assert "s3" not in str(refused.value)


@pytest.mark.parametrize(
    ("reply", "visible"),
    [
        ("The answer is thin, score: 3 seems low.</think>\n\n4", "4"),
        ("<THINK>3</THINK>4", "4"),
        ("<thinking>3</thinking>4", "4"),
        ("[THINK]3[/THINK]4", "4"),
        ("<seed:think>3</seed:think>4", "4"),
        ("◁think▷3◁/think▷4", "4"),
        ("<|channel|>analysis<|message|>3<|end|><|start|>assistant<|channel|>final<|message|>4", "4"),
        ("<|channel|>analysis<|message|>score: 3", ""),
        ("<think>score: 3", ""),
        ("[THINK]3", ""),
        ("<think>a</think>3<think>b", ""),
        ("I think 4 [of 5]", "I think 4 [of 5]"),
    ],
)
def test_what_a_model_says_after_its_thoughts_alone_counts(reply, visible):
    assert visible_answer(reply).strip() == visible
