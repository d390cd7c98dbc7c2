import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from src.checkpoint import CheckpointError
from src.lora import Factors, LoRA, has_lora, is_factor, new_lora, own_name, read_lora
from src.modeling_DIFFA import ADAPTER_MODULES, DIFFAModel
from src.modeling_llada import LLaDAModel
from tests.conftest import GOLDEN2

STAGE4 = GOLDEN2 / "diffa2_stage4"  # a trainer's whole state
Q0 = "model.transformer.blocks.0.q_proj"
KEY = "llm_model.base_model.model." + Q0  # of a published checkpoint
PEFT_CONFIG = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "lora_dropout": 0.05, "bias": "none"}


@pytest.fixture(scope="module")
def whole() -> dict[str, torch.Tensor]:
    """Everything that stage 4 stored."""
    return torch.load(STAGE4 / "pytorch_model.bin", weights_only=True)


@pytest.fixture(scope="module")
def merged() -> dict[str, torch.Tensor]:
    """Some of the LLM's weights, merged by the published code."""
    golden = load_file(GOLDEN2 / "golden.safetensors")
    cases = json.loads((GOLDEN2 / "golden.json").read_text())["merged"]
    return {case["weight"]: golden[case["key"]] for case in cases if case["checkpoint"] == "diffa2_stage4"}


def trained(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What a released checkpoint holds of it."""
    return {name: tensor for name, tensor in state.items() if name.startswith(ADAPTER_MODULES) or "lora" in name}


def folder_of(path: Path, state: dict[str, torch.Tensor], file: str = "pytorch_model.bin") -> Path:
    path.mkdir(parents=True, exist_ok=True)
    shutil.copy(STAGE4 / "config.json", path)
    save_file(state, path / file) if file.endswith("safetensors") else torch.save(state, path / file)
    return path


def in_shards(path: Path, state: dict[str, torch.Tensor], suffix: str) -> Path:
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    names, weight_map = sorted(state), {}
    for number in range(3):
        file = f"{stem}-0000{number + 1}-of-00003.{suffix}"
        folder_of(path, {name: state[name] for name in names[number::3]}, file)
        weight_map |= dict.fromkeys(names[number::3], file)
    (path / f"{stem}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return path


def as_peft(path: Path, state: dict[str, torch.Tensor], **config) -> None:
    """Write a PEFT folder, which leaves out the adapter's name."""
    factors = {
        name.removeprefix("llm_model.").replace(".default", ""): tensor
        for name, tensor in state.items()
        if "lora" in name
    }
    path.mkdir(parents=True, exist_ok=True)
    save_file(factors, path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text(json.dumps(PEFT_CONFIG | config))


def load(folder: Path, **settings) -> DIFFAModel:
    return DIFFAModel.from_pretrained(folder, GOLDEN2 / "llada", GOLDEN2 / "whisper", **settings)


# --- every form of checkpoint --------------------------------------------------------------------------------------

FORMS: dict[str, Callable[[Path, dict], object]] = {
    "released": lambda path, state: folder_of(path, trained(state)),
    "whole": lambda path, state: folder_of(path, state),
    "released safetensors": lambda path, state: folder_of(path, trained(state), "model.safetensors"),
    "whole safetensors": lambda path, state: folder_of(path, state, "model.safetensors"),
    "whole in shards": lambda path, state: in_shards(path, state, "safetensors"),
    "whole in pickled shards": lambda path, state: in_shards(path, state, "bin"),
    "injected": lambda path, state: folder_of(
        path, {name.replace("base_model.model.", ""): tensor for name, tensor in trained(state).items()}
    ),
    "a PEFT folder beside": lambda path, state: (
        folder_of(path, {name: tensor for name, tensor in trained(state).items() if "lora" not in name}),
        as_peft(path, state),
    ),
    "a PEFT folder within": lambda path, state: (
        folder_of(path, {name: tensor for name, tensor in trained(state).items() if "lora" not in name}),
        as_peft(path / "lora_weights", state),
    ),
    "both": lambda path, state: (folder_of(path, state), as_peft(path / "lora_weights", state)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_checkpoint_gives_the_same_model(form, tmp_path, whole, merged):
    FORMS[form](tmp_path, whole)
    assert has_lora(tmp_path)
    model = load(tmp_path, use_lora=True)
    assert (model.config.family, model.lora.rank, len(model.lora.factors)) == ("diffa2", 8, 15)
    for name, expected in merged.items():
        torch.testing.assert_close(model.llm_model.get_parameter(name), expected, rtol=0, atol=1e-6)
    state = model.state_dict()
    adapters = [name for name in whole if name.startswith(ADAPTER_MODULES)]
    assert all(torch.equal(state[name], whole[name]) for name in adapters) and len(adapters) == 76


def test_what_was_merged_is_saved_and_loads_again(tmp_path, whole):
    model = load(folder_of(tmp_path / "one", trained(whole)))
    model.save_pretrained(tmp_path / "two")
    assert load_file(tmp_path / "two" / "model.safetensors").keys() == trained(whole).keys()  # under published names
    again = load(tmp_path / "two")
    assert again.config.family == "diffa2"
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_alpha_is_remembered(tmp_path, whole):
    as_peft(folder_of(tmp_path / "one", trained(whole)), whole, lora_alpha=4)
    model = load(tmp_path / "one")
    assert model.lora.scale(Q0 + ".weight") == 0.5
    model.save_pretrained(tmp_path / "two")
    again = load(tmp_path / "two")
    assert again.lora.alpha == 4 and again.llm_model.get_parameter(Q0 + ".weight").equal(
        model.llm_model.get_parameter(Q0 + ".weight")
    )


def test_a_checkpoint_without_factors_has_none():
    assert read_lora(GOLDEN2 / "diffa2_stage1") is None and not has_lora(GOLDEN2 / "diffa2_stage1")
    with pytest.raises(CheckpointError, match=r"diffa2_stage1 holds no LoRA factors, but .* leave out --use_lora"):
        load(GOLDEN2 / "diffa2_stage1", use_lora=True)


# --- damaged and unusual ones: a clear error or the right answer ------------------------------------------------------


def without(*names: str) -> Callable[[dict], None]:
    return lambda state: [state.pop(name) for name in names] and None


def setting(name: str, tensor: torch.Tensor) -> Callable[[dict], None]:
    return lambda state: state.update({name: tensor})


DAMAGE = {
    "no B": (without(f"{KEY}.lora_B.default.weight"), f"of the LoRA factors for {Q0}.weight, lora_B is missing"),
    "no A": (without(f"{KEY}.lora_A.default.weight"), f"of the LoRA factors for {Q0}.weight, lora_A is missing"),
    "no pair": (
        without(f"{KEY}.lora_A.default.weight", f"{KEY}.lora_B.default.weight"),
        f"LoRA factors for {Q0}.weight are missing; other blocks have them",
    ),
    "two ranks": (
        setting(f"{KEY}.lora_A.default.weight", torch.ones(4, 64)),
        rf"{Q0}.weight have shapes \(4, 64\) \(A\) and \(64, 8\) \(B\); expected \[r, in\] and \[out, r\] of one rank",
    ),
    "rank 0": (
        lambda state: state.update(
            {f"{KEY}.lora_A.default.weight": torch.ones(0, 64), f"{KEY}.lora_B.default.weight": torch.ones(64, 0)}
        ),
        r"shapes \(0, 64\) \(A\) and \(64, 0\)",
    ),
    "another width": (
        setting(f"{KEY}.lora_A.default.weight", torch.ones(8, 72)),
        rf"for {Q0}.weight make an update of shape \(64, 72\), but this LLM's weight has \(64, 64\): .*--llm_path",
    ),
    "another height": (setting(f"{KEY}.lora_B.default.weight", torch.ones(72, 8)), r"update of shape \(72, 64\)"),
    "a vector": (setting(f"{KEY}.lora_B.default.weight", torch.ones(64)), r"lora_B.default.weight is no LoRA factor"),
    "integers": (
        setting(f"{KEY}.lora_B.default.weight", torch.ones(64, 8, dtype=torch.int64)),
        r"lora_B.default.weight is no LoRA factor \(torch.int64",
    ),
    "not finite": (
        setting(f"{KEY}.lora_B.default.weight", torch.full((64, 8), torch.inf)),
        "lora_B.default.weight holds values that are not finite",
    ),
    "a layer that is not there": (
        lambda state: state.update(
            {
                f"{KEY.replace('blocks.0', 'blocks.3')}.lora_A.default.weight": torch.ones(8, 64),
                f"{KEY.replace('blocks.0', 'blocks.3')}.lora_B.default.weight": torch.ones(64, 8),
            }
        ),
        r"LoRA factors for model.transformer.blocks.3.q_proj.weight: this LLM has no such linear layer",
    ),
    "an embedding": (
        lambda state: state.update(
            {
                "llm_model.base_model.model.model.transformer.wte.lora_A.default.weight": torch.ones(8, 64),
                "llm_model.base_model.model.model.transformer.wte.lora_B.default.weight": torch.ones(448, 8),
            }
        ),
        "LoRA factors for model.transformer.wte.weight: this LLM has no such linear layer",
    ),
    "DoRA": (
        setting(f"{KEY}.lora_magnitude_vector.default.weight", torch.ones(64)),
        "lora_magnitude_vector.default.weight is no LoRA factor",
    ),
    "two adapters": (
        lambda state: state.update(
            {name.replace("default", "reference"): state[name] for name in list(state) if "q_proj.lora" in name}
        ),
        r"holds several LoRA adapters \(default, reference\); expected one",
    ),
    "another key of the LLM": (
        setting("llm_model.base_model.model.model.transformer.blocks.0.q_proj.bias", torch.ones(64)),
        r"unexpected: llm_model.base_model.model.model.transformer.blocks.0.q_proj.bias",
    ),
    "factors outside the LLM": (
        setting(f"{KEY}.lora_A.default.weight".removeprefix("llm_model."), torch.ones(8, 64)),
        r"unexpected: base_model.model.model.transformer.blocks.0.q_proj.lora_A",
    ),
    "a key of something else": (setting("optimizer.step", torch.ones(1)), r"unexpected: optimizer.step"),
    "a trainer's state": (lambda state: state.update(epoch=3), "holds something else than weights by name"),
    "an adapter that is not finite": (
        setting("acoustic_connector.proj.1.bias", torch.full((64,), torch.nan)),
        "acoustic_connector.proj.1.bias holds values that are not finite",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_an_error_that_names_the_weight(damage, tmp_path, whole):
    change, message = DAMAGE[damage]
    state = trained(whole)
    change(state)
    with pytest.raises(CheckpointError, match=message):
        load(folder_of(tmp_path, state))


def test_another_rank_in_half_precision_is_merged_as_it_is(tmp_path, whole):
    torch.manual_seed(0)
    state = trained(whole)
    a, b = torch.randn(3, 64).half(), torch.randn(64, 3).half()
    state |= {f"{KEY}.lora_A.default.weight": a, f"{KEY}.lora_B.default.weight": b}
    state = {name: tensor.half() for name, tensor in state.items()}
    model = load(folder_of(tmp_path, state))
    base = load_file(GOLDEN2 / "llada" / "model.safetensors")[f"{Q0}.weight"]
    expected = (base.double() + 2 * b.double() @ a.double()).float()  # alpha is twice the rank, whatever the rank
    torch.testing.assert_close(model.llm_model.get_parameter(f"{Q0}.weight"), expected, rtol=1e-6, atol=1e-6)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.trainable_prompts.weight.equal(state["trainable_prompts.weight"].float())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"r": 4}, "adapter_config.json has r 4, but the factors have 8"),
        ({"use_dora": True}, "use_dora True: only plain LoRA of linear layers is implemented"),
        ({"use_rslora": True}, "use_rslora True: only plain"),
        ({"bias": "all"}, "bias 'all': only plain"),
        ({"alpha_pattern": {"q_proj": 4}}, "alpha_pattern {'q_proj': 4}: only plain"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3'; only 'LORA'"),
    ],
)
def test_a_peft_configuration_of_something_else_is_refused(config, message, tmp_path, whole):
    as_peft(folder_of(tmp_path, trained(whole)), whole, **config)
    with pytest.raises(CheckpointError, match=message):
        read_lora(tmp_path)


def test_two_places_must_agree(tmp_path, whole):
    as_peft(folder_of(tmp_path, trained(whole)), {name: 2 * tensor for name, tensor in trained(whole).items()})
    with pytest.raises(CheckpointError, match="hold different LoRA factors"):
        read_lora(tmp_path)
    as_peft(tmp_path, whole, lora_alpha=8)
    with pytest.raises(CheckpointError, match=r"has lora_alpha 8, but the checkpoint's config.json 16"):
        read_lora(tmp_path, alpha=16)
    (tmp_path / "adapter_model.safetensors").unlink()
    folder_of(tmp_path, {name: tensor for name, tensor in trained(whole).items() if "lora" not in name})
    with pytest.raises(CheckpointError, match=r"adapter_config.json is there, but no adapter_model.safetensors"):
        read_lora(tmp_path)


# --- merging -------------------------------------------------------------------------------------------------------


def random_lora(rows: int, columns: int, rank: int = 4, size: float = 1.0) -> LoRA:
    return LoRA({"w": Factors(size * torch.randn(rank, columns), torch.randn(rows, rank))}, alpha=rank)


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_sum_is_made_in_float32_and_rounded_once(stored, dtype):
    """Also where the update is far smaller than the weight's own rounding, and in more rows than are merged at once."""
    lora, weight = random_lora(500, 400, size=1e-2), torch.randn(500, 400).to(stored)
    expected = torch.addmm(weight.float(), lora.factors["w"].b, lora.factors["w"].a).to(dtype)
    before = weight.clone()
    merged = lora.merge("w", weight, dtype)
    assert merged.dtype == dtype and merged.equal(expected)
    assert (merged.data_ptr() == weight.data_ptr()) == (stored == dtype)  # a place of its own for another dtype alone
    assert stored == dtype or weight.equal(before)


# --- training ------------------------------------------------------------------------------------------------------


@pytest.fixture
def trainable() -> DIFFAModel:
    model = DIFFAModel.from_pretrained(STAGE4, GOLDEN2 / "llada", GOLDEN2 / "whisper", merge_lora=False)
    model.prepare_training(3)
    return model


def test_factors_beside_the_weights_compute_what_merged_ones_do(trainable):
    assert trainable.trains_lora and trainable.lora is None
    x = torch.randn(2, 5, 64)
    torch.testing.assert_close(trainable.llm_model(x), load(STAGE4).llm_model(x), rtol=1e-5, atol=1e-5)
    trained = {name for name, parameter in trainable.named_parameters() if parameter.requires_grad}
    assert {name for name in trained if name.startswith("llm_model.")} == {
        own_name(name) for name in read_lora(STAGE4).state_dict()
    }
    assert {name.split(".")[0] for name in trained} == {"semantic_connector", "acoustic_connector", "llm_model"}


def test_trained_factors_are_saved_under_published_names_and_go_on(tmp_path, trainable):
    with torch.no_grad():
        for name, parameter in trainable.llm_model.named_parameters():
            if is_factor(name):
                parameter.add_(0.1)
    trainable.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert {name for name in saved if "lora" in name} == set(read_lora(STAGE4).state_dict())
    x = torch.randn(1, 5, 64)
    expected = trainable.llm_model(x)
    torch.testing.assert_close(load(tmp_path).llm_model(x), expected, rtol=1e-5, atol=1e-5)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["stage"], config["family"], config["lora_alpha"]) == (3, "diffa2", None)
    one = load(STAGE4, merge_lora=False)
    one.config.stage = 3
    one.load_adapters(tmp_path)  # as the end of a run does, or its best checkpoint
    two = load(STAGE4, merge_lora=False)
    assert not two.load_state_dict(saved, strict=False).unexpected_keys  # as Trainer resumes
    assert one.llm_model(x).equal(expected) and two.llm_model(x).equal(expected)


def test_new_factors_change_nothing_and_can_be_trained():
    model = load(GOLDEN2 / "diffa2_stage1")
    x = torch.randn(1, 5, 64)
    expected = model.llm_model(x)
    lora = new_lora(model.llm_model, rank=4, alpha=8, targets=("q_proj", "ff_out"))
    assert len(lora.factors) == 6 and all(factors.a.abs().sum() > 0 for factors in lora.factors.values())
    model.attach_lora(lora)
    assert model.llm_model(x).equal(expected)
    model.prepare_training(3)
    model.llm_model(x).square().mean().backward()
    layer = model.llm_model.get_submodule(Q0)
    assert layer.lora_B["default"].weight.grad.abs().sum() > 0 and layer.scaling["default"] == 2
    llm = LLaDAModel.from_pretrained(GOLDEN2 / "llada")
    for settings in ({"rank": 0}, {"targets": ("q_proj", "c_proj")}):
        with pytest.raises(
            CheckpointError, match=r"LoRA of rank \d for .*: expected .* layers out of attn_out, ff_out"
        ):
            new_lora(llm, **{"rank": 4, "alpha": 8, "targets": ("q_proj",)} | settings)


def test_factors_are_trained_in_float32_beside_a_base_in_bfloat16():
    model = DIFFAModel.from_pretrained(
        STAGE4, GOLDEN2 / "llada", GOLDEN2 / "whisper", torch_dtype=torch.bfloat16, adapter_dtype=torch.float32,
        merge_lora=False,
    )  # fmt: skip
    layer = model.llm_model.get_submodule(Q0)
    assert (layer.base_layer.weight.dtype, layer.lora_A["default"].weight.dtype) == (torch.bfloat16, torch.float32)
    assert model.llm_model(torch.randn(1, 4, 64).bfloat16()).dtype == torch.bfloat16


def test_dropout_falls_out_in_training_alone_and_the_same_when_blocks_are_computed_again():
    trainable = load(GOLDEN2 / "diffa2_stage1")
    trainable.attach_lora(read_lora(STAGE4), dropout=0.5)
    trainable.prepare_training(3)
    x = torch.randn(1, 5, 64)
    assert trainable.llm_model(x).equal(trainable.llm_model(x))
    trainable.train()
    assert not trainable.llm_model(x).equal(trainable.llm_model(x))
    gradients = []
    for checkpointing in (False, True):
        trainable.llm_model.gradient_checkpointing = checkpointing
        trainable.zero_grad()
        torch.manual_seed(0)
        trainable.llm_model(x).square().sum().backward()
        gradients.append([p.grad for name, p in trainable.named_parameters() if is_factor(name)])
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))
    trainable.eval()
    assert trainable.llm_model(x).equal(trainable.llm_model(x))


def test_factors_of_other_layers_are_refused(tmp_path, trainable, whole):
    others = {name: tensor for name, tensor in trained(whole).items() if "q_proj" not in name}
    with pytest.raises(CheckpointError, match=r"missing: model.transformer.blocks.0.q_proj, .*blocks.2.q_proj"):
        trainable.load_adapters(folder_of(tmp_path, others))


def test_factors_of_the_vocabulary_projection_are_merged_but_not_trained():
    head = LoRA({"model.transformer.ff_out.weight": Factors(torch.randn(2, 64), torch.randn(448, 2))})
    llm = LLaDAModel.from_pretrained(GOLDEN2 / "llada", torch.float32, lora=head)
    plain = LLaDAModel.from_pretrained(GOLDEN2 / "llada", torch.float32)
    update = 2 * head.factors["model.transformer.ff_out.weight"].b @ head.factors["model.transformer.ff_out.weight"].a
    torch.testing.assert_close(llm.output_weight, plain.output_weight + update)
    with pytest.raises(CheckpointError, match=r"model.transformer.ff_out.weight cannot be trained"):
        load(GOLDEN2 / "diffa2_stage1").attach_lora(head)
