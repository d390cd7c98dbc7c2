"""The arithmetic of training's memory and time (perf/training_budget.py): against modules, an H100, the document."""

import json
import subprocess
import sys

import pytest

from perf.training_budget import CARDS, LARGE, LLM, RECIPES, SMALL, memory_table, time_table
from src.configuration_DIFFA import ROOT
from src.modeling_llada import LLaDAModel
from src.modeling_whisper_encoder import WhisperAudioEncoder
from src.training_plan import SPARE_BYTES
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


H100 = {  # docs/gpu.md, training updates at LLaDA-8B's shape: GB a clip, and with checkpointing; TFLOP; GB at the peak
    "DIFFA 1": (1.752, 0.2751, 506 / 32, 44.59),
    "DIFFA 2": (1.996, 0.3491, 137.6 / 8, 24.72),
    "DIFFA-2 1": (1.757, 0.2801, 356 / 20, 53.19),
    "DIFFA-2 2": (2.137, 0.3699, 58.82 / 3, 24.82),
    "DIFFA-2 3": (3.272, 0.4000, 58.98 / 3, 28.40),
    "DIFFA-2 4, a pair": (None, None, 203.0, 22.59),
}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_the_arithmetic_is_what_an_h100_showed(recipe):
    plain, checkpointed, teraflop, peak = H100[recipe.name]
    if plain:
        assert recipe.bytes_a_clip(False) / 1e9 == pytest.approx(plain, rel=0.05)
        # of the encoder more is let go than is counted here, which is on the safe side
        assert 0.9 * checkpointed < recipe.bytes_a_clip(True) / 1e9 < 1.6 * checkpointed
    assert recipe.flop_a_clip(False) / 1e12 == pytest.approx(teraflop, rel=0.05)
    whole = recipe.resting_bytes(False) - SPARE_BYTES + recipe.batch * recipe.bytes_a_clip(False)
    assert whole / 1e9 == pytest.approx(peak, rel=0.03)


def test_the_published_batches_fit_the_gpus_they_were_made_for():
    for recipe in RECIPES:
        assert recipe.clips_that_fit(CARDS[2], checkpointing=False) >= recipe.batch, recipe.name


def test_the_document_holds_the_tables_that_the_script_prints(tmp_path):
    document = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    assert memory_table() in document and time_table() in document
    command = [sys.executable, str(ROOT / "perf" / "training_budget.py")]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert printed == f"{memory_table()}\n\n{time_table()}\n"
