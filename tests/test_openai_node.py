"""A real server, asked by openai's client for Node."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.test_serve import PATIENCE, serving

ROOT = Path(__file__).parent.parent
NODE = shutil.which("node")


@pytest.mark.slow
@pytest.mark.skipif(NODE is None, reason="Node is not installed")
@pytest.mark.skipif(
    not (ROOT / "tests" / "node" / "node_modules" / "openai").is_dir(),
    reason="openai for Node is not installed (npm install --prefix tests/node)",
)
def test_openai_for_node_gets_answers_streams_transcripts_and_errors(tmp_path):
    with serving(tmp_path / "log") as (_, address):
        clip = ROOT / "examples" / "clip.wav"
        command = [NODE, str(ROOT / "tests" / "node" / "ask.mjs"), address, str(clip), "Which colour is named?"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["text"], found["finish"], found["streamed"], found["models"]) == ("brown", "stop", "brown", ["diffa"])
    assert found["transcription"] == "the brown cat takes four cups"
    assert found["usage"]["completion_tokens"] > 0 and found["requestID"].startswith("req_")
    refusal = found["refusal"]
    assert (refusal["status"], refusal["param"], refusal["isBadRequest"]) == (400, "n", True)
    assert refusal["requestID"].startswith("req_")
