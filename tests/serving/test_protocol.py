import base64
import io
import json

import numpy as np
import pytest
import soundfile

from serving.protocol import RequestError, Service, options_for, parse_request, validate
from src.generation_options import GenerationOptions
from src.prompts import SYSTEM_PROMPT, VOICEBENCH_PROMPT
from tests.audio_files import sweep_file
from tests.conftest import GOLDEN

QUESTION = "What can you hear from the audio?"
CLIP = base64.b64encode((GOLDEN / "clip0.wav").read_bytes()).decode()
DEFAULTS = {"steps": 16, "block_length": 8, "max_new_tokens": 32, "temperature": 0.0, "cfg_scale": 0.0}


@pytest.fixture
def service(model):
    return Service(model, "diffa", "exact", DEFAULTS, max_answer_tokens=64, max_seconds=60)


def audio(data=CLIP, format_="wav"):
    return {"type": "input_audio", "input_audio": {"data": data, "format": format_}}


def text(words=QUESTION):
    return {"type": "text", "text": words}


def user(*parts):
    return {"role": "user", "content": list(parts)}


def parse(**parameters):
    return parse_request(json.dumps({"model": "diffa", "messages": [user(audio(), text())], **parameters}).encode())


def asked(service, *messages):
    return validate(parse(messages=list(messages)), service)


def encoded(samples, rate=16000, **settings):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **{"format": "WAV", **settings})
    return base64.b64encode(file.getvalue()).decode()


# --- messages ------------------------------------------------------------------------------------------------------


def test_the_instruction_is_the_text_and_the_waveform_the_audio(service, clips):
    validated = asked(service, user(audio(), text()))
    assert validated.generation.instruction == QUESTION
    np.testing.assert_array_equal(validated.generation.waveform, clips[0])
    assert validated.warning is None


def test_several_texts_are_lines_and_may_stand_before_the_audio(service):
    assert asked(service, user(text("a"), audio(), text("b"))).generation.instruction == "a\nb"


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_system_message_goes_before_the_text_unless_it_is_the_templates_own(service, role):
    own, other = {"role": role, "content": SYSTEM_PROMPT}, {"role": role, "content": "Be brief.\n"}
    assert asked(service, own, user(audio(), text())).generation.instruction == QUESTION
    assert asked(service, other, user(audio(), text())).generation.instruction == f"Be brief.\n{QUESTION}"


@pytest.mark.parametrize("parts", [[], [text(" ")]])
def test_audio_without_text_is_a_spoken_question(service, parts):
    assert asked(service, user(audio(), *parts)).generation.instruction == VOICEBENCH_PROMPT


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([{"role": "user", "content": QUESTION}], "one input_audio part is expected in the user message, found 0"),
        ([user(audio(), text(), audio())], "one input_audio part is expected in the user message, found 2"),
        (
            [user(audio()), {"role": "assistant", "content": "cat"}, user(text())],
            "found user, assistant, user: the model answers single turns",
        ),
        ([{"role": "system", "content": "Hi"}], "after system messages if any; found none"),
        ([{"role": "tool", "content": None}], "after system messages if any; found tool"),
        ([{"role": "system", "content": [audio()]}, user(audio())], "audio belongs into the user message"),
        (
            [user(audio(), text("x" * 60_000), text("y" * 60_000))],
            "120001 characters of text; at most 100000",
        ),
        ([user(audio(), *[text("")] * 100)], r"messages\[0\].content: List should have at most 100 items"),
        ([user(audio(), text("a<|eot_id|>b"))], r"the text holds <\|eot_id\|>, a control token of the model"),
    ],
)
def test_other_conversations_are_refused(service, messages, message):
    with pytest.raises(RequestError, match=message) as error:
        asked(service, *messages)
    assert error.value.status == 400
    assert error.value.body["error"]["param"] == "messages"


def test_prompt_tokens_are_those_the_model_sees(service, clips):
    for stage in (1, 2):
        service.model.stage = stage
        for index in range(3):
            data = base64.b64encode((GOLDEN / f"clip{index}.wav").read_bytes()).decode()
            prompt = service.model.build_inputs([clips[index]], [QUESTION], GenerationOptions())
            assert asked(service, user(audio(data), text())).prompt_tokens == prompt.attention_mask.sum()


def test_a_prompt_too_long_for_the_model_is_refused(service):
    with pytest.raises(
        RequestError, match=r"\d+ tokens of prompt and audio and 32 of answer are more than the model's 4096"
    ):
        asked(service, user(audio(), text("cat " * 4096)))


# --- audio ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["flac", "ogg", "mp3", "m4a", "mp4", "aac", "webm", "amr", "wma"])
@pytest.mark.parametrize("format_", ["wav", "webm", "", None])
def test_audio_is_heard_whatever_its_format_is_said_to_be(service, kind, format_):
    part = audio(base64.b64encode(sweep_file(kind, 1.0)).decode(), format_)
    assert len(asked(service, user(part, text())).generation.waveform) / 16000 == pytest.approx(1, abs=0.1)
    del part["input_audio"]["format"]
    assert asked(service, user(part, text())).warning is None


def test_audio_that_was_mended_comes_with_a_warning(service, clips):
    data = encoded(np.stack((clips[0], -clips[0]), axis=1))
    warning = asked(service, user(audio(data), text())).warning
    assert warning == "of the audio: its 2 channels cancel each other out, so channel 1 alone is heard"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("no base64!", "input_audio.data is no base64"),
        ("ÄÖ", "input_audio.data is no base64"),
        (base64.b64encode(b"plain text").decode(), "input_audio: not readable as audio"),
        ("", r"input_audio: is empty \(0 bytes\)"),
        (encoded(np.zeros(8000)), r"input_audio: is silent \(every sample is zero\)"),
        (encoded(np.zeros(0)), "input_audio: holds no samples"),
        (encoded(np.ones(8 * 61), 8), "input_audio: its header is damaged, it says 8 samples a second"),
        (encoded(np.ones(1000 * 61), 1000), "input_audio: is 61 s long; at most 60 s are taken, cut it"),
        (encoded(np.ones((4, 100)), 48000), "input_audio: holds 4800000 values a second; at most 1536000 are taken"),
    ],
)
def test_what_is_no_usable_audio_is_refused(service, data, message):
    with pytest.raises(RequestError, match=message) as error:
        asked(service, user(audio(data), text()))
    assert error.value.status == 400


def test_of_long_audio_the_first_window_is_heard_with_a_warning(service):
    samples = np.random.default_rng(0).uniform(-0.1, 0.1, 45 * 8000)
    validated = asked(service, user(audio(encoded(samples, 8000)), text()))
    assert len(validated.generation.waveform) == 30 * 16000
    assert validated.warning == "of the audio, only 0.0-30.0 s is heard: the encoder's window is 30 s"


# --- parameters ----------------------------------------------------------------------------------------------------


def test_without_parameters_the_flags_decide(service):
    assert options_for(parse(), service) == (GenerationOptions(16, 8, 32), 32)


@pytest.mark.parametrize(
    ("asked_for", "num_tokens", "options"),
    [
        ({"max_tokens": 1}, 1, GenerationOptions(4, 8, 8)),
        ({"max_tokens": 8}, 8, GenerationOptions(4, 8, 8)),
        ({"max_completion_tokens": 9}, 9, GenerationOptions(8, 8, 16)),
        ({"max_tokens": 5, "max_completion_tokens": 17}, 17, GenerationOptions(12, 8, 24)),
        ({"block_length": 16}, 32, GenerationOptions(16, 16, 32)),
        ({"block_length": 5, "max_tokens": 6}, 6, GenerationOptions(4, 5, 10)),
        ({"block_length": 1, "max_tokens": 2}, 2, GenerationOptions(2, 1, 2)),
        ({"steps": 32}, 32, GenerationOptions(32, 8, 32)),
        ({"preset": "fast"}, 32, GenerationOptions(16, 8, 32, threshold=0.9, stop_at_eos=True)),
        ({"preset": "fast", "factor": 1.5}, 32, GenerationOptions(16, 8, 32, factor=1.5, stop_at_eos=True)),
        ({"cache": "dual", "cfg_scale": 1.0}, 32, GenerationOptions(16, 8, 32, cache="dual", cfg_scale=1.0)),
        ({"temperature": 0.5, "seed": 3}, 32, GenerationOptions(16, 8, 32, temperature=0.5, seed=3)),
        ({"temperature": 0, "seed": 3}, 32, GenerationOptions(16, 8, 32)),
        ({"remasking": "random", "seed": 3}, 32, GenerationOptions(16, 8, 32, remasking="random", seed=3)),
    ],
)  # fmt: skip
def test_parameters_become_options(service, asked_for, num_tokens, options):
    assert options_for(parse(**asked_for), service) == (options, num_tokens)


def test_a_preset_replaces_the_servers_and_a_rule_the_other_rule(model):
    flags = {**DEFAULTS, "factor": 1.0, "cache": "prefix", "refresh_interval": 4, "stop_at_eos": True}
    service = Service(model, "diffa", "exact", flags, max_answer_tokens=64, max_seconds=60)
    assert options_for(parse(preset="exact"), service)[0] == GenerationOptions(16, 8, 32)
    options, _ = options_for(parse(threshold=0.8), service)
    assert (options.threshold, options.factor, options.cache, options.stop_at_eos) == (0.8, None, "prefix", True)


def test_without_a_seed_samples_differ_and_the_servers_seed_comes_second(model, service):
    seeds = {options_for(parse(temperature=1), service)[0].seed for _ in range(10)}
    assert len(seeds) == 10
    seeded = Service(model, "diffa", "exact", {**DEFAULTS, "seed": 7}, 64, 60)
    assert options_for(parse(temperature=1), seeded)[0].seed == 7
    assert options_for(parse(temperature=1, seed=0), seeded)[0].seed == 0


@pytest.mark.parametrize(
    ("asked_for", "param", "message"),
    [
        ({"max_tokens": 65}, "max_tokens", r"72 tokens \(9 blocks of 8\) is longer than this server's limit of 64"),
        ({"block_length": 65}, "max_tokens", r"an answer of 65 tokens \(1 blocks of 65\)"),
        ({"preset": "faster"}, "preset", "preset is 'faster'; expected one of exact, fast, fastest"),
        ({"cfg_scale": -1}, "cfg_scale", "cfg_scale is -1.0; it must not be negative"),
        ({"steps": 3}, "steps", "steps 3 cannot be shared evenly over 4 blocks"),
        ({"threshold": 0.5, "factor": 1}, "threshold", "threshold 0.5 and factor 1.0 exclude each other"),
        ({"refresh_interval": 2}, "refresh_interval", "it needs cache='prefix' or 'dual'"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_are_refused_with_their_message(service, asked_for, param, message):
    with pytest.raises(RequestError, match=message) as error:
        validate(parse(**({"preset": None} | asked_for)), service)
    assert (error.value.status, error.value.body["error"]["param"]) == (400, param)


def test_another_model_is_not_found(service):
    with pytest.raises(RequestError, match="the model 'gpt-4o' does not exist; this server has 'diffa'") as error:
        validate(parse(model="gpt-4o"), service)
    assert (error.value.status, error.value.body["error"]["code"]) == (404, "model_not_found")


# --- the request's form --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked_for", "param", "message"),
    [
        ({"n": 2}, "n", "n is not supported: leave it out, or say 1"),
        ({"top_p": 0.9}, "top_p", "top_p is not supported: leave it out, or say 1"),
        ({"tools": [{"type": "function"}]}, "tools", "tools is not supported: leave it out"),
        ({"tool_choice": "required"}, "tool_choice", "tool_choice is not supported"),
        ({"logprobs": True}, "logprobs", "logprobs is not supported: leave it out, or say False"),
        ({"response_format": {"type": "json_object"}}, "response_format", "response_format is not supported"),
        ({"modalities": ["text", "audio"]}, "modalities", "modalities is not supported"),
        ({"reasoning_effort": "low"}, "reasoning_effort", "reasoning_effort is not supported: leave it out$"),
        ({"top_k": 5}, "top_k", "unknown parameter 'top_k': leave it out"),
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
        ({"messages": [user({"type": "image_url"})]}, "messages", r"content\[0\]\.type: Input should be 'text' or"),
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
    assert parse(stop="x").stop == ["x"]


@pytest.mark.parametrize("body", [b"", b"hello", b"[]", b'{"model": "diffa"', b"\xff\xfe"])
def test_what_is_no_json_object_is_refused(body):
    with pytest.raises(RequestError, match=r"^the body: "):
        parse_request(body)
