"""The arithmetic of training's memory and time (perf/training_budget.py): against modules, an H100, the document."""

import json
import subprocess
import sys

import pytest

from perf.training_budget import CARDS, LARGE, LLM, RECIPES, SMALL, memory_table, time_table
from src.configuration_DIFFA import ROOT
from src.modeling_llada import LLaDAModel
from src.modeling_whisper_encoder import WhisperAudioEncoder
from tests.conftest import GOLDEN


def test_parameters_are_those_of_the_modules():
    config = json.loads((GOLDEN / "llada" / "config.json").read_text())
    names = ("d_model", "n_layers", "mlp_hidden_size", "embedding_size")
    counted = LLM(*(config[name] for name in names)).parameters
    assert counted == sum(p.numel() for p in LLaDAModel.from_pretrained(GOLDEN / "llada").parameters())
    assert LLM().parameters == 8_015_581_184  # LLaDA-8B
    layers = WhisperAudioEncoder.from_pretrained(GOLDEN / "whisper").encoder.layers
    d, ffn = layers[0].self_attn.embed_dim, layers[0].fc1.out_features
    matrices = sum(p.numel() for p in layers.parameters() if p.ndim == 2)
    assert matrices == len(layers) * (4 * d**2 + 2 * d * ffn)
    assert (SMALL.parameters, LARGE.parameters) == (12 * 12 * 768**2, 32 * 12 * 1280**2)  # where ffn is 4 d


@pytest.mark.parametrize(
    ("stage", "checkpointing", "gigabytes", "teraflop"),
    [(1, False, 2.45, 506 / 32), (1, True, 0.288, 694 / 32), (2, False, 2.84, 137 / 8), (2, True, 0.364, 189 / 8)],
)
def test_the_arithmetic_is_what_an_h100_showed(stage, checkpointing, gigabytes, teraflop):
    """docs/gpu.md, training updates at LLaDA-8B's shape."""
    recipe = RECIPES[stage - 1]
    assert recipe.bytes_a_clip(checkpointing) / 1e9 == pytest.approx(gigabytes, rel=0.15)
    assert recipe.flop_a_clip(checkpointing) / 1e12 == pytest.approx(teraflop, rel=0.1)


def test_the_published_batches_fit_the_gpus_they_were_made_for():
    for recipe in RECIPES:
        assert recipe.clips_that_fit(CARDS[2], checkpointing=False) >= recipe.batch, recipe.name


def test_the_document_holds_the_tables_that_the_script_prints(tmp_path):
    document = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    assert memory_table() in document and time_table() in document
    command = [sys.executable, str(ROOT / "perf" / "training_budget.py")]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert printed == f"{memory_table()}\n\n{time_table()}\n"
