"""Requests of clients that nobody here wrote, replayed to a server in this process."""

import base64
import json

import pytest
import requests

from serving.protocol import parse_request
from serving.validation import validate
from src.prompts import mmau_instruction
from tests.audio_files import sweep_file
from tests.conftest import GOLDEN
from tests.serving.conftest import PATIENCE
from tests.serving.recorded_requests import (
    CHROMIUM,
    CONVERSATIONS,
    LMMS_EVAL,
    QUESTION,
    QUESTIONS,
    RECORDED_IN_A_BROWSER,
    STREAMS,
    TRANSCRIPTIONS,
    WITHOUT_AUDIO,
    Recorded,
)
from tests.serving.test_routes import PREFLIGHT

CLIP = (GOLDEN / "clip0.wav").read_bytes()


def body_of(recorded: Recorded) -> bytes:
    text = json.dumps(recorded.body).replace("@b64", base64.b64encode(CLIP).decode())
    if "@webm" in text:
        text = text.replace("@webm", base64.b64encode(sweep_file("webm", 1.0)).decode())
    return text.encode()


def send(address: str, recorded: Recorded) -> requests.Response:
    session = requests.Session()
    session.headers.clear()
    if recorded.form:
        url, files = f"{address}/v1/audio/transcriptions", {"file": ("clip.wav", CLIP)}
        return session.post(url, data=recorded.form, files=files, headers=recorded.headers, timeout=PATIENCE)
    headers = recorded.headers | {"Content-Type": "application/json"}
    url = f"{address}/v1/chat/completions"
    return session.post(url, data=body_of(recorded), headers=headers, timeout=PATIENCE)


@pytest.mark.parametrize("recorded", [*QUESTIONS, *CONVERSATIONS, RECORDED_IN_A_BROWSER], ids=lambda r: r.name)
def test_a_question_is_answered(address, recorded):
    response = send(address, recorded)
    assert response.status_code == 200, response.text
    assert response.json()["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("recorded", [*QUESTIONS, *CONVERSATIONS], ids=lambda r: r.name)
def test_all_ask_the_model_the_same(api, recorded):
    """The prompt, the audio and how to decode: whatever caps and sampling parameters a client sends along."""
    first, asked = (validate(parse_request(body_of(r)), api.service).generation for r in (QUESTIONS[-1], recorded))
    assert asked.instruction == first.instruction == QUESTION
    assert asked.options == first.options and (asked.waveform == first.waveform).all()


@pytest.mark.parametrize("recorded", STREAMS, ids=lambda r: r.name)
def test_a_question_is_answered_in_a_stream(address, recorded):
    response = send(address, recorded)
    *events, last, end = response.text.split("\n\n")
    assert (response.status_code, last, end) == (200, "data: [DONE]", "")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    assert ("usage" in chunks[-1]) == ("stream_options" in recorded.body)


@pytest.mark.parametrize("recorded", TRANSCRIPTIONS, ids=lambda r: r.name)
def test_a_recording_is_transcribed(address, recorded):
    response = send(address, recorded)
    assert response.status_code == 200, response.text
    assert response.json()["text"] == ""
    assert ("duration" in response.json()) == (recorded.form.get("response_format") == "verbose_json")


@pytest.mark.parametrize("origins", [[CHROMIUM["Origin"]]])
def test_a_browser_asks_first_and_may_read_the_answer(address):
    headers = CHROMIUM | PREFLIGHT
    del headers["Authorization"]
    first = requests.options(f"{address}/v1/chat/completions", headers=headers, timeout=PATIENCE)
    answer = send(address, RECORDED_IN_A_BROWSER)
    for response in (first, answer):
        assert (response.status_code, response.headers["access-control-allow-origin"]) == (200, CHROMIUM["Origin"])


def test_a_question_that_lost_its_audio_on_the_way_is_refused(address):
    response = send(address, WITHOUT_AUDIO)
    assert response.status_code == 400
    assert "one input_audio part is expected in a user message, found 0" in response.json()["error"]["message"]


# --- the local task of lmms-eval -----------------------------------------------------------------------------------


def test_the_local_task_has_mmaus_prompts_and_its_forms_ask_the_same(api):
    from examples.lmms_eval import diffa_local

    docs = json.loads((diffa_local.FOLDER / "questions.json").read_text())
    assert len(docs) == 10
    for doc in docs:
        assert diffa_local.prompt(doc) == mmau_instruction(doc["question"], doc["choices"])
        [path] = diffa_local.audio_paths(doc)
        content = base64.b64encode(diffa_local.path_of(doc).read_bytes()).decode()
        assert path.endswith((".wav", ".flac", ".mp3", ".ogg"))  # what lmms-eval takes for sound, by its name
        [message] = diffa_local.messages(doc)
        [audio, text] = message["content"]
        assert audio["url"].rpartition(",")[2] == content
        parts = [
            [{"type": "audio_url", "audio_url": {"url": audio["url"]}}, text],
            [text, {"type": "input_audio", "input_audio": {"data": content, "format": path[-3:]}}],
        ]
        by_url, by_file = (
            validate(
                parse_request(json.dumps({**form.body, "messages": [{"role": "user", "content": p}]}).encode()),
                api.service,
            ).generation
            for form, p in zip((LMMS_EVAL[3], LMMS_EVAL[2]), parts, strict=True)
        )
        assert by_url.instruction == by_file.instruction == doc["prompt"]
        assert (by_url.waveform == by_file.waveform).all() and by_url.options == by_file.options


@pytest.mark.parametrize(
    ("response", "right"),
    [("brown", 1), ("Brown.", 1), ("It is brown", 1), ("brown or red", 0), ("", 0), ("browns", 0), ("red", 0)],
)
def test_the_local_task_has_mmaus_rule(response, right):
    from evaluation.official_rules import mmau_rule
    from examples.lmms_eval import diffa_local

    doc = {"answer": "brown", "choices": ["red", "brown", "green"]}
    assert diffa_local.accuracy(doc, [response]) == {"accuracy": right}
    assert mmau_rule(response, "brown", doc["choices"]) == bool(right)
