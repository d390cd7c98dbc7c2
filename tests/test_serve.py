"""Real servers, asked by the real openai client. What they are asked, and must answer, is computed here beforehand."""

import argparse
import base64
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import openai
import pytest
import requests
import soundfile
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

import ask as ask_script
import serve
from src.audio import read_audio, read_windows
from src.generation_options import TRANSCRIPT, GenerationOptions
from src.inference_flags import OptionError
from src.loading import load_model
from src.prompts import ASR_PROMPT

ROOT = Path(__file__).parent.parent
CLIPS = [ROOT / "examples" / name for name in ("clip.wav", "sheep.flac", "siren.flac", "melody.mp3", "story.ogg")]
QUESTIONS = [
    "What can you hear from the audio?", "Which colour is named?", "Which sound is it?", "How does the melody move?",
]  # fmt: skip
OPTIONS = GenerationOptions.of_preset("fast", steps=64, block_length=16, max_new_tokens=64)  # as serve.py's flags
KEY = "a secret, longer than it need be"
ON_CPU = ("--device", "cpu", "--dtype", "float32")
CPU = (*ON_CPU, "--port", "0")
WINDOW = 4.0  # seconds, of the miniature
PATIENCE = 60

pytestmark = pytest.mark.slow


@contextmanager
def serving(log: Path, *flags: str):
    """A server process, and its address."""
    with log.open("w") as output:
        environment = os.environ | {"DIFFA_TEST_KEY": KEY, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(ROOT / "serve.py"), *CPU, *flags]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=log.parent, env=environment)
    try:
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(r"running on (http://127\.0\.0\.1:\d+)", log.read_text())):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield process, found[1]
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Of a server with a key and limits."""
    flags = ("--api_key_env", "DIFFA_TEST_KEY", "--batch_size", "8", "--max_wait_ms", "20", "--max_upload_mb", "1",
             "--max_audio_seconds", "60")  # fmt: skip
    log = tmp_path_factory.mktemp("serve") / "log"
    with serving(log, *flags) as (_, address):
        yield address
    assert KEY not in log.read_text() and "Traceback" not in log.read_text()


@pytest.fixture(scope="module")
def client(address):
    return openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0, timeout=PATIENCE)


@pytest.fixture(scope="module")
def miniature():
    parser = argparse.ArgumentParser()
    serve.add_model_flags(parser, default="the miniature")
    return load_model(parser.parse_args(ON_CPU))


@pytest.fixture(scope="module")
def right_answers(miniature):
    """By clip and question, what the model says."""
    asked = list(product(CLIPS, QUESTIONS))
    waveforms = [read_audio(clip, WINDOW) for clip, _ in asked]
    texts = miniature.generate(waveforms, [question for _, question in asked], OPTIONS)
    return {pair: text.strip() for pair, text in zip(asked, texts, strict=True)}


def about(clip: Path | bytes, question: str, format_: str = "") -> list[dict]:
    """The messages of a question about a clip."""
    content = clip if isinstance(clip, bytes) else clip.read_bytes()
    audio = {"data": base64.b64encode(content).decode(), "format": format_ or clip.suffix[1:]}
    parts = [{"type": "input_audio", "input_audio": audio}, {"type": "text", "text": question}]
    return [{"role": "user", "content": parts}]


def test_the_curl_of_the_readme_gets_an_answer(tmp_path):
    [command] = re.findall(r"^    echo '\{.*?-d @-$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    with serving(tmp_path / "log") as (_, address):
        command = command.replace("http://127.0.0.1:8000", address)
        done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, check=True, timeout=PATIENCE)
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == "brown"


def ask(client, clip, question, format_="", **parameters):
    return client.chat.completions.create(model="diffa", messages=about(clip, question, format_), **parameters)


def joined(chunks) -> tuple[str, list[str], list]:
    """A stream's text, its finish reasons, and its chunks."""
    chunks = list(chunks)
    choices = [choice for chunk in chunks for choice in chunk.choices]
    text = "".join(choice.delta.content or "" for choice in choices)
    return text, [choice.finish_reason for choice in choices if choice.finish_reason], chunks


def figures(address: str) -> dict[tuple, float]:
    """What /metrics says, by name and labels."""
    families = text_string_to_metric_families(requests.get(f"{address}/metrics", timeout=PATIENCE).text)
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


# --- answers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)
def test_answers_are_those_of_the_model_plain_and_streamed(client, right_answers, clip):
    for question in QUESTIONS[:2]:
        completion = ask(client, clip, question)
        [choice] = completion.choices
        assert choice.message.content == right_answers[clip, question]
        assert (choice.finish_reason, completion.model, completion.object) == ("stop", "diffa", "chat.completion")
        text, reasons, _ = joined(ask(client, clip, question, stream=True))
        assert (text, reasons) == (right_answers[clip, question], ["stop"])


def test_the_answer_is_ask_pys(client, miniature, monkeypatch, capsys):
    monkeypatch.setattr(ask_script, "load_model", lambda args: miniature)
    assert ask_script.main([str(CLIPS[0]), QUESTIONS[0], *ON_CPU]) == 0
    assert ask(client, CLIPS[0], QUESTIONS[0]).choices[0].message.content == capsys.readouterr().out.strip() != ""


def test_blocks_are_streamed_one_by_one_with_usage_at_the_end(client, miniature):
    clip, question = CLIPS[0], QUESTIONS[0]
    options = GenerationOptions.of_preset("fast", block_length=2, max_new_tokens=12)
    expected = miniature.answer([read_audio(clip)], [question], options)
    text, reasons, chunks = joined(
        ask(client, clip, question, stream=True, stream_options={"include_usage": True},
            extra_body={"block_length": 2, "canvas": 12})
    )  # fmt: skip
    assert (text, reasons) == (expected.texts[0].strip(), ["stop"])
    assert sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in chunks) >= 3
    usage = chunks[-1].usage
    assert usage.completion_tokens == expected.num_tokens[0]
    assert usage.forward_passes == expected.forward_passes[0]
    prompt = miniature.build_inputs([read_audio(clip)], [question], options)
    assert usage.prompt_tokens == prompt.attention_mask.sum()


def test_extra_options_and_a_limit_are_honoured(client, miniature):
    clip, question = CLIPS[1], QUESTIONS[0]
    options = GenerationOptions(8, 8, 8, cfg_scale=0.5, cache="prefix")
    ids = miniature.generate([read_audio(clip)], [question], options, return_ids=True)[0, :3]
    expected = miniature.tokenizer.decode(ids, skip_special_tokens=True).strip()
    extra = {"preset": "exact", "cfg_scale": 0.5, "cache": "prefix", "block_length": 8, "canvas": 8}
    completion = ask(client, clip, question, max_tokens=3, extra_body=extra)
    assert completion.choices[0].message.content == expected
    assert (completion.choices[0].finish_reason, completion.usage.completion_tokens) == ("length", 3)
    assert completion.usage.forward_passes == 8


def test_max_tokens_does_not_change_the_answer_but_its_end(client, right_answers):
    whole = right_answers[CLIPS[0], QUESTIONS[0]]
    needed = ask(client, CLIPS[0], QUESTIONS[0]).usage.completion_tokens
    for limit in (needed + 16, 128, 512, 8192):
        completion = ask(client, CLIPS[0], QUESTIONS[0], max_tokens=limit)
        assert (completion.choices[0].message.content, completion.choices[0].finish_reason) == (whole, "stop")
        assert ("warning" in completion.model_extra) == (limit > 64)
    cut = ask(client, CLIPS[0], QUESTIONS[0], max_tokens=needed - 2).choices[0]
    assert cut.finish_reason == "length" and whole.startswith(cut.message.content) and cut.message.content != whole


def test_a_seed_gives_the_same_sample_again(client, miniature):
    options = GenerationOptions.of_preset("fast", steps=64, block_length=16, max_new_tokens=64, temperature=2.0, seed=5)
    [expected] = miniature.generate([read_audio(CLIPS[3])], [QUESTIONS[0]], options)
    texts = [
        ask(client, CLIPS[3], QUESTIONS[0], temperature=2.0, **seed).choices[0].message.content
        for seed in ({"seed": 5}, {"seed": 5}, {}, {})
    ]
    assert texts[0] == texts[1] == expected.strip()
    assert len(set(texts)) == 3


def test_a_stop_string_ends_the_answer(client, right_answers):
    first, second, *_ = right_answers[CLIPS[0], QUESTIONS[0]].split()
    assert ask(client, CLIPS[0], QUESTIONS[0], stop=[second]).choices[0].message.content == first
    assert joined(ask(client, CLIPS[0], QUESTIONS[0], stop=second, stream=True))[:2] == (first, ["stop"])


def test_of_long_audio_the_first_window_is_heard_with_a_warning(client, right_answers):
    warning = "of the audio, only 0.0-4.0 s is heard: the encoder's window is 4 s"
    completion = ask(client, CLIPS[4], QUESTIONS[1])
    assert (completion.choices[0].message.content, completion.warning) == (
        right_answers[CLIPS[4], QUESTIONS[1]],
        warning,
    )
    assert joined(ask(client, CLIPS[4], QUESTIONS[1], stream=True))[2][0].warning == warning
    assert "warning" not in ask(client, CLIPS[0], QUESTIONS[1]).model_extra


def test_a_recording_is_transcribed_window_by_window(client, miniature):
    options = GenerationOptions.of_preset("fast", **TRANSCRIPT)
    windows = list(read_windows(CLIPS[4], WINDOW))
    texts = miniature.generate([w.waveform for w in windows], [ASR_PROMPT] * len(windows), options)
    texts = [text.strip() for text in texts]
    assert len(texts) == 3 and all(texts)
    create = partial(client.audio.transcriptions.create, model="diffa")
    with CLIPS[4].open("rb") as file:
        assert create(file=file).text == " ".join(texts)
        verbose = create(file=file, response_format="verbose_json", timestamp_granularities=["segment"])
        assert [segment.text for segment in verbose.segments] == texts
        assert [segment.start for segment in verbose.segments] == [0, 4, 8]
        assert verbose.duration == pytest.approx(10.75, abs=0.01)
        assert create(file=file, response_format="text") == " ".join(texts) + "\n"
        assert create(file=file, response_format="srt").count(" --> ") == 3
        assert create(file=file, response_format="vtt").startswith("WEBVTT")
        with pytest.raises(openai.BadRequestError, match="prompt is not supported"):
            create(file=file, prompt="Ada")


def test_the_model_is_listed(client):
    [model] = client.models.list().data
    assert (model.id, client.models.retrieve("diffa").id) == ("diffa", "diffa")
    with pytest.raises(openai.NotFoundError, match="the model 'gpt' does not exist"):
        client.models.retrieve("gpt")


# --- refusals ------------------------------------------------------------------------------------------------------


def wav(samples, rate=16000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV")
    return file.getvalue()


@pytest.mark.parametrize(
    ("parameters", "param", "message"),
    [
        ({"messages": about(b"no sound", "?", "wav")}, "messages", "input_audio: not readable as audio"),
        ({"messages": about(wav(np.zeros(8000)), "?", "wav")}, "messages", "is silent"),
        ({"messages": about(wav(np.ones(61000), 1000), "?", "wav")}, "messages", "61 s long; at most 60 s are taken"),
        ({"messages": [{"role": "user", "content": "Hello"}]}, "messages", "one input_audio part is expected"),
        ({"messages": [*about(CLIPS[0], "?"), {"role": "assistant", "content": "!"}]}, "messages", "the user's last"),
        ({"n": 2}, "n", "n is not supported"),
        ({"logprobs": True}, "logprobs", "logprobs is not supported"),
        ({"extra_body": {"canvas": 1000}}, "canvas", "longer than this server's limit of 512"),
        ({"top_p": 0.9, "temperature": 1}, "top_p", "top_p is not supported"),
        ({"extra_body": {"preset": "warp"}}, "preset", "preset is 'warp'; expected one of exact, fast, fastest"),
        ({"extra_body": {"beam": 3}}, "beam", "unknown parameter 'beam'"),
        ({"stream": True, "extra_body": {"steps": 0, "preset": "exact"}}, "steps", "steps is 0; it must be at least 1"),
    ],
)  # fmt: skip
def test_refusals_say_why(client, parameters, param, message):
    with pytest.raises(openai.BadRequestError, match=message) as error:
        client.chat.completions.create(**({"model": "diffa", "messages": about(CLIPS[0], "?")} | parameters))
    assert (error.value.param, error.value.type, error.value.status_code) == (param, "invalid_request_error", 400)


def test_another_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as error:
        client.chat.completions.create(model="gpt-4o", messages=about(CLIPS[0], "?"))
    assert error.value.code == "model_not_found"


@pytest.mark.parametrize("key", ["", "wrong", KEY[:-1], KEY + "x"])
def test_without_the_key_nothing_is_answered(address, key):
    client = openai.OpenAI(base_url=f"{address}/v1", api_key=key or "none", max_retries=0)
    for call in (client.models.list, lambda: ask(client, CLIPS[0], "?")):
        with pytest.raises(openai.AuthenticationError, match="an API key is needed") as error:
            call()
        assert error.value.code == "invalid_api_key"
    assert requests.get(f"{address}/v1/models", timeout=PATIENCE).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "settings", "status", "message"),
    [
        ("POST", "/v1/chat/completions", {"data": "{", "headers": {}}, 415, "Content-Type application/json"),
        ("POST", "/v1/chat/completions", {"data": "{"}, 400, "the body: Invalid JSON"),
        ("POST", "/v1/chat/completions", {"data": " " * (2**20 + 1)}, 413, "the request is larger than 1048576 bytes"),
        ("GET", "/v1/chat/completions", {}, 405, "GET /v1/chat/completions: Method Not Allowed"),
        ("GET", "/v2", {}, 404, "GET /v2: Not Found"),
    ],
)  # fmt: skip
def test_errors_of_http_have_openais_shape(address, method, path, settings, status, message):
    headers = {"Authorization": f"Bearer {KEY}"} | settings.pop("headers", {"Content-Type": "application/json"})
    response = requests.request(method, address + path, headers=headers, timeout=PATIENCE, **settings)
    assert response.status_code == status
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    assert message in response.json()["error"]["message"]


# --- load ----------------------------------------------------------------------------------------------------------


def test_of_200_requests_from_16_clients_none_is_lost_or_mixed_up(address, right_answers, record_property):
    asked = list(right_answers) * 10
    clients = threading.local()
    before = figures(address)

    def ask_one(pair, stream):
        if not hasattr(clients, "own"):
            clients.own = openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0, timeout=PATIENCE)
        reply = ask(clients.own, *pair, stream=stream)
        return joined(reply)[0] if stream else reply.choices[0].message.content

    clock = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask_one, asked, [True, False, False] * 67))
    seconds = time.monotonic() - clock
    assert len(answers) == 200
    assert [pair for pair, text in zip(asked, answers, strict=True) if text != right_answers[pair]] == []
    counted = "diffa_requests_total", "200"
    until(lambda: figures(address)[counted] - before.get(counted, 0) == 200)  # a stream's a little after its end
    done = {name: value - before.get(name, 0) for name, value in figures(address).items()}
    assert done["diffa_batch_size_sum",] == 200
    batches, passes = done["diffa_batch_size_count",], done["diffa_forward_passes_total",]
    assert batches < 100  # two and more at a time
    assert done["diffa_batch_size_bucket", "8.0"] == batches
    assert done["diffa_request_seconds_count",] == 200 and done["diffa_answer_tokens_total",] > 200
    assert figures(address)["diffa_queue_depth",] == 0
    print(f"\n200 requests from 16 clients: {seconds:.1f} s, {batches:.0f} batches, {passes:.0f} forward passes")


# --- a full queue, clients that leave, the end ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A server that answers one at a time, slowly, while one may wait: process, address, client."""
    flags = ("--batch_size", "1", "--max_queue", "1", "--preset", "exact")
    with serving(tmp_path_factory.mktemp("small") / "log", *flags) as (process, address):
        yield process, address, openai.OpenAI(base_url=f"{address}/v1", api_key="any", max_retries=0, timeout=PATIENCE)


@contextmanager
def busy(client, canvas):
    """While the model is at work on a first request; yields its stream."""
    stream = ask(client, CLIPS[0], QUESTIONS[0], stream=True, extra_body={"block_length": 4, "canvas": canvas})
    while not next(stream).choices[0].delta.content:  # until its first block is finished
        pass
    yield stream
    stream.close()


def until(condition) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def queue_length(address) -> int:
    return requests.get(f"{address}/health", timeout=PATIENCE).json()["queue_length"]


def test_a_full_queue_is_429_and_who_leaves_makes_room(small):
    _, address, client = small
    with busy(client, 512) as first:
        waiting = ask(client, CLIPS[1], QUESTIONS[0], stream=True)
        assert queue_length(address) == 1
        with pytest.raises(openai.RateLimitError, match="the queue is full, with 1 waiting; try again in") as error:
            ask(client, CLIPS[2], QUESTIONS[0])
        assert error.value.code == "queue_full"
        assert int(error.value.response.headers["retry-after"]) >= 1
        waiting.close()
        until(lambda: queue_length(address) == 0)
        first.close()  # this one is being answered
        assert ask(client, CLIPS[2], QUESTIONS[0], max_tokens=1).usage.completion_tokens == 1
    until(lambda: figures(address).get(("diffa_requests_total", "499")) == 2)
    assert figures(address)["diffa_requests_total", "429"] == 1


def test_the_documents_examples_work(small, monkeypatch, capsys):
    _, address, _ = small
    text = (ROOT / "docs" / "serving.md").read_text().replace("http://127.0.0.1:8000", address)
    blocks = [textwrap.dedent(block) for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, re.MULTILINE)]
    [snippet] = [block for block in blocks if "import OpenAI" in block]
    curls = [block for block in blocks if "curl -s" in block]
    monkeypatch.chdir(ROOT)
    exec(snippet, {})
    assert capsys.readouterr().out.startswith("brown CompletionUsage(")
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    asked, transcribed = (
        subprocess.run(["bash", "-c", curl], capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
        for curl in curls
    )
    assert json.loads(asked)["choices"][0]["message"]["content"].startswith("brown")
    assert transcribed == "the brown cat takes four cups\n"


def test_sigterm_finishes_what_was_accepted(small, miniature):
    process, address, client = small
    options = GenerationOptions(256, 4, 256), GenerationOptions(16, 16, 16)
    expected = [
        miniature.generate([read_audio(clip)], [QUESTIONS[0]], option)[0].strip()
        for clip, option in zip(CLIPS[:2], options, strict=True)
    ]
    session = requests.Session()  # a connection that stays
    with busy(client, 256) as first, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, client, CLIPS[1], QUESTIONS[0], extra_body={"canvas": 16})
        until(lambda: queue_length(address) == 1)
        process.send_signal(signal.SIGTERM)
        until(lambda: session.get(f"{address}/health", timeout=PATIENCE).status_code == 503)
        assert session.get(f"{address}/health", timeout=PATIENCE).json()["status"] == "shutting down"
        with pytest.raises(openai.InternalServerError, match="the server is shutting down") as error:
            ask(client, CLIPS[2], QUESTIONS[0])
        assert error.value.status_code == 503
        rest, reasons, _ = joined(first)
        assert len(reasons) == 1 and rest and expected[0].endswith(rest)
        assert waiting.result(PATIENCE).choices[0].message.content == expected[1]
    assert process.wait(PATIENCE) == 0
    with pytest.raises(requests.ConnectionError):
        session.get(f"{address}/health", timeout=PATIENCE)


# --- flags ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--api_key_env", "DIFFA_NO_SUCH_KEY"], "--api_key_env DIFFA_NO_SUCH_KEY: this environment variable is empty"),
        (["--max_queue", "0"], "max_queue is 0; it must be above 0"),
        (["--batch_size", "0"], "batch_size is 0; it must be at least 1"),
        (["--max_wait_ms", "-1"], "max_wait_ms is -1.0; it must not be negative"),
        (["--max_new_tokens", "1024", "--steps", "1024"], "max_new_tokens 1024 is above max_answer_tokens 512"),
        (["--max_new_tokens", "20"], "block_length 16 does not divide max_new_tokens 20"),
        (["--model_path", "no/such/folder"], "the DIFFA checkpoint: no folder 'no/such/folder'"),
    ],
)
def test_what_cannot_be_served_says_why(capsys, flags, message):
    assert serve.main(["--device", "cpu", "--port", "0", *flags]) == 2
    assert f": {message}" in capsys.readouterr().err


def test_a_port_that_is_taken_is_found_before_the_model_loads(monkeypatch, capsys):
    monkeypatch.setattr(serve, "load_model", lambda args: pytest.fail("loaded for nothing"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert serve.main(["--device", "cpu", "--port", port]) == 2
    assert f"--port {port} (Address already in use): pass others" in capsys.readouterr().err


def test_a_key_comes_from_the_environment_alone(monkeypatch):
    monkeypatch.setenv("DIFFA_TEST_KEY", f"{KEY}\n")
    parse = serve.make_parser().parse_args
    assert serve.key_of(parse(["--api_key_env", "DIFFA_TEST_KEY"])) == KEY
    assert serve.key_of(parse([])) == ""
    monkeypatch.setenv("DIFFA_TEST_KEY", " ")
    with pytest.raises(OptionError):
        serve.key_of(parse(["--api_key_env", "DIFFA_TEST_KEY"]))


def test_a_second_signal_ends_at_once(monkeypatch):
    left = []
    monkeypatch.setattr(os, "_exit", left.append)
    api = argparse.Namespace(draining=False)
    server = serve.Server(uvicorn.Config(api), api)
    server.handle_exit(signal.SIGTERM, None)
    assert (api.draining, left) == (True, [])
    server.handle_exit(signal.SIGINT, None)
    assert left == [1]
