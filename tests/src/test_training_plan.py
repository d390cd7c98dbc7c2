import json
import sys
from types import SimpleNamespace

import pytest

import train
from src.checkpoint import CheckpointError
from src.training_arguments import SettingsError
from src.training_plan import bytes_of_clip, meta_model
from tests.conftest import GOLDEN, GOLDEN2, load_golden
from tests.src.test_training_arguments import parsed

LLADA_8B = SimpleNamespace(n_layers=32, d_model=4096, mlp_hidden_size=12288)
FLAGS = ["--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "2", "--num_train_epochs", "3"]
FLAGS += ["--warmup_steps", "40", "--save_total_limit", "2", "--bf16", "False", "--use_cpu"]


def test_the_arithmetic_is_that_of_the_documentation():
    tensor = 589 * 4096 * 2  # bytes, of all positions
    assert bytes_of_clip(LLADA_8B, 589, 2, False) == (32 * 12 + 12) * tensor == pytest.approx(1.91e9, rel=2e-3)
    assert bytes_of_clip(LLADA_8B, 589, 2, True) == (32 + 12 + 12) * tensor == pytest.approx(0.27e9, rel=2e-3)
    assert bytes_of_clip(LLADA_8B, 589, 2, False, lora_layers=5) == (32 * (12 + 5 * 1.5) + 12) * tensor
    assert bytes_of_clip(LLADA_8B, 339, 2, False) == pytest.approx(1.1e9, rel=2e-3)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_model_of_a_plan_has_the_parameters_of_the_real_one(tmp_path, stage):
    real = load_golden()
    real.prepare_training(min(stage, 2))
    frozen = ["--llm_path", str(GOLDEN / "llada"), "--whisper_path", str(GOLDEN / "whisper")]
    start = ["--stage1_checkpoint", str(GOLDEN / "diffa_upstream")] if stage > 1 else []
    model_args, _, training_args = parsed(tmp_path, "--stage", str(stage), *start, *frozen, "--bf16", "False")
    model = train.model_of_plan(model_args, training_args)
    assert all(weight.is_meta for weight in model.parameters())
    for trained in (True, False):
        expected = {name: w.shape for name, w in real.named_parameters() if w.requires_grad == trained}
        found = {
            name.replace(".base_layer.", "."): w.shape for name, w in model.named_parameters()
            if w.requires_grad == trained
        }  # fmt: skip
        factors = {name for name in found if "lora" in name}
        assert {name: found[name] for name in found if name not in factors} == expected
        assert bool(factors) == (trained and stage == 3)


def test_the_plan_of_stage_4_has_the_factors_of_its_start_and_the_reference(tmp_path):
    """The checkpoint's are of rank 8; whoever asks for another rank hears of it before a real start."""
    frozen = ["--llm_path", str(GOLDEN2 / "llada"), "--whisper_path", str(GOLDEN2 / "whisper"), "--bf16", "False"]
    start = ["--stage", "4", "--start_checkpoint", str(GOLDEN2 / "diffa2_stage3")]
    model = train.model_of_plan(*parsed(tmp_path, *start, *frozen)[::2])
    trained = {name: weight.numel() for name, weight in model.named_parameters() if weight.requires_grad}
    names = {name for name, _ in model.named_parameters()} - set(trained)
    assert all(weight.is_meta for weight in model.parameters())
    for name in trained:  # each has its frozen copy
        copy = name.replace(".default.", ".reference.") if "lora" in name else f"reference.{name}"
        assert copy in names, name
    assert {weight.shape[0] for name, weight in model.named_parameters() if "lora_A" in name} == {8}
    with pytest.raises(SettingsError, match="brings LoRA factors, which training goes on with: --lora_r 8"):
        train.model_of_plan(*parsed(tmp_path, *start, *frozen, "--lora_r", "4")[::2])


def test_a_frozen_part_without_weights_is_named(tmp_path):
    (tmp_path / "llada").mkdir()
    (tmp_path / "llada" / "config.json").write_text((GOLDEN / "llada" / "config.json").read_text())
    with pytest.raises(CheckpointError, match="llada"):
        meta_model(
            parsed(tmp_path, "--llm_path", str(tmp_path / "llada"), "--whisper_path", str(GOLDEN / "whisper"))[0]
        )


def test_a_dry_run_tells_the_plan_and_leaves_everything_as_it_is(tmp_path, monkeypatch, capsys):
    entry = {"input": "Say it.", "dataset": "golden", "duration": 1.0}
    entries = [
        entry | {"audio_id": f"a{n}", "audio_filepath": str(GOLDEN / f"clip{n % 2}.wav"), "target": word}
        | {"transcription": word}
        for n, word in enumerate(("one two three", "ten", "nine", "four", "five"))
    ]  # fmt: skip
    (tmp_path / "m.json").write_text(json.dumps(entries))
    out = tmp_path / "out"
    (out / "checkpoint-7").mkdir(parents=True)  # incomplete
    flags = ["--stage", "1", "--llm_path", str(GOLDEN / "llada"), "--whisper_path", str(GOLDEN / "whisper")]
    flags += ["--train_dataset_path", str(tmp_path / "m.json"), "--output_dir", str(out), "--dry_run", *FLAGS]
    monkeypatch.setattr(sys, "argv", ["train.py", *flags])
    train.main()
    told = capsys.readouterr().out
    assert "5 samples, 0.00 hours; effective batch size 4 = 1 processes x 2 x 2 (processes x clips x acc" in told
    assert "2 updates an epoch, 6 in all, which is 3.00 epochs\n" in told
    assert "warm-up 40 updates; THE WARM-UP IS LONGER THAN THE RUN" in told
    assert "2 of them stay, and one more while it is written" in told
    assert "the first batch: 2 clips, features [2, 80, 3000], texts of " in told
    lines = [line for line in told.splitlines() if line.startswith("  a")]
    assert len(lines) == 2 and all(" s of clip" in line and "asked 'Say it.'; to learn '" in line for line in lines)
    assert told.endswith("dry run: nothing was trained, nothing was written\n")
    assert [path.name for path in out.iterdir()] == ["checkpoint-7"]
    (out / "model.safetensors").touch()
    with pytest.raises(CheckpointError, match="what a run ended with, and no checkpoint to go on from"):
        train.main()
