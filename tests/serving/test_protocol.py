import json

import pytest

from serving.protocol import RequestError, check_greedy, parse_request
from tests.serving.test_validation import audio, parse, text, user


@pytest.mark.parametrize(
    ("asked_for", "param", "message"),
    [
        ({"n": 2}, "n", "n is not supported: leave it out, or say 1"),
        ({"tools": [{"type": "function"}]}, "tools", "tools is not supported: leave it out"),
        ({"tool_choice": "required"}, "tool_choice", "tool_choice is not supported"),
        ({"logprobs": True}, "logprobs", "logprobs is not supported: leave it out, or say False"),
        ({"response_format": {"type": "json_object"}}, "response_format", "response_format is not supported"),
        ({"modalities": ["text", "audio"]}, "modalities", "modalities is not supported"),
        ({"reasoning_effort": "low"}, "reasoning_effort", "reasoning_effort is not supported: .*, or say 'none'$"),
        ({"repetition_penalty": 1.1}, "repetition_penalty", "repetition_penalty is not supported: leave it out, or sa"),
        ({"skip_special_tokens": False}, "skip_special_tokens", "leave it out, or say True"),
        ({"chat_template_kwargs": {"a": 1}}, "chat_template_kwargs", "leave it out, or say {}"),
        ({"beam": 3}, "beam", "unknown parameter 'beam': leave it out"),
        ({"canvas": 0}, "canvas", "canvas: Input should be greater than or equal to 1"),
        ({"max_tokens": 0}, "max_tokens", "max_tokens: Input should be greater than or equal to 1"),
        ({"max_tokens": "many"}, "max_tokens", "max_tokens: Input should be a valid integer"),
        ({"temperature": 3}, "temperature", "temperature: Input should be less than or equal to 2"),
        ({"temperature": float("nan")}, "temperature", "temperature: Input should be a finite number"),
        ({"stop": list("abcde")}, "stop", "stop: List should have at most 4 items"),
        ({"steps": 10**9 + 1}, "steps", "steps: Input should be less than or equal to 65536"),
        ({"model": "x" * 1000}, "model", "model: String should have at most 200 characters"),
        ({"messages": [user(text("x" * 100_001))]}, "messages", "should have at most 100000 characters"),
        ({"stop": ""}, "stop", r"stop\[0\]: String should have at least 1 character"),
        ({"messages": []}, "messages", "messages: List should have at least 1 item"),
        ({"messages": "hello"}, "messages", "messages: Input should be a valid array"),
        ({"messages": [{"role": "king", "content": ""}]}, "messages", r"messages\[0\]\.role: Input should be 'system'"),
        ({"messages": [user({"type": "image_url"})]}, "messages", r"content\[0\]\.type: Input should be 'text', 'inp"),
        ({"messages": [user(audio() | {"text": "Which?"})]}, "messages", "type 'input_audio' has 'text' as well: make"),
        ({"messages": [user({"type": "text"})]}, "messages", r"content\[0\]: .*a part of type 'text' must have 'text'"),
    ],
)  # fmt: skip
def test_what_would_change_the_answer_or_is_malformed_is_refused_by_name(asked_for, param, message):
    with pytest.raises(RequestError, match=message) as error:
        parse(**asked_for)
    assert error.value.body["error"] == {
        "message": str(error.value), "type": "invalid_request_error", "param": param,
        "code": error.value.body["error"]["code"],
    }  # fmt: skip
    assert error.value.status == 400


def test_what_asks_for_nothing_special_is_accepted():
    parse(n=1, top_p=1.0, tools=[], stop=None, logprobs=False, response_format={"type": "text"}, user="me", store=False,
          frequency_penalty=0.0, presence_penalty=0, modalities=["text"], metadata={"a": "b"})  # fmt: skip
    parse(repetition_penalty=1.0, min_p=0, top_k=-1, skip_special_tokens=True, chat_template_kwargs={}, best_of=1)
    parse(bad_words=[], stop_token_ids=[], reasoning_effort="none")
    assert parse(stop="x").stop == ["x"]


def test_audio_comes_as_input_audio_or_as_a_url():
    message = user(
        audio("AAAA"), {"type": "audio_url", "audio_url": {"url": "data:x"}}, {"type": "audio_url", "audio_url": "y"}
    )
    assert parse(messages=[message]).messages[0].clips == ["AAAA", "data:x", "y"]
    with pytest.raises(RequestError, match=r"a part of type 'audio_url' must have 'audio_url'"):
        parse(messages=[user({"type": "audio_url"})])


def test_a_format_may_be_anything_since_what_is_in_the_file_counts():
    for name in ("mp9", None, 7):
        parse(messages=[user({"type": "input_audio", "input_audio": {"data": "AAAA", "format": name}})])


def test_json_may_begin_with_a_mark_and_other_encodings_are_named():
    text = json.dumps({"model": "diffa", "messages": [user(audio("AAAA"))]})
    assert parse_request(text.encode("utf-8-sig")).model == "diffa"
    for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
        with pytest.raises(
            RequestError, match=r"^the body: it looks like UTF-16, as some shells write it; send it in UTF-8"
        ):
            parse_request(text.encode(encoding))
    with pytest.raises(RequestError, match=r"^the body: it is empty; expected a JSON object"):
        parse_request(b" ")


@pytest.mark.parametrize("body", [b"", b"hello", b"[]", b'{"model": "diffa"', b"\xff\xfe"])
def test_what_is_no_json_object_is_refused(body):
    with pytest.raises(RequestError, match=r"^the body: ") as error:
        parse_request(body)
    assert error.value.body["error"]["param"] is None


@pytest.mark.parametrize("given", [{"top_p": 0.95}, {"top_k": 5}, {"min_p": 0.1}, {"top_k": 50, "top_p": 0.1}])
def test_how_to_sample_does_not_matter_where_nothing_is_sampled(given):
    check_greedy(parse(**given), 0)
    with pytest.raises(
        RequestError, match=r"^(top_p|top_k|min_p) is not supported: .*\(at temperature 0 any value does\)"
    ):
        check_greedy(parse(**given), 0.5)
    for nothing in ({"top_p": 1.0}, {"top_k": -1}, {"top_k": 0}, {"min_p": 0.0}, {"top_p": None}):
        check_greedy(parse(**nothing), 0.5)
    with pytest.raises(RequestError, match=r"top_p is not supported: leave it out, or say 1$"):
        check_greedy(parse(top_p="high"), 0)
