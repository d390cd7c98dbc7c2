"""An LLM's endpoint and a manifest, for the tests of what asks one: each module has its REPLY and its `entry`."""

import pytest

from src.manifest import write_manifest
from tests.chat_server import chat_server
from tests.data_prep.corpora import put_audio


@pytest.fixture
def server(request, monkeypatch):
    """It replies what the module's REPLY says."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("OPENAI_API_KEY", "s3cret")
    with chat_server() as server:
        server.reply = request.module.REPLY
        yield server


@pytest.fixture
def manifest(request, tmp_path):
    """Ten of the module's entries, and their audio."""
    for number in range(10):
        put_audio(tmp_path / "clips" / f"a{number}.wav")
    write_manifest(tmp_path / "m.json", [request.module.entry(number) for number in range(10)])
    return tmp_path / "m.json"
