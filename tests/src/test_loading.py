import argparse
import importlib

import pytest
import torch

from src import loading
from src.checkpoint import CheckpointError
from src.inference_flags import OptionError, add_model_flags
from src.modeling_DIFFA import DIFFAModel
from tests.conftest import GOLDEN


def flags(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_model_flags(parser, default="the built-in miniature")
    return parser.parse_args(given)


@pytest.mark.parametrize("script", ["ask", "app", "serve"])
def test_the_scripts_decode_by_the_same_defaults(script):
    words = ["clip.wav", "question"] if script == "ask" else []
    args = importlib.import_module(script).make_parser().parse_args(words)
    assert {name: getattr(args, name) for name in loading.DECODING_DEFAULTS} == loading.DECODING_DEFAULTS
    assert loading.DECODING_DEFAULTS == {"preset": "fast", "steps": 64, "block_length": 16, "max_new_tokens": 64}


@pytest.fixture
def asked_for(monkeypatch):
    """What was asked of `DIFFAModel.from_pretrained`: (paths, settings)."""
    calls = []
    monkeypatch.setattr(DIFFAModel, "from_pretrained", lambda *paths, **settings: calls.append((paths, settings)))
    return calls


def test_without_a_checkpoint_the_miniature_is_loaded_with_its_own_parts(asked_for):
    loading.load_model(flags("--device", "cpu"))
    [(paths, settings)] = asked_for
    assert paths == (loading.MODEL, loading.LLM, loading.WHISPER)
    assert settings == {"torch_dtype": torch.float32, "device": torch.device("cpu")}
    assert loading.LLM.is_dir() and loading.WHISPER.is_dir()


def test_a_checkpoint_brings_its_own_parts(asked_for):
    loading.load_model(flags("--model_path", "owner/name", "--device", "cpu", "--dtype", "bfloat16"))
    [(paths, settings)] = asked_for
    assert paths == ("owner/name", None, None)
    assert settings["torch_dtype"] == torch.bfloat16


def test_a_checkpoint_is_loaded_in_its_stage():
    parts = ("--llm_path", str(GOLDEN / "llada"), "--whisper_path", str(GOLDEN / "whisper"), "--device", "cpu")
    assert loading.load_model(flags("--model_path", str(GOLDEN / "diffa_upstream"), *parts)).stage == 2


def test_what_is_not_there_is_named():
    with pytest.raises(CheckpointError, match=r"the DIFFA checkpoint: no folder 'no/such/folder'.*--model_path"):
        loading.load_model(flags("--model_path", "no/such/folder", "--device", "cpu"))
    if not torch.cuda.is_available():
        with pytest.raises(OptionError, match="PyTorch finds no GPU"):
            loading.load_model(flags("--device", "cuda"))
