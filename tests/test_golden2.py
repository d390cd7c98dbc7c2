"""What the published DIFFA-2 code computed, recorded in tests/golden2, against this repository's code."""

import json
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from src.audio import read_audio
from src.modeling_DIFFA import DIFFAModel
from tests import diffa2_api as api
from tests.conftest import GOLDEN2

CASES = json.loads((GOLDEN2 / "golden.json").read_text())


def each(kind: str) -> Callable:
    """Parametrise a test by the recorded cases of one kind, as its argument `case`."""
    return pytest.mark.parametrize("case", CASES[kind], ids=[case["key"] for case in CASES[kind]])


@pytest.fixture(scope="module")
def figures() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN2 / "golden.safetensors")


@cache
def clip(index: int) -> np.ndarray:
    return read_audio(GOLDEN2 / CASES["clips"][index])


@cache
def model(checkpoint: str, stage: int) -> DIFFAModel:
    return api.load(GOLDEN2, checkpoint, stage)


def assert_close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * expected.abs().max().item())


@each("merged")
def test_merged_weights(case, figures):
    found = api.llm_weight(model(case["checkpoint"], 2), case["weight"])
    assert_close(found, figures[case["key"]], tolerance=1e-6)


@each("speech")
def test_speech_features(case, figures):
    """32 encoder layers, 128 mel bins, eight target layers."""
    found = api.speech(model(case["checkpoint"], case["stage"]), clip(case["clip"]))
    assert_close(found, figures[case["key"]][0])


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_the_prompt(mode, figures):
    case = CASES["prompts"][mode]
    ids, position = api.prompt(model("diffa2_stage4", 2), CASES["prompts"]["instruction"], mode == "training")
    expected = figures[case["key"]][0, : case.get("prompt_length")]
    assert torch.equal(ids, expected) and position == case["audio_position"]


def test_logits(figures):
    case = CASES["logits"]
    found = api.logits(
        model(case["checkpoint"], 2), clip(case["clip"]), figures["logits.input_ids"][0], case["audio_position"]
    )
    assert_close(found, figures["logits.logits"][0])


SETTINGS = ("mode", "steps", "block_length", "max_new_tokens", "cfg_scale", "factor", "threshold")


@each("generate")
def test_generations_token_for_token_in_as_many_passes(case, figures):
    settings = {name: case[name] for name in SETTINGS}
    ids, passes = api.generate(
        model(case["checkpoint"], case["stage"]), clip(case["clip"]), case["question"], **settings
    )
    assert ids == figures[f"{case['key']}.answer_ids"][0].tolist() and passes == case["forward_passes"]


# --- training ------------------------------------------------------------------------------------------------------

# Clips of different length in one batch: the published code lets a row attend to the padding of others, ours does not.
COMPARABLE = [case for case in CASES["sft"] if not case["informational"]]


def assert_gradients(model: DIFFAModel, case: dict) -> None:
    for name, expected in case["grad_norms"].items():
        if name != "all trainable":
            assert api.grad_norm(model, name) == pytest.approx(expected, rel=1e-4), name


@pytest.mark.parametrize("case", COMPARABLE, ids=[case["key"] for case in COMPARABLE])
def test_loss_and_gradient_norms_of_fine_tuning(case, figures):
    model = api.load_trainable(GOLDEN2, case["checkpoint"])
    loss = api.sft_loss(model, [clip(index) for index in case["clips"]], api.sft_batch(figures, case, "cpu"))
    loss.backward()
    assert loss.item() == pytest.approx(case["loss"], rel=1e-5)
    assert_gradients(model, case)


@pytest.mark.parametrize("case", [case for case in CASES["vrpo"] if not case["informational"]], ids=lambda c: c["key"])
def test_loss_elbos_and_gradient_norms_of_preference_optimisation(case, figures):
    """Given its masks: a draw's padding end tokens were masked like others, and are here."""
    key = case["key"]
    policy, reference = (api.load_trainable(GOLDEN2, case[who]) for who in ("policy", "reference"))
    batch = api.vrpo_batch(figures, case, "cpu")
    found = api.vrpo_loss(policy, reference, [clip(index) for index in case["clips"]], batch, case["beta"])
    found["loss"].backward()
    for side in ("chosen", "rejected"):
        for who in ("theta", "ref"):
            assert_close(found[f"{side}_{who}"], figures[f"{key}.{side}_elbo_{who}"], tolerance=1e-5)
    assert found["loss"].item() == pytest.approx(case["loss"], rel=1e-3)  # differences of sums in the hundreds
    assert_gradients(policy, case)
