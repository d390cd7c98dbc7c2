import argparse
import importlib
import socket

import pytest
import torch

from src import loading
from src.checkpoint import CheckpointError
from src.configuration_DIFFA import DIFFAConfig
from src.inference_flags import OptionError, add_model_flags
from src.modeling_DIFFA import DIFFAModel
from tests.conftest import GOLDEN, GOLDEN2


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

    def from_pretrained(*paths, **settings):
        calls.append((paths, settings))
        return argparse.Namespace(config=DIFFAConfig(family="diffa"), lora=None)

    monkeypatch.setattr(DIFFAModel, "from_pretrained", from_pretrained)
    return calls


def test_without_a_checkpoint_the_miniature_is_loaded_with_its_own_parts(asked_for):
    loading.load_model(flags("--device", "cpu", "--dtype", "float32"))
    [(paths, settings)] = asked_for
    assert paths == (loading.MODEL, loading.LLM, loading.WHISPER)
    assert settings == {
        "torch_dtype": torch.float32,
        "device": torch.device("cpu"),
        "use_lora": None,
        "quantization": None,
    }
    assert loading.LLM.is_dir() and loading.WHISPER.is_dir()


def test_a_checkpoint_brings_its_own_parts(asked_for):
    loading.load_model(flags("--model_path", "owner/name", "--device", "cpu", "--dtype", "bfloat16"))
    [(paths, settings)] = asked_for
    assert paths == ("owner/name", None, None)
    assert settings["torch_dtype"] == torch.bfloat16


def test_a_checkpoint_is_loaded_in_its_stage():
    parts = ("--llm_path", str(GOLDEN / "llada"), "--whisper_path", str(GOLDEN / "whisper"), "--device", "cpu")
    assert loading.load_model(flags("--model_path", str(GOLDEN / "diffa_upstream"), *parts)).stage == 2


def of_diffa2(stage: int, *given: str) -> argparse.Namespace:
    parts = ("--llm_path", str(GOLDEN2 / "llada"), "--whisper_path", str(GOLDEN2 / "whisper"), "--device", "cpu")
    return flags("--model_path", str(GOLDEN2 / f"diffa2_stage{stage}"), *parts, *given)


def test_a_checkpoint_of_diffa2_is_loaded_like_any_other_and_told(capsys):
    model = loading.load_model(of_diffa2(4, "--use_lora", "True"))
    assert model.stage == 2 and model.lora is not None
    assert "diffa2_stage4 is a DIFFA-2 checkpoint, LoRA of rank 8 merged into 15 weights" in capsys.readouterr().err


def test_rounded_weights_are_told(capsys):
    model = loading.load_model(of_diffa2(4, "--quantize", "int4", "--dtype", "bfloat16"))
    assert model.llm_model.quantization == "int4"
    assert "the LLM's weights are rounded to int4, those of its vocabulary to int8" in capsys.readouterr().err


def test_lora_that_is_not_there_or_not_wanted_is_an_error():
    with pytest.raises(CheckpointError, match=r"diffa2_stage1 holds no LoRA factors.*leave out --use_lora"):
        loading.load_model(of_diffa2(1, "--use_lora"))
    with pytest.raises(CheckpointError, match=r"diffa2_stage4 holds LoRA factors.*leave out --use_lora False"):
        loading.load_model(of_diffa2(4, "--use_lora", "False"))


def test_what_is_not_there_is_named():
    with pytest.raises(CheckpointError, match=r"the DIFFA checkpoint: no folder 'no/such/folder'.*--model_path"):
        loading.load_model(flags("--model_path", "no/such/folder", "--device", "cpu"))
    if not torch.cuda.is_available():
        with pytest.raises(OptionError, match="PyTorch finds no GPU"):
            loading.load_model(flags("--device", "cuda"))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_a_port_that_is_taken_is_found(host):
    loading.check_port(host, 0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            OptionError, match=rf"nothing can listen at --host {host} --port {port} \(Address already in use"
        ):
            loading.check_port(host, port)
    loading.check_port(host, port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_an_address_that_is_not_this_machines_is_named(host):
    with pytest.raises(OptionError, match=rf"nothing can listen at --host {host} --port 0 \("):
        loading.check_port(host, 0)
