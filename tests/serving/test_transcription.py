import pytest
from starlette.datastructures import Headers

from serving.batching import AnswerPrefix
from serving.protocol import RequestError, parse_form
from serving.transcription import Recording, Segment, open_recording, read_form, render, segment_of, warnings_of
from serving.validation import Service
from src.audio import Window
from src.generation_options import GenerationOptions
from src.prompts import ASR_PROMPT
from tests.audio_files import sweep_file
from tests.conftest import GOLDEN
from tests.serving.test_validation import DEFAULTS

CLIP = (GOLDEN / "clip0.wav").read_bytes()
BOUNDARY = "boundary"


def form(*fields: tuple[str, str | bytes]) -> tuple[bytes, Headers]:
    """A multipart body and its headers; bytes become files."""
    body = b""
    for name, value in fields:
        is_file = isinstance(value, bytes)
        filename = '; filename="a.wav"\r\nContent-Type: audio/wav' if is_file else ""
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n\r\n'
        body += head.encode() + (value if is_file else value.encode()) + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode(), Headers({"content-type": f"multipart/form-data; boundary={BOUNDARY}"})


def read(*fields):
    body, headers = form(("model", "diffa"), *fields)
    return read_form(body, headers, 2**20)


@pytest.fixture
def service(model):
    return Service(model, "diffa", "exact", DEFAULTS, max_answer_tokens=512, max_seconds=60)


# --- the form ------------------------------------------------------------------------------------------------------


def test_a_form_has_a_file_and_fields():
    request, content = read(
        ("file", CLIP), ("language", "en"), ("response_format", "verbose_json"), ("temperature", "0.5"), ("seed", "7"),
        ("timestamp_granularities[]", "segment"), ("preset", "fast"), ("stop_at_eos", "true"), ("user", "me"),
        ("stream", "false"), ("prompt", ""), ("chunking_strategy", "auto"), ("canvas", ""),
    )  # fmt: skip
    assert content == CLIP
    assert (request.language, request.response_format, request.temperature, request.seed) == (
        "en",
        "verbose_json",
        0.5,
        7,
    )
    assert (request.timestamp_granularities, request.preset, request.stop_at_eos) == (["segment"], "fast", True)


def test_a_large_file_stays_in_memory():
    assert read(("file", bytes(2**20)))[1] == bytes(2**20)


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ([], "file", "the form has no 'file' with the audio"),
        ([("file", "text")], "file", "the form has no 'file' with the audio"),
        ([("audio", CLIP)], "file", "the audio is expected as 'file', found 'audio'"),
        ([("file", CLIP), ("file", CLIP)], None, "the body is no multipart form: Too many files"),
        ([("file", CLIP), ("response_format", "xml")], "response_format", "Input should be 'json', 'text'"),
        ([("file", CLIP), ("prompt", "Names: Ada")], "prompt", "prompt is not supported: leave it out"),
        ([("file", CLIP), ("stream", "true")], "stream", "stream is not supported: leave it out, or say 'false'"),
        ([("file", CLIP), ("include[]", "logprobs")], "include", "include is not supported"),
        ([("file", CLIP), ("timestamp_granularities[]", "word")], "timestamp_granularities", "should be 'segment'"),
        ([("file", CLIP), ("temperature", "hot")], "temperature", "temperature: Input should be a valid number"),
        ([("file", CLIP), ("beam", "3")], "beam", "unknown parameter 'beam'"),
    ],
)  # fmt: skip
def test_what_a_form_asks_in_vain_is_refused_by_name(fields, param, message):
    with pytest.raises(RequestError, match=message) as error:
        read(*fields)
    assert (error.value.body["error"]["param"], error.value.status) == (param, 400)


@pytest.mark.parametrize("content_type", ["multipart/form-data", f"multipart/form-data; boundary={BOUNDARY}"])
def test_what_is_no_form_is_refused(content_type):
    with pytest.raises(RequestError, match=r"the body is no multipart form|the form has no 'file'"):
        read_form(b"hello", Headers({"content-type": content_type}), 2**20)


# --- the recording -------------------------------------------------------------------------------------------------


def test_a_transcript_has_the_canvas_of_the_recipe_and_the_prompt_of_the_checkpoint(service):
    recording = open_recording(parse_form({"model": "diffa"}), CLIP, service)
    assert (recording.instruction, recording.options) == (ASR_PROMPT, GenerationOptions(64, 16, 128))
    assert (recording.num_tokens, recording.seconds) == (128, pytest.approx(0.8))
    assert [(window.start, window.is_last) for window in recording.windows] == [(0, True)]


@pytest.mark.parametrize(
    ("limit", "fields", "canvas", "block_length"),
    [
        (100, {}, 96, 16),
        (10, {}, 10, 10),
        (512, {"canvas": "64"}, 64, 16),
        (512, {"block_length": "100"}, 200, 100),
        (512, {"canvas": "10", "block_length": "8"}, 16, 8),
    ],
)
def test_the_servers_limit_and_the_request_come_first(model, limit, fields, canvas, block_length):
    service = Service(model, "diffa", "exact", DEFAULTS, max_answer_tokens=limit, max_seconds=60)
    options = open_recording(parse_form({"model": "diffa"} | fields), CLIP, service).options
    assert (options.max_new_tokens, options.block_length) == (canvas, block_length)


@pytest.mark.parametrize(
    ("fields", "canvas", "num_tokens"),
    [
        ({}, 128, 128),
        ({"max_tokens": "2"}, 128, 2),
        ({"max_tokens": "250"}, 256, 250),
        ({"max_tokens": "900"}, 512, 512),
    ],
)
def test_where_the_server_says_so_a_longer_text_gets_more_blocks(model, fields, canvas, num_tokens):
    service = Service(model, "diffa", "exact", DEFAULTS, max_answer_tokens=512, max_seconds=60, canvas_grows=True)
    recording = open_recording(parse_form({"model": "diffa"} | fields), CLIP, service)
    assert (recording.options.max_new_tokens, recording.num_tokens) == (canvas, num_tokens)
    assert bool(recording.warnings) == (num_tokens == 512)
    fields = fields | {"model": "diffa", "canvas": "64"}
    assert open_recording(parse_form(fields), CLIP, service).options.max_new_tokens == 64


def test_what_was_asked_for_and_is_not_done_is_told(service):
    for fields, warnings in (
        ({"language": "en"}, ("language is not used: the model writes what it hears",)),
        ({"language": "", "max_tokens": "128"}, ()),
        ({"max_tokens": "129"}, ("max_tokens is 129, and an answer has 128 tokens at most here",)),
    ):
        assert open_recording(parse_form({"model": "diffa"} | fields), CLIP, service).warnings == warnings


@pytest.mark.parametrize("kind", ["m4a", "webm", "mp3", "ogg"])
def test_files_of_phones_and_browsers_are_read(service, kind):
    recording = open_recording(parse_form({"model": "diffa"}), sweep_file(kind, 1.0), service)
    assert len(next(recording.windows).waveform) == pytest.approx(16000, abs=1600)


@pytest.mark.parametrize(
    ("fields", "content", "status", "message"),
    [
        ({"model": "whisper-1"}, CLIP, 404, "the model 'whisper-1' does not exist; this server has 'diffa'"),
        ({}, b"plain text", 400, "file: not readable as audio"),
        ({"canvas": "600"}, CLIP, 400, "a canvas of 608 tokens"),
        ({"block_length": "600"}, CLIP, 400, "a canvas of 600 tokens"),
    ],
)
def test_what_cannot_be_transcribed_says_why(service, fields, content, status, message):
    with pytest.raises(RequestError, match=message) as error:
        open_recording(parse_form({"model": "diffa"} | fields), content, service)
    assert error.value.status == status
    assert error.value.body["error"]["param"] == next(iter(fields), "file")


# --- the response --------------------------------------------------------------------------------------------------

SEGMENTS = [
    Segment(0.0, 30.0, "the cat", (5, 6), False),
    Segment(30.0, 60.0, "", (), False),
    Segment(60.0, 65.5, "takes <four> cups", (7, 8), True),
]


def rendered(**fields):
    request = parse_form({"model": "diffa"} | fields)
    recording = Recording(request, iter(()), 65.5, ASR_PROMPT, GenerationOptions(), 128, ("language",))
    return render(recording, SEGMENTS, warnings_of(recording, SEGMENTS, ["odd"]))


def test_each_format_has_the_text():
    assert rendered(response_format="text") == "the cat takes <four> cups\n"
    assert rendered(response_format="srt") == (
        "1\n00:00:00,000 --> 00:00:30,000\nthe cat\n\n2\n00:01:00,000 --> 00:01:05,500\ntakes <four> cups\n\n"
    )
    assert rendered(response_format="vtt").startswith(
        "WEBVTT\n\n00:00:00.000 --> 00:00:30.000\nthe cat\n\n00:01:00.000"
    )
    assert rendered() == {
        "text": "the cat takes <four> cups",
        "usage": {"type": "duration", "seconds": 66},
        "warning": "language; odd; in 1 of 3 windows, the first 60.0-65.5 s, the text is cut at 128 tokens",
    }


def test_what_is_so_of_many_windows_is_told_once():
    recording = Recording(parse_form({"model": "diffa"}), iter(()), 600, ASR_PROMPT, GenerationOptions(), 2)
    segments = [Segment(4.0 * n, 4.0 * n + 4, "the cat", (5, 6), n > 0) for n in range(150)]
    assert warnings_of(recording, segments, ["odd", "odder"] * 150) == [
        "odd", "odder", "in 149 of 150 windows, the first 4.0-8.0 s, the text is cut at 2 tokens",
    ]  # fmt: skip
    assert warnings_of(recording, segments[:1], []) == []


def test_verbose_json_has_segments_and_says_what_is_not_known():
    body = rendered(response_format="verbose_json", language="en")
    assert (body["task"], body["language"], body["duration"]) == ("transcribe", "en", 65.5)
    assert [(s["id"], s["seek"], s["start"], s["end"], s["text"]) for s in body["segments"]] == [
        (0, 0, 0, 30, "the cat"), (1, 3000, 30, 60, ""), (2, 6000, 60, 65.5, "takes <four> cups"),
    ]  # fmt: skip
    assert body["segments"][0]["tokens"] == (5, 6) and body["segments"][0]["avg_logprob"] is None
    assert rendered(response_format="verbose_json")["language"] == "unknown"


def test_a_segment_is_a_windows_answer(model, clips):
    ids = model.tokenizer("the cat", add_special_tokens=False)["input_ids"]
    window = Window(clips[0], 4.0, True)
    for end, is_cut in (([model.tokenizer.eos_token_id], False), ([], True)):
        segment = segment_of(model.tokenizer, window, AnswerPrefix((*ids, *end), 3, True), 128)
        assert (segment.start, segment.end, segment.text) == (4.0, pytest.approx(4.8), "the cat")
        assert (segment.ids, segment.is_cut) == (tuple(ids), is_cut)
