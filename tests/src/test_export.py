"""Checkpoints in the forms that the published code and PEFT read."""

import json
import shutil

import pytest
import torch
from peft import PeftModel

from src.checkpoint import CheckpointError, read_tensors, weight_names
from src.export import main
from src.files import OutputError
from src.lora import read_lora
from src.modeling_DIFFA import DIFFAModel
from src.modeling_llada import LLaDAModel
from tests.conftest import GOLDEN2, load_golden

PARTS = GOLDEN2 / "llada", GOLDEN2 / "whisper"


@pytest.fixture(scope="module")
def stage3(tmp_path_factory):
    """A stage-3 checkpoint of ours, with the golden one's factors."""
    folder = tmp_path_factory.mktemp("ours") / "stage3"
    model = DIFFAModel.from_pretrained(GOLDEN2 / "diffa2_stage3", *PARTS, merge_lora=False)
    model.prepare_training(3)
    model.save_pretrained(folder)
    return folder


def test_the_released_form_holds_the_trained_weights_under_the_published_names(stage3, tmp_path):
    assert main(["published", str(stage3), "--output", str(tmp_path / "out")]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"config.json", "pytorch_model.bin"}
    found = torch.load(tmp_path / "out" / "pytorch_model.bin", weights_only=True)
    golden = dict(read_tensors(GOLDEN2 / "diffa2_stage3"))
    assert golden.keys() - found.keys() == {"trainable_prompts.weight"}  # of stage 1 alone
    assert found.keys() <= golden.keys()
    assert all(tensor.dtype == torch.float32 and tensor.equal(golden[name]) for name, tensor in found.items())
    model = DIFFAModel.from_pretrained(tmp_path / "out", *PARTS, use_lora=True)
    assert (model.stage, model.lora.rank, model.config.family) == (3, 8, "diffa2")


def test_the_whole_form_has_every_name_that_the_published_trainer_writes(stage3, tmp_path):
    parts = ["--llm_path", str(PARTS[0]), "--whisper_path", str(PARTS[1])]
    assert main(["published", str(stage3), "--whole", *parts, "--output", str(tmp_path / "out")]) == 0
    found = torch.load(tmp_path / "out" / "pytorch_model.bin", weights_only=True)
    golden = dict(read_tensors(GOLDEN2 / "diffa2_stage4"))  # as its trainer writes it
    assert found.keys() | {"trainable_prompts.weight"} == golden.keys()
    frozen = [name for name in found if name.startswith(("whisper_model.", "llm_model.")) and "lora" not in name]
    assert len(frozen) == 487 + 30 and all(found[name].equal(golden[name]) for name in frozen)
    DIFFAModel.from_pretrained(tmp_path / "out", *PARTS, use_lora=True)


def test_a_checkpoint_without_factors_is_exported_too(tmp_path):
    model = load_golden()
    model.prepare_training(2)
    model.save_pretrained(tmp_path / "stage2")
    assert main(["published", str(tmp_path / "stage2"), "--whole"]) == 0
    names = weight_names(tmp_path / "stage2-published")
    modules = {"semantic_connector", "acoustic_connector", "whisper_model", "llm_model"}
    assert {name.partition(".")[0] for name in names} == modules
    assert "llm_model.model.transformer.blocks.0.q_proj.weight" in names
    DIFFAModel.from_pretrained(tmp_path / "stage2-published")
    with pytest.raises(CheckpointError, match="the checkpoint holds no LoRA factors; expected factors of one rank"):
        main(["peft", str(tmp_path / "stage2")])


@pytest.mark.parametrize("alpha", [None, 4.0])
def test_peft_puts_the_factors_into_an_llm_with_public_names(stage3, tmp_path, alpha):
    """And their logits are those of the weights with the updates added."""
    shutil.copytree(stage3, tmp_path / "stage3")
    config = json.loads((tmp_path / "stage3" / "config.json").read_text()) | {"lora_alpha": alpha}
    (tmp_path / "stage3" / "config.json").write_text(json.dumps(config))
    assert main(["peft", str(tmp_path / "stage3")]) == 0
    out = tmp_path / "stage3-peft"
    assert {path.name for path in out.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}

    plain, merged = (LLaDAModel.from_pretrained(PARTS[0], torch.float64) for _ in range(2))
    scale = 2 if alpha is None else alpha / 8
    for name, factors in read_lora(stage3).factors.items():
        merged.get_parameter(name).add_(scale * factors.b.double() @ factors.a.double())
    embeds = plain.embed(torch.arange(12).reshape(2, 6))
    base = plain.project(plain(embeds))
    beside = PeftModel.from_pretrained(plain, str(out))
    with torch.inference_mode():
        logits, expected = beside.project(beside(embeds)), merged.project(merged(embeds))
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    assert (logits - base).abs().max() > 0.01
    out.rename(tmp_path / "stage3" / "lora_weights")  # where the published training puts it, and it is read from
    read = read_lora(tmp_path / "stage3")
    assert {read.scale(name) for name in read.factors} == {scale}


def test_factors_that_the_published_code_would_read_wrongly_are_refused(stage3, tmp_path):
    shutil.copytree(stage3, tmp_path / "stage3")
    config = json.loads((tmp_path / "stage3" / "config.json").read_text()) | {"lora_alpha": 4.0}
    (tmp_path / "stage3" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"LoRA factors of rank 8 and scale 0\.5 for ff_proj, k_proj, .* cod"):
        main(["published", str(tmp_path / "stage3")])
    assert [path.name for path in tmp_path.iterdir()] == ["stage3"]


def test_nothing_is_overwritten_and_nothing_is_left_half_written(stage3, tmp_path, monkeypatch):
    with pytest.raises(OutputError, match=r"stage3 would be overwritten, and it is an input"):
        main(["peft", str(stage3), "--output", str(stage3)])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").touch()
    with pytest.raises(OutputError, match="full holds something already; choose another folder, or remove it"):
        main(["published", str(stage3), "--output", str(tmp_path / "full")])

    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("src.export.save_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        main(["peft", str(stage3), "--output", str(tmp_path / "new")])
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
