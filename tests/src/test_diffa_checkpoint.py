import pytest
import torch
from safetensors.torch import load_file, save_file

from src.checkpoint import CheckpointError
from src.modeling_DIFFA import DIFFAModel
from tests.conftest import GOLDEN


@pytest.fixture
def copy(tmp_path, model):
    """A checkpoint of ours with all adapters, to be broken."""
    model.save_pretrained(tmp_path / "copy")
    return tmp_path / "copy"


def load(folder) -> DIFFAModel:
    return DIFFAModel.from_pretrained(folder, GOLDEN / "llada", GOLDEN / "whisper")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("semantic_connector.conv.2.bias"), r"missing: semantic_connector\.conv\.2\.bias"),
        (lambda s: s.pop("trainable_prompts.weight"), r"missing: trainable_prompts\.weight"),
        (lambda s: s.update({"acoustic_connector.extra": torch.zeros(1)}), r"unexpected: acoustic_connector\.extra"),
        (lambda s: s.update({"llm_model.extra": torch.zeros(1)}), r"unexpected: llm_model\.extra"),
        (
            lambda s: s.update({"semantic_connector.layernorm.bias": torch.full((64,), torch.inf)}),
            r"semantic_connector\.layernorm\.bias holds values that are not finite",
        ),
        (
            lambda s: s.update({"trainable_prompts.weight": torch.zeros(20, 32)}),
            r"trainable_prompts\.weight has shape \(20, 32\), but this LLM and encoder need \(20, 64\)",
        ),
    ],
)
def test_wrong_adapter_weights_are_named(copy, change, message):
    state = load_file(copy / "model.safetensors")
    change(state)
    save_file(state, copy / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        load(copy)


def test_a_frozen_parts_weights_in_the_file_are_not_an_error(copy, model):
    state = load_file(copy / "model.safetensors") | {"llm_model.model.transformer.ln_f.weight": torch.zeros(64)}
    save_file(state, copy / "model.safetensors")
    again = load(copy)
    assert torch.equal(again.llm_model.final_norm.weight, model.llm_model.final_norm.weight)


def test_a_pickle_that_would_run_code_is_refused(copy, capsys):
    class Trap:
        def __reduce__(self):
            return print, ("code ran",)

    (copy / "model.safetensors").unlink()
    torch.save({"trap": Trap()}, copy / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"(?i)weights.only"):
        load(copy)
    assert "code ran" not in capsys.readouterr().out


def test_the_file_holds_the_weights_as_they_are_and_is_replaced_whole(copy, model):
    state = load_file(copy / "model.safetensors")
    assert all(tensor.equal(model.state_dict()[name]) for name, tensor in state.items())
    model.save_pretrained(
        copy, {"semantic_connector.conv.0.bias": torch.full((48,), 2.0), "llm_model.x": torch.ones(1)}
    )
    assert {name: tensor.unique().tolist() for name, tensor in load_file(copy / "model.safetensors").items()} == {
        "semantic_connector.conv.0.bias": [2.0]
    }
    assert sorted(path.name for path in copy.iterdir()) == ["config.json", "model.safetensors"]
