import json

import numpy as np
import pytest

from serving.batching import AnswerPrefix, GenerationRequest
from serving.protocol import ChatRequest
from serving.responses import AnswerText, Completion, read_answer
from serving.validation import ValidatedRequest
from src.generation_options import GenerationOptions

MESSAGES = [{"role": "user", "content": "x"}]


@pytest.fixture
def ids_of(model):
    def ids_of(text, pad_to=0):
        ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
        return tuple(ids + [model.tokenizer.eos_token_id] * (pad_to - len(ids)))

    return ids_of


@pytest.fixture
def read(model):
    def read(ids, is_complete=True, num_tokens=1000, stops=()):
        return read_answer(model.tokenizer, AnswerPrefix(tuple(ids), 1, is_complete), num_tokens, stops)

    return read


def completion(model, num_tokens=8, warning=None, **parameters):
    request = ChatRequest(model="diffa", messages=MESSAGES, **parameters)
    question = GenerationRequest(np.ones(1, np.float32), "x", GenerationOptions(8, 8, 8), num_tokens)
    return Completion(ValidatedRequest(request, question, 70, warning), model.tokenizer)


# --- the text ------------------------------------------------------------------------------------------------------


def test_an_answer_that_the_model_ended_has_stopped(read, ids_of):
    count = len(ids_of("the cat"))
    assert read(ids_of(" the cat", 9)) == AnswerText("the cat", len(ids_of(" the cat")), "stop")
    assert read(ids_of("the cat<|eot_id|>")) == AnswerText("the cat", count, "stop")
    assert read(ids_of("the cat")) == AnswerText("the cat", count, "length")


def test_an_answer_is_cut_at_the_wanted_tokens(read, ids_of, model):
    ids = ids_of("the cat takes four cups")
    assert read(ids, num_tokens=2) == AnswerText(model.tokenizer.decode(ids[:2]).strip(), 2, "length")
    ended = ids_of("the cat", 16)
    assert read(ended, num_tokens=len(ids_of("the cat"))).finish_reason == "length"
    assert read(ended, num_tokens=len(ids_of("the cat")) + 1).finish_reason == "stop"


@pytest.mark.parametrize("text", ["the cat  takes\nfour", " naïve 音声 🎧 ok ", "\n\n a b", "a �"])
@pytest.mark.parametrize("stops", [(), ("four",), ("🎧 ok",), ("zz", "  t"), ("\n\n",)])
def test_beginnings_of_an_answer_are_beginnings_of_its_text(read, ids_of, text, stops):
    ids = ids_of(text)
    whole = read(ids, stops=stops).text
    expected = text.strip()
    for stop in stops:
        expected = expected.partition(stop)[0].strip()
    assert whole == expected
    texts = [read(ids[:end], is_complete=False, stops=stops).text for end in range(len(ids) + 1)]
    assert all(longer.startswith(shorter) for shorter, longer in zip(texts, [*texts[1:], whole], strict=True))
    assert texts[0] == ""


def test_a_stop_string_ends_the_answer_at_once(read, ids_of):
    ids = ids_of("the cat takes")
    assert read(ids, is_complete=False, stops=["cat"]) == AnswerText("the", len(ids), "stop")
    assert read(ids, is_complete=False, stops=["dog"]).finish_reason is None


def test_a_character_that_the_cut_goes_through_is_left_out(read, ids_of):
    ids = ids_of("a🎧")
    assert read(ids, num_tokens=len(ids) - 1).text == "a"
    assert read(ids[:-1]).text == "a�"  # here it is the model that did not finish it, as `generate` shows it


def test_masks_that_stay_have_no_text(read, ids_of, model):
    mask_id = model.llm_model.config.mask_token_id
    ids = ids_of("the cat")
    assert read([*ids, mask_id]) == AnswerText("the cat", len(ids), "length")


# --- the response --------------------------------------------------------------------------------------------------


def test_the_whole_response(model, ids_of):
    made = completion(model, warning="only 4 s")
    made.read(AnswerPrefix(ids_of("the cat", 8), 3, True))
    response, count = made.whole(), len(ids_of("the cat"))
    message = {"role": "assistant", "content": "the cat", "refusal": None}
    assert response["choices"] == [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}]
    assert response["usage"] == {
        "prompt_tokens": 70, "completion_tokens": count, "total_tokens": 70 + count, "forward_passes": 3,
    }  # fmt: skip
    assert (response["object"], response["model"], response["warning"]) == ("chat.completion", "diffa", "only 4 s")
    assert response["id"].startswith("chatcmpl-") and completion(model).id != response["id"]


def events_of(made, *answers):
    events = [made.opening()]
    for answer in answers:
        made.read(answer)
        events += made.growth()
    assert all(event.startswith("data: ") and event.endswith("\n\n") for event in events)
    assert events.pop() == "data: [DONE]\n\n"
    return [json.loads(event.removeprefix("data: ")) for event in events]


def test_a_stream_is_role_texts_reason(model, ids_of):
    ids = ids_of("the cat takes", 16)
    events = events_of(completion(model, 16, stream=True), AnswerPrefix(ids[:2], 1, False), AnswerPrefix(ids, 3, True))
    assert [event["choices"][0]["finish_reason"] for event in events] == [None, None, None, "stop"]
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    texts = [event["choices"][0]["delta"]["content"] for event in events[1:-1]]
    assert "".join(texts) == "the cat takes" and all(texts)
    assert events[-1]["choices"][0]["delta"] == {}
    assert len({event["id"] for event in events}) == 1
    assert all(event["object"] == "chat.completion.chunk" and "usage" not in event for event in events)


def test_a_streams_usage_comes_last_when_asked_for(model, ids_of):
    made = completion(model, stream=True, stream_options={"include_usage": True}, warning="only 4 s")
    *events, last = events_of(made, AnswerPrefix(ids_of("the cat", 8), 3, True))
    assert all(event["usage"] is None for event in events)
    assert (last["choices"], last["usage"]["prompt_tokens"], last["usage"]["forward_passes"]) == ([], 70, 3)
    assert [event.get("warning") for event in events] == ["only 4 s", None, None]


def test_nothing_is_sent_twice_or_without_text(model, ids_of):
    made = completion(model, stream=True)
    made.read(AnswerPrefix(ids_of("the cat"), 1, False))
    assert len(list(made.growth())) == 1
    assert list(made.growth()) == []
