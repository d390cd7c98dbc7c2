"""The container, the service and the proxy's settings, read line by line: none of them can be started here."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import serve
from tests.serving.conftest import PATIENCE

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
UNIT = (ROOT / "config" / "diffa@.service").read_text()
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
    assert f"client_max_body_size {defaults.max_upload_mb:g}m;" in section
    assert "proxy_buffering off;" in section  # or streams come at once, at their end
    assert set(re.findall(r"127\.0\.0\.1:(\d+)", section)) == {"8000", "8001"}
    flags = set(re.findall(r"(?<![\w-])--[a-z_]+(?:_[a-z]+)*", section)) - {"--build", "--gpus", "--now"}
    assert flags <= known_flags()
