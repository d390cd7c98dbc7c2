import base64
import io
import json
from urllib.parse import quote

import numpy as np
import pytest
import soundfile

from serving.protocol import RequestError, parse_request
from serving.validation import Service, decode_base64, options_for, validate
from src.generation_options import GenerationOptions
from src.prompts import SYSTEM_PROMPT, VOICEBENCH_PROMPT, build_prompt
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


def assistant(words):
    return {"role": "assistant", "content": words}


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
        ([{"role": "user", "content": QUESTION}], "one input_audio part is expected in a user message, found 0"),
        ([user(audio(), text(), audio())], "one input_audio part is expected in a user message, found 2"),
        ([user(audio(), audio()), user(text())], "one input_audio part is expected in turn 1, found 2"),
        ([user(audio()), assistant("cat")], "the user's last, after system messages if any; found user, assistant"),
        ([user(audio()), user(text(" "))], "the last user message holds neither text nor audio"),
        ([user(audio()), {"role": "tool", "content": "x"}, user(text())], "found user, tool, user"),
        ([{"role": "system", "content": "Hi"}], "after system messages if any; found none"),
        ([{"role": "tool", "content": None}], "after system messages if any; found tool"),
        ([{"role": "system", "content": [audio()]}, user(audio())], "audio belongs into a user message"),
        ([{"role": "assistant", "content": [audio()]}, user(text())], "audio belongs into a user message"),
        (
            [user(audio(), text("x" * 60_000), text("y" * 60_000))],
            "120001 characters of text; at most 100000",
        ),
        ([user(audio(), *[text("")] * 100)], r"messages\[0\].content: List should have at most 100 items"),
        ([user(audio(), text("a<|eot_id|>b"))], r"the text holds <\|eot_id\|>, a control token of the model"),
        ([user(audio(), text("a\ufffdb"))], r"the text holds U\+FFFD, which stands for bytes that were no UTF-8"),
        ([user(audio(), text("a\0b"))], r"the text holds the control character U\+0000"),
    ],
)
def test_other_conversations_are_refused(service, messages, message):
    with pytest.raises(RequestError, match=message) as error:
        asked(service, *messages)
    assert error.value.status == 400
    assert error.value.body["error"]["param"] == "messages"


OTHER_CLIP = base64.b64encode((GOLDEN / "clip1.wav").read_bytes()).decode()
HISTORIES = [  # messages, the clip's number and its turn
    ([user(audio(), text("a")), assistant("b"), user(text("c"))], 0, 0),
    ([user(audio(), text("a")), assistant("b"), user(audio(OTHER_CLIP), text("c"))], 1, 2),
    ([user(text("a")), assistant("b"), user(audio(), text("c"))], 0, 2),
    ([user(audio()), user(text("b")), assistant(None), user(text("c"))], 0, 0),
    ([user(audio()), assistant([{"type": "refusal", "refusal": "no"}]), user(text("c"))], 0, 0),
]


@pytest.mark.parametrize(("messages", "clip", "turn"), HISTORIES)
def test_of_several_turns_the_last_is_asked_about_the_newest_audio(service, clips, messages, clip, turn):
    validated = asked(service, {"role": "system", "content": "Be brief."}, *messages)
    assert validated.generation.instruction == "Be brief.\nc"
    np.testing.assert_array_equal(validated.generation.waveform, clips[clip])
    assert validated.num_ignored == len(messages) - 1
    assert validated.warning == f"of {len(messages)} turns, the last one alone is asked, about the newest audio"


@pytest.mark.parametrize(("messages", "clip", "turn"), HISTORIES)
def test_with_history_the_template_gets_all_turns(model, clips, messages, clip, turn):
    service = Service(model, "diffa", "exact", DEFAULTS, max_answer_tokens=64, max_seconds=60, history=True)
    validated = asked(service, {"role": "system", "content": "Be brief."}, *messages)
    conversation = validated.generation.instruction
    assert [role for role, _ in conversation.turns] == [message["role"] for message in messages]
    warning = "of 2 clips, the newest one alone is heard" if clip == 1 else None
    assert (conversation.audio_turn, validated.num_ignored, validated.warning) == (turn, 0, warning)
    prompt = build_prompt(conversation)
    assert prompt.index("This is the audio") < prompt.index("c<|eot_id|>") and "\n\nBe brief.\n" in prompt.replace(
        "This is the audio: <audio>. ", ""
    )
    np.testing.assert_array_equal(validated.generation.waveform, clips[clip])
    spliced = model.build_inputs([clips[clip]], [conversation], GenerationOptions())
    assert validated.prompt_tokens == spliced.attention_mask.sum()


def test_with_history_a_system_message_goes_before_the_users_text_where_the_assistant_begins(model):
    service = Service(model, "diffa", "exact", DEFAULTS, max_answer_tokens=64, max_seconds=60, history=True)
    messages = [{"role": "system", "content": "Be brief."}, assistant("Hi!"), user(audio(), text("a"))]
    turns = asked(service, *messages, assistant("b"), user(text("c"))).generation.instruction.turns
    assert turns == (("assistant", "Hi!"), ("user", "Be brief.\na"), ("assistant", "b"), ("user", "c"))


def test_with_history_no_text_takes_the_audios_place_or_ends_a_turn(model):
    service = Service(model, "diffa", "exact", DEFAULTS, max_answer_tokens=64, max_seconds=60, history=True)
    for words, message in (("an <audio>", "holds <audio>, the audio's place"), ("<|eot_id|>", "a control token")):
        with pytest.raises(RequestError, match=message):
            asked(service, user(text(words)), assistant("b"), user(audio(), text("c")))
    assert isinstance(asked(service, user(audio(), text("a"))).generation.instruction, str)


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
        ("data:audio/wav,AAAA", "a data: URI of audio must say ;base64 before its comma"),
        ("data:audio/wav;base64", "a data: URI of audio must say ;base64 before its comma"),
        ("https://example.com/clip.wav", "audio is not fetched from a 'https' address: send the file itself"),
        ("file:///etc/passwd", "audio is not fetched from a 'file' address"),
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


@pytest.mark.parametrize(
    "spelling",
    [
        lambda data: "\n".join(data[i : i + 76] for i in range(0, len(data), 76)),
        lambda data: "\r\n ".join(data[i : i + 60] for i in range(0, len(data), 60)) + "\n",
        lambda data: data.replace("+", "-").replace("/", "_"),
        lambda data: data.rstrip("="),
        lambda data: f"data:audio/wav;base64,{data}",
        lambda data: f"DATA:audio/x-wav;codecs=1;BASE64,{data}",
        lambda data: f"data:audio/wav;base64,{quote(data, safe='')}",
    ],
    ids=["lines", "CRLF", "url-safe", "unpadded", "URI", "URI in capitals", "URI with percents"],
)
def test_base64_is_read_however_it_is_spelled(service, clips, spelling):
    for size in (1000, 1001, 1002):
        content = np.random.default_rng(size).bytes(size)
        assert decode_base64(spelling(base64.b64encode(content).decode())) == content
    by_url = {"type": "audio_url", "audio_url": {"url": spelling(CLIP)}}
    for part in (audio(spelling(CLIP)), by_url):
        np.testing.assert_array_equal(asked(service, user(part, text())).generation.waveform, clips[0])


def test_of_long_audio_the_first_window_is_heard_with_a_warning(service):
    samples = np.random.default_rng(0).uniform(-0.1, 0.1, 45 * 8000)
    validated = asked(service, user(audio(encoded(samples, 8000)), text()))
    assert len(validated.generation.waveform) == 30 * 16000
    assert validated.warning == "of the audio, only 0.0-30.0 s is heard: the encoder's window is 30 s"


# --- parameters ----------------------------------------------------------------------------------------------------


def test_without_parameters_the_flags_decide(service):
    assert options_for(parse(), service) == (GenerationOptions(16, 8, 32), 32, None)


@pytest.mark.parametrize(
    ("asked_for", "num_tokens", "options"),
    [
        ({"max_tokens": 1}, 1, GenerationOptions(16, 8, 32)),
        ({"max_tokens": 32}, 32, GenerationOptions(16, 8, 32)),
        ({"max_completion_tokens": 9}, 9, GenerationOptions(16, 8, 32)),
        ({"max_tokens": 5, "max_completion_tokens": 17}, 17, GenerationOptions(16, 8, 32)),
        ({"canvas": 8}, 8, GenerationOptions(4, 8, 8)),
        ({"canvas": 9}, 9, GenerationOptions(8, 8, 16)),
        ({"canvas": 64, "max_tokens": 3}, 3, GenerationOptions(32, 8, 64)),
        ({"block_length": 16}, 32, GenerationOptions(16, 16, 32)),
        ({"block_length": 5, "max_tokens": 6}, 6, GenerationOptions(14, 5, 35)),
        ({"block_length": 1, "canvas": 2}, 2, GenerationOptions(2, 1, 2)),
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
    assert options_for(parse(**asked_for), service) == (options, num_tokens, None)


@pytest.mark.parametrize("wanted", [33, 128, 512, 8192])
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_longer_answer_than_the_canvas_is_capped_with_a_warning(service, wanted, name):
    """The canvas, on which the answer depends, stays as it is."""
    warning = f"{name} is {wanted}, and an answer has 32 tokens at most here"
    assert options_for(parse(**{name: wanted}), service) == (GenerationOptions(16, 8, 32), 32, warning)
    assert validate(parse(**{name: wanted}), service).warning == warning


@pytest.mark.parametrize(("wanted", "num_tokens", "blocks"), [(1, 1, 4), (33, 33, 5), (64, 64, 8), (100, 64, 8)])
def test_where_the_server_says_so_a_longer_answer_gets_more_blocks(model, wanted, num_tokens, blocks):
    service = Service(model, "diffa", "exact", DEFAULTS, max_answer_tokens=64, max_seconds=60, canvas_grows=True)
    options, found, warning = options_for(parse(max_tokens=wanted), service)
    assert (options, found) == (GenerationOptions(4 * blocks, 8, 8 * blocks), num_tokens)
    assert bool(warning) == (wanted > 64)
    assert options_for(parse(max_tokens=wanted, canvas=16), service)[0] == GenerationOptions(8, 8, 16)


def test_a_preset_replaces_the_servers_and_a_rule_the_other_rule(model):
    flags = {**DEFAULTS, "factor": 1.0, "cache": "prefix", "refresh_interval": 4, "stop_at_eos": True}
    service = Service(model, "diffa", "exact", flags, max_answer_tokens=64, max_seconds=60)
    assert options_for(parse(preset="exact"), service)[0] == GenerationOptions(16, 8, 32)
    options, *_ = options_for(parse(threshold=0.8), service)
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
        ({"canvas": 65}, "canvas", r"72 tokens \(9 blocks of 8\) is longer than this server's limit of 64"),
        ({"block_length": 65}, "block_length", r"a canvas of 65 tokens \(1 blocks of 65\)"),
        ({"top_p": 0.9, "temperature": 0.5}, "top_p", "top_p is not supported: leave it out, or say 1"),
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
