"""The example clips are what examples/make_clips.py makes, and examples/README.md names each."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from demo.world import is_test_sentence
from examples.make_clips import CLIPS
from src.audio import read_audio

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    command = [sys.executable, str(EXAMPLES / "make_clips.py"), "--output", str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return folder


@pytest.mark.parametrize("name", CLIPS)
def test_the_script_makes_the_clips_that_are_there(made, name):
    new, old = read_audio(made / name), read_audio(EXAMPLES / name)
    assert len(new) == len(old)
    assert np.abs(new - old).max() < 0.02  # other versions of the encoders may round differently


def test_the_readme_names_every_clip():
    table = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([\w.]+)`", table, flags=re.MULTILINE) == list(CLIPS)
    for scenes in CLIPS.values():
        assert all(f'"{scene.text}"' in table for scene in scenes if scene.text)


def test_only_test_sentences_are_said():
    texts = [scene.text for scenes in CLIPS.values() for scene in scenes if scene.text]
    assert len(texts) == 5 and all(is_test_sentence(text) for text in texts)
