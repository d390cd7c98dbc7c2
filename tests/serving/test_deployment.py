"""The container, the service and the proxy's settings: read line by line; the proxy is started too, if there is one."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import requests

import serve
from serving.uploads import MAX_PAUSE_SECONDS
from tests.serving.conftest import PATIENCE
from tests.test_serve import CLIPS, QUESTIONS, about, serving

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
UNIT = (ROOT / "config" / "diffa@.service").read_text()
NGINX = (ROOT / "config" / "nginx.conf").read_text()
NOT_IN_THE_IMAGE = ("deepspeed", "gradio", "openai", "pytest", "playwright")


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments), in order."""
    lines = [line for line in DOCKERFILE.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in joined.splitlines() if line]


def arguments(name: str) -> list[str]:
    return [found for instruction, found in instructions() if instruction == name]


def copied() -> list[tuple[str, str]]:
    """(source, destination) of every COPY."""
    pairs = []
    for line in arguments("COPY"):
        *sources, destination = line.split()
        pairs += [(source, destination) for source in sources]
    return pairs


def known_flags() -> set[str]:
    return set(serve.make_parser()._option_string_actions)


def test_the_base_is_an_argument_and_no_tag_moves():
    assert instructions()[:2] == [("ARG", "BASE=ubuntu:24.04"), ("FROM", "${BASE}")]
    images = re.findall(r"BASE=(\S+)", DOCKERFILE)
    assert len(images) == 2 and any("cuda" in image for image in images)
    assert all(re.search(r":\d[\w.-]+$", image) for image in images)


def test_it_does_not_run_as_root_and_its_volume_is_its_own():
    order = [name for name, _ in instructions()]
    assert order.index("USER") < order.index("ENTRYPOINT") and "RUN" not in order[order.index("USER") :]
    assert arguments("USER") == ["diffa"] and "useradd --uid 10001" in DOCKERFILE
    assert (
        arguments("VOLUME") == ["/models"] and "HF_HOME=/models" in DOCKERFILE and "chown diffa /models" in DOCKERFILE
    )


def test_it_starts_the_server_with_flags_that_it_knows_and_signals_reach_it():
    [command] = map(json.loads, arguments("ENTRYPOINT"))  # no shell between
    assert command[:2] == ["python", "serve.py"]
    parsed = serve.make_parser().parse_args(command[2:])
    assert (parsed.host, str(parsed.port)) == ("0.0.0.0", *arguments("EXPOSE"))
    for flags in re.findall(r"^#   docker run .* diffa(?:-cuda)? (--.*)$", DOCKERFILE, flags=re.MULTILINE):
        serve.make_parser().parse_args(shlex.split(flags))


def test_versions_are_those_of_the_tests():
    assert ("requirements.txt", "./") in copied() and "--constraint constraints.txt" in DOCKERFILE
    assert "requirements-serve.txt" in [source for source, _ in copied()]
    assert re.search(r"grep --invert-match '\^deepspeed' requirements.txt", DOCKERFILE)


def test_health_is_checked_where_it_listens(address, api):
    [check] = arguments("HEALTHCHECK")
    assert "--start-period" in check
    command = json.loads(check[check.index("[") :])
    code = command[-1].replace("http://127.0.0.1:8000", address)
    assert code != command[-1] and command[:2] == ["python", "-c"]

    def healthy() -> bool:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=PATIENCE).returncode == 0

    assert healthy()
    api.batcher.broken = True
    assert not healthy()


@pytest.mark.slow
def test_what_is_copied_is_enough_to_serve(tmp_path):
    for source, destination in copied():
        assert (ROOT / source).exists(), source
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, tmp_path / destination, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, tmp_path / destination)
    start = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({NOT_IN_THE_IMAGE})); sys.path.insert(0, '.'); "
        "sys.argv = ['serve.py', '--max_new_tokens', '20']; runpy.run_path('serve.py', run_name='__main__')"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", start], cwd=tmp_path, capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.stderr.splitlines()[-1].endswith("block_length 16 does not divide max_new_tokens 20; nearest that do: "
                                                 "10 and 20")  # fmt: skip
    from src import loading

    for asset in (loading.MODEL, loading.LLM, loading.WHISPER):
        assert (tmp_path / asset.relative_to(ROOT) / "config.json").is_file()


def test_the_service_starts_the_server_with_flags_that_it_knows():
    [command] = re.findall(r"^ExecStart=(.*)$", UNIT, flags=re.MULTILINE)
    python, *words = command.replace("%i", "1").replace("${MODEL_PATH}", "m").replace("$FLAGS", "--history").split()
    assert python == "/opt/diffa/.venv/bin/python" and words[0] == "serve.py"
    parsed = serve.make_parser().parse_args(words[1:])
    assert (parsed.port, parsed.host, parsed.api_key_env, parsed.model_path) == (8001, "127.0.0.1", "API_KEY", "m")
    for setting in ("DynamicUser=yes", "Restart=on-failure", "KillSignal=SIGTERM", "WorkingDirectory=/opt/diffa"):
        assert f"\n{setting}\n" in UNIT
    assert "CUDA_VISIBLE_DEVICES=%i" in UNIT


def test_the_proxys_settings_fit_the_servers():
    text = (ROOT / "docs" / "serving.md").read_text()
    section = text.split("## In a container, as a service, behind a proxy")[1].split("\n## ")[0]
    defaults = serve.make_parser().parse_args([])
    assert f"client_max_body_size {defaults.max_upload_mb:g}m;" in NGINX
    assert f"client_body_timeout {MAX_PAUSE_SECONDS}s;" in NGINX
    assert "proxy_buffering off;" in NGINX  # or streams come at once, at their end
    for settings in (section, NGINX):
        assert set(re.findall(r"127\.0\.0\.1:(\d+)", settings)) == {"8000", "8001"}
    flags = set(re.findall(r"(?<![\w-])--[a-z_]+(?:_[a-z]+)*", section + NGINX)) - {"--build", "--gpus", "--now"}
    assert flags <= known_flags()


@contextmanager
def proxy(folder: Path, *servers: str):
    """nginx with config/nginx.conf before servers of other ports, and its address; the certificate is in `folder`."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if not program or not shutil.which("openssl"):
        pytest.skip("nginx and openssl are not installed (.ci/run installs nginx as root)")
    name, key = folder / "certificate.pem", folder / "key.pem"
    certificate = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {key} -out {name}"
    certificate += " -subj /CN=test -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(certificate.split(), check=True, capture_output=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = NGINX.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
    settings = re.sub(r"/etc/letsencrypt/\S+/fullchain.pem", str(name), settings)
    settings = re.sub(r"/etc/letsencrypt/\S+/privkey.pem", str(key), settings)
    for known, server in zip(("127.0.0.1:8000", "127.0.0.1:8001"), servers, strict=True):
        settings = settings.replace(known, server.removeprefix("http://"))
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user} daemon off; pid {folder}/pid; error_log {folder}/errors; events {{}}\n"
        f"http {{ access_log off; {paths}\n{settings}\n}}"
    )
    process = subprocess.Popen([program, "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "errors"])
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert process.poll() is None and time.monotonic() < deadline, (folder / "errors").read_text()
            time.sleep(0.02)
        yield f"https://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(PATIENCE)


def answered(address: str) -> int:
    """Requests that a server answered."""
    metrics = requests.get(f"{address}/metrics", timeout=PATIENCE).text
    return int(float(next(iter(re.findall(r'^diffa_requests_total{status="200"} (\S+)$', metrics, re.MULTILINE)), 0)))


@pytest.mark.slow
def test_two_servers_have_one_address_and_one_may_be_restarted(tmp_path):
    """Two processes, as on two GPUs, behind nginx."""
    question = {"model": "diffa", "messages": about(CLIPS[0], QUESTIONS[1])}
    with ExitStack() as stack:
        starting = ThreadPoolExecutor().map(lambda n: stack.enter_context(serving(tmp_path / f"log{n}")), range(2))
        (leaving, first), (_, second) = starting
        address = stack.enter_context(proxy(tmp_path, first, second))
        session = stack.enter_context(requests.Session())
        session.verify, session.trust_env = str(tmp_path / "certificate.pem"), False

        def ask(_: int = 0, **more) -> str:
            reply = session.post(f"{address}/v1/chat/completions", json=question | more, timeout=60)
            assert reply.status_code == 200, reply.text
            return reply.text if more else reply.json()["choices"][0]["message"]["content"]

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, range(16)))
            assert set(answers) == {"brown"} and answered(first) + answered(second) == 16
            assert min(answered(first), answered(second)) > 2  # shared out
            going_on = [pool.submit(ask) for _ in range(40)]
            leaving.send_signal(signal.SIGTERM)
            assert {future.result() for future in going_on} == {"brown"}
            assert leaving.wait(PATIENCE) == 0
        assert ask() == "brown" and "data: [DONE]" in ask(stream=True)
        assert session.get(f"{address}/metrics", timeout=PATIENCE).status_code == 404
        health = session.get(f"{address}/health", headers={"X-Request-ID": "mine"}, timeout=PATIENCE)
        assert (health.status_code, health.headers["x-request-id"]) == (200, "mine")
        refused = session.post(f"{address}/v1/chat/completions", data=b"x" * (2**25 + 1), timeout=PATIENCE)
        assert refused.status_code == 413
