"""What a healthy model and well-behaved clients do not show: a server in this process, with a model that obeys."""

import gzip
import json
import socket
import time
from unittest.mock import Mock

import openai
import pytest
import requests

import serve
from serving import routes, uploads
from serving.batching import ClosedError, QueueFullError
from tests.conftest import GOLDEN
from tests.serving.conftest import PATIENCE
from tests.serving.test_validation import audio, text, user

MESSAGES = [user(audio(), text())]


@pytest.fixture
def ask(address):
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="any", max_retries=0, timeout=PATIENCE)
    return lambda **parameters: client.chat.completions.create(model="diffa", messages=MESSAGES, **parameters)


def counted(api, status) -> float | None:
    return api.metrics.registry.get_sample_value("diffa_requests_total", {"status": str(status)})


def until(condition) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_header_says_how_many_turns_the_model_did_not_see(address, api):
    assistant = {"role": "assistant", "content": "cat"}
    for messages, ignored in ((MESSAGES, None), ([*MESSAGES, assistant, user(text("Why?"))], "2")):
        for stream in (False, True):
            asked = {"model": "diffa", "messages": messages, "stream": stream}
            response = requests.post(f"{address}/v1/chat/completions", json=asked, timeout=PATIENCE)
            assert (response.status_code, response.headers.get("x-diffa-ignored-turns")) == (200, ignored)


def test_a_failure_of_the_model_is_a_500_with_its_message(ask, api, obedient):
    obedient.failure = RuntimeError("no such kernel\nstack")
    with pytest.raises(
        openai.InternalServerError, match=r"the model failed .*\(RuntimeError: no such kernel\)"
    ) as error:
        ask()
    assert (error.value.code, error.value.type) == ("model_failure", "server_error")
    obedient.failure = None
    assert ask().choices[0].finish_reason == "stop"
    until(lambda: counted(api, 200) == 1)
    assert counted(api, 500) == 1


def test_a_lost_gpu_makes_the_server_unhealthy(ask, address, obedient, monkeypatch):
    obedient.failure = RuntimeError("CUDA error: unspecified launch failure")
    for error, status, word in ((None, 200, "ok"), (RuntimeError("CUDA error: device lost"), 503, "broken")):
        monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
        monkeypatch.setattr("torch.cuda.synchronize", Mock(side_effect=error))
        with pytest.raises(openai.InternalServerError):
            ask()
        health = requests.get(f"{address}/health", timeout=PATIENCE)
        assert (health.status_code, health.json()["status"]) == (status, word)


def test_in_a_stream_it_is_the_last_event(ask, api, obedient):
    obedient.failure = RuntimeError("no such kernel")
    with pytest.raises(openai.APIError, match="no such kernel"):
        list(ask(stream=True))
    until(lambda: counted(api, 500) == 1)
    assert counted(api, 200) is None


def test_a_mistake_of_the_server_shows_no_stack_trace(ask, api, monkeypatch):
    monkeypatch.setattr(routes, "validate", lambda *_: {}["secret"])
    with pytest.raises(openai.InternalServerError) as error:
        ask()
    assert error.value.body["message"] == "internal error; the server's log has more"
    assert "secret" not in error.value.response.text
    until(lambda: counted(api, 500) == 1)


def send_by_hand(address: str, body: bytes, length: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), PATIENCE)
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
    connection.sendall(f"{head}{length}\r\n\r\n".encode() + body)
    return connection


@pytest.mark.parametrize("limit", ["MAX_UPLOAD_SECONDS", "MAX_PAUSE_SECONDS"])
def test_an_upload_that_does_not_end_is_given_up(address, api, monkeypatch, limit):
    monkeypatch.setattr(uploads, limit, 0.2)
    with send_by_hand(address, b"{", 1000) as connection:
        assert b"408" in connection.recv(4096).splitlines()[0]
    assert (api.preparing, api.uploads.held) == (0, 0)


@pytest.mark.parametrize("begun", [b"", b"POST /v1/chat"])
def test_headers_that_do_not_come_end_the_connection(address, monkeypatch, begun):
    monkeypatch.setattr(serve, "MAX_HEADER_SECONDS", 0.5)
    with send_by_hand(address, b"", 0) as connection:  # a whole request, and what may be the next
        assert b"400" in connection.recv(4096).splitlines()[0]
        connection.sendall(begun)
        with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), PATIENCE) as silent:
            silent.sendall(begun)
            assert silent.recv(10) == b""
        while connection.recv(4096):  # the rest of the answer, then the end
            pass


def test_who_leaves_during_the_upload_or_while_waiting_is_forgotten(address, api, obedient):
    with send_by_hand(address, b"{", 1000):
        until(lambda: api.uploads.held == 1)
    until(lambda: counted(api, 499) == 1)
    obedient.gate.clear()
    body = requests.Request("POST", address, json={"model": "diffa", "messages": MESSAGES}).prepare().body
    with send_by_hand(address, body, len(body)), send_by_hand(address, body, len(body)):
        until(lambda: len(api.batcher.waiting) == 1)
    until(lambda: counted(api, 499) == 3)
    assert (api.preparing, api.uploads.held, api.in_flight, len(api.batcher.waiting)) == (0, 0, 0, 0)


def test_64_uploads_that_are_stuck_keep_nobody_from_asking(address, api, ask):
    connections = [send_by_hand(address, b"{", 1000) for _ in range(64)]
    until(lambda: api.uploads.held == 64)
    clock = time.monotonic()
    assert ask().choices[0].finish_reason == "stop"
    assert time.monotonic() - clock < 2
    for connection in connections:
        connection.close()
    until(lambda: api.uploads.held == 0)


def test_the_memory_of_uploads_is_bounded(address, api, monkeypatch):
    monkeypatch.setattr(api.uploads, "max_bytes", 100)
    connections = [send_by_hand(address, b"{" * 99, 100) for _ in range(16)]
    until(lambda: api.uploads.held >= 16 * 99)
    response = requests.post(f"{address}/v1/chat/completions", json={"a": "b" * 50}, timeout=PATIENCE)
    assert (response.status_code, response.json()["error"]["code"]) == (429, "queue_full")
    assert response.headers["retry-after"] == "1"
    for connection in connections:
        connection.close()
    until(lambda: api.uploads.held == 0)


def post(address: str, body: bytes, **headers: str) -> requests.Response:
    headers = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.post(f"{address}/v1/chat/completions", data=body, headers=headers, timeout=PATIENCE)


def test_gzip_is_read_and_bounded_and_other_encodings_are_named(address, api):
    body = json.dumps({"model": "diffa", "messages": MESSAGES}).encode()
    packed = gzip.compress(body)
    assert post(address, packed, content_encoding="gzip").json()["choices"][0]["finish_reason"] == "stop"
    parts = gzip.compress(body[:50]) + gzip.compress(body[50:])
    assert post(address, parts, content_encoding="gzip").json()["choices"][0]["finish_reason"] == "stop"
    bomb = gzip.compress(b" " * (2**20 + 1))
    for content, encoding, status, message in (
        (body, "br", 415, "a body of Content-Encoding 'br' is not read: send it as it is, or gzip"),
        (body, "gzip", 400, "the body says Content-Encoding gzip and is none"),
        (packed[:-20], "gzip", 400, "the gzip body is cut"),
        (packed + b"more", "gzip", 400, "the body says Content-Encoding gzip and is followed by something else"),
        (gzip.compress(b" ") * 101, "gzip", 400, "the gzip body is of more than 100 parts"),
        (bomb, "gzip", 413, "the request is larger than 1048576 bytes"),
    ):
        response = post(address, content, content_encoding=encoding)
        assert (response.status_code, response.json()["error"]["message"]) == (status, message)
    assert api.uploads.held == 0


def test_a_length_that_is_too_large_is_refused_before_it_comes(address):
    with send_by_hand(address, b"{", 2**30) as connection:
        assert b"413" in connection.recv(4096).splitlines()[0]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_key_is_asked_for_before_a_body_is_read(address, api, monkeypatch, scheme):
    monkeypatch.setattr(api, "api_key", b"secret")
    with send_by_hand(address, b"{", 1000) as connection:
        answer = connection.recv(4096)
        assert b"401" in answer.splitlines()[0] and b"www-authenticate: Bearer" in answer
    assert post(address, b"{", authorization=f"{scheme} secret").status_code == 400
    assert post(address, b"{", authorization="Basic secret").status_code == 401


# --- transcriptions, browsers --------------------------------------------------------------------------------------


def post_form(address: str, **fields) -> requests.Response:
    files = {"file": ("clip.wav", (GOLDEN / "clip0.wav").read_bytes())}
    return requests.post(
        f"{address}/v1/audio/transcriptions", data={"model": "diffa"} | fields, files=files, timeout=PATIENCE
    )


def test_a_transcription_is_json_or_text_and_is_counted(address, api):
    assert post_form(address).json() == {"text": "", "usage": {"type": "duration", "seconds": 1}}
    text = post_form(address, response_format="text")
    assert (text.text, text.headers["content-type"]) == ("\n", "text/plain; charset=utf-8")
    assert "x-diffa-warning" not in text.headers
    text = post_form(address, response_format="srt", language="\u0434", max_tokens=1)
    assert text.headers["x-diffa-warning"].startswith("language is not used")
    until(lambda: counted(api, 200) == 3)
    assert (api.preparing, api.uploads.held, api.in_flight) == (0, 0, 0)


def test_a_long_warning_is_cut_in_a_header_as_proxies_drop_long_ones(address, monkeypatch):
    warnings = ["\u0434 odd\n"] * 500
    monkeypatch.setattr(routes, "warnings_of", lambda *_: warnings)
    assert post_form(address).json()["warning"] == "; ".join(warnings)
    told = post_form(address, response_format="text").headers["x-diffa-warning"]
    assert told.startswith("\\u0434 odd ; \\u0434") and told.endswith(" ...")
    assert 950 < len(told) <= routes.MAX_WARNING == 1000


def test_what_goes_wrong_with_a_transcription_has_openais_shape(address, api, obedient, monkeypatch):
    obedient.failure = RuntimeError("no such kernel")
    for response, status, code in (
        (post_form(address, model="whisper-1"), 404, "model_not_found"),
        (post_form(address), 500, "model_failure"),
        (requests.post(f"{address}/v1/audio/transcriptions", json={}, timeout=PATIENCE), 415, None),
    ):
        assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    monkeypatch.setattr(api.batcher, "max_queue", 0)
    full = post_form(address)
    assert (full.status_code, full.json()["error"]["code"]) == (429, "queue_full")
    monkeypatch.setattr(api, "api_key", b"secret")
    assert post_form(address).status_code == 401
    assert (api.preparing, api.uploads.held) == (0, 0)


@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after"),
    [(QueueFullError(4, 7), 429, "queue_full", "7"), (ClosedError(), 503, "shutting_down", "10")],
)
def test_what_the_batcher_refuses_has_openais_shape(address, api, monkeypatch, error, status, code, retry_after):
    monkeypatch.setattr(api.batcher, "submit", Mock(side_effect=error))
    asked = {"model": "diffa", "messages": MESSAGES}
    plain, stream = (post(address, json.dumps(asked | {"stream": stream}).encode()) for stream in (False, True))
    for response in (plain, stream, post_form(address)):
        assert (response.status_code, response.json()["error"]["code"]) == (status, code)
        assert response.headers["retry-after"] == retry_after
    until(lambda: counted(api, status) == 3)
    assert (api.preparing, api.uploads.held, api.in_flight) == (0, 0, 0)


def test_who_leaves_a_transcription_is_forgotten(address, api, obedient):
    obedient.gate.clear()
    request = requests.Request(
        "POST", address, data={"model": "diffa"}, files={"file": (GOLDEN / "clip0.wav").read_bytes()}
    ).prepare()
    head = f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Type: {request.headers['Content-Type']}\r\n"
    with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), PATIENCE) as connection:
        connection.sendall(f"{head}Content-Length: {len(request.body)}\r\n\r\n".encode() + request.body)
        until(lambda: api.metrics.registry.get_sample_value("diffa_batch_size_count") == 1)
    until(lambda: counted(api, 499) == 1)
    assert (api.preparing, api.uploads.held, api.in_flight) == (0, 0, 0)


def test_the_model_says_what_it_can_do(address):
    [card] = requests.get(f"{address}/v1/models", timeout=PATIENCE).json()["data"]
    assert (card["modalities"], card["capabilities"]["transcriptions"]) == (
        {"input": ["text", "audio"], "output": ["text"]}, True,
    )  # fmt: skip
    assert (card["window_seconds"], card["canvas"], card["max_answer_tokens"], card["max_audio_seconds"]) == (
        30, 32, 64, 60,
    )  # fmt: skip
    assert (card["family"], card["stage"], card["capabilities"]["history"]) == ("diffa", 2, False)
    assert card["quantization"] is requests.get(f"{address}/health", timeout=PATIENCE).json()["quantization"] is None


def test_a_model_that_there_is_not_is_named_with_the_one_that_there_is(address):
    missing = requests.get(f"{address}/v1/models/org/gpt", timeout=PATIENCE)
    error = {"message": "the model 'org/gpt' does not exist; this server has 'diffa'", "type": "invalid_request_error",
             "param": "model", "code": "model_not_found"}  # fmt: skip
    assert (missing.status_code, missing.json()) == (404, {"error": error})


def test_browsers_find_pages_and_head_is_answered_like_get(address):
    for path, part in (("/", "Routes and parameters"), ("/docs", "POST /v1/audio/transcriptions"), ("/health", "ok")):
        response = requests.get(address + path, timeout=PATIENCE)
        assert response.status_code == 200 and part in response.text
        head = requests.head(address + path, timeout=PATIENCE)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == response.headers["content-length"]
    assert requests.head(f"{address}/v1/chat/completions", timeout=PATIENCE).status_code == 405
    document = requests.get(f"{address}/openapi.json", timeout=PATIENCE).json()
    assert {"/v1/chat/completions", "/v1/audio/transcriptions", "/v1/models", "/health"} <= set(document["paths"])
    assert document["info"]["title"] == "DIFFA"


def test_every_response_has_a_name_which_the_client_may_choose(address):
    for path in ("/health", "/v2", "/docs"):
        own = requests.get(address + path, headers={"x-request-id": "mine-1"}, timeout=PATIENCE)
        assert own.headers["x-request-id"] == "mine-1"
        made = {requests.get(address + path, timeout=PATIENCE).headers["x-request-id"] for _ in range(2)}
        assert len(made) == 2 and all(name.startswith("req_") for name in made)
    for odd in ("x" * 201, "ä"):
        response = requests.get(f"{address}/health", headers={"x-request-id": odd.encode()}, timeout=PATIENCE)
        assert response.headers["x-request-id"].startswith("req_")


PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}


def test_without_cors_browsers_keep_other_pages_out(address):
    response = requests.get(f"{address}/health", headers={"Origin": "https://a.example"}, timeout=PATIENCE)
    assert "access-control-allow-origin" not in response.headers
    assert requests.options(f"{address}/v1/chat/completions", headers=PREFLIGHT, timeout=PATIENCE).status_code == 405


@pytest.mark.parametrize("origins", [["https://a.example"]])
def test_with_cors_pages_of_the_named_origins_may_ask(address, api, monkeypatch):
    monkeypatch.setattr(api, "api_key", b"secret")
    for origin, allowed in (("https://a.example", True), ("https://b.example", False)):
        headers = {"Origin": origin}
        before = requests.options(f"{address}/v1/chat/completions", headers=headers | PREFLIGHT, timeout=PATIENCE)
        assert (before.status_code == 200) == allowed
        refused = requests.post(f"{address}/v1/chat/completions", headers=headers, timeout=PATIENCE)
        assert refused.status_code == 401  # which the page can read
        for response in (before, refused):
            assert (response.headers.get("access-control-allow-origin") == origin) == allowed
        if allowed:
            assert "X-Request-ID" in refused.headers["access-control-expose-headers"]
