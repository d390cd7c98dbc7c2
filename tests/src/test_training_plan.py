import json
import sys

import pytest
from transformers import PreTrainedTokenizerFast, WhisperConfig, WhisperFeatureExtractor

import train
from perf.full_size import LLADA_8B, WHISPER_LARGE, WHISPER_SMALL
from perf.training_budget import LARGE, LLM, RECIPES
from src.checkpoint import CheckpointError, no_weights
from src.configuration_DIFFA import DIFFAConfig, LLaDAConfig
from src.lora import LORA_RANK, LORA_TARGETS, new_lora
from src.modeling_DIFFA import DIFFAModel
from src.modeling_llada import LLaDAModel
from src.modeling_whisper_encoder import WhisperAudioEncoder
from src.preference_model import PreferenceModel
from src.training_arguments import DIFFATrainingArguments, SettingsError
from src.training_plan import bytes_of_clip, memory_in_words, meta_model
from tests.conftest import GOLDEN, GOLDEN2, load_golden
from tests.src.test_training_arguments import parsed

FLAGS = ["--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "2", "--num_train_epochs", "3"]
FLAGS += ["--warmup_steps", "40", "--save_total_limit", "2", "--bf16", "False", "--use_cpu"]


def test_the_arithmetic_is_that_of_the_documentation():
    tensor = 589 * 4096 * 2  # bytes, of all positions
    assert bytes_of_clip(LLM(), 589, 2, False) == (32 * 12 + 12) * tensor == pytest.approx(1.91e9, rel=2e-3)
    assert bytes_of_clip(LLM(), 589, 2, True) == (32 + 12 + 12) * tensor == pytest.approx(0.27e9, rel=2e-3)
    assert bytes_of_clip(LLM(), 589, 2, False, lora_layers=5) == (32 * (12 + 5 * 1.5) + 12) * tensor
    assert bytes_of_clip(LLM(), 339, 2, False) == pytest.approx(1.1e9, rel=2e-3)


def gigabytes_needed(tmp_path, recipe, *flags, sharing=None):
    """What a dry run says of memory, for a stage as in the tables of docs/training.md, but for flags."""
    whisper = WhisperConfig(**(WHISPER_LARGE if recipe.encoder is LARGE else WHISPER_SMALL))
    with no_weights():
        model = (PreferenceModel if recipe.compares else DIFFAModel)(
            DIFFAConfig(),
            LLaDAModel(LLaDAConfig.from_dict(LLADA_8B)),
            WhisperAudioEncoder(whisper),
            PreTrainedTokenizerFast.from_pretrained(GOLDEN / "llada"),
            WhisperFeatureExtractor(whisper.num_mel_bins),
        )
        if recipe.lora:
            model.attach_lora(new_lora(model.llm_model, LORA_RANK, None, LORA_TARGETS))
        model.prepare_training(recipe.stage)
    args = parsed(tmp_path, "--bf16", "True", *flags)[2]
    *_, told = memory_in_words(model, args, recipe.length, sharing)
    return float(told.rpartition(": ")[2].removesuffix(" GB"))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_dry_run_needs_what_the_tables_of_the_documentation_say(tmp_path, recipe, checkpointing):
    for batch in (1, 16):
        flags = ["--gradient_checkpointing", str(checkpointing), "--per_device_train_batch_size", str(batch)]
        expected = recipe.resting_bytes(checkpointing) + batch * recipe.bytes_a_clip(checkpointing)
        # which leave out the encoder's convolutions and positions, and the adapters that a stage does not train
        assert gigabytes_needed(tmp_path, recipe, *flags) == pytest.approx(expected / 1e9, rel=0.01)


@pytest.mark.parametrize(
    ("name", "flags", "expected"),
    [
        ("DIFFA-2 2", ["--per_device_train_batch_size", "16"], 18.4 + 16 * 2.14 + 2.2),  # docs/gpu.md, and the spare
        ("DIFFA-2 2", ["--per_device_train_batch_size", "16"], 20.8 + 16 * 2.22),
        ("DIFFA-2 4, a pair", ["--per_device_train_batch_size", "16"], 24.7 + 16 * 0.31),
        ("DIFFA-2 4, a pair", ["--vrpo_draws_at_once", "9"], 24.7 + 3 * 3.1 + 0.31),  # of four draws
    ],
)
def test_a_dry_run_needs_what_the_documentation_says(tmp_path, name, flags, expected):
    recipe = next(recipe for recipe in RECIPES if recipe.name == name)
    flags = ["--per_device_train_batch_size", "1", *flags]
    assert gigabytes_needed(tmp_path, recipe, *flags) == pytest.approx(expected, rel=0.03)


def test_a_dry_run_leaves_a_process_its_share_of_the_frozen_parts_and_what_it_gathers(tmp_path, monkeypatch):
    """Four GPUs of 24 GB: "4 GB of LLaDA on each, about 2 GB for the layers gathered just then: 15 GB for clips"."""
    monkeypatch.setattr(DIFFATrainingArguments, "world_size", 4)
    recipe = next(recipe for recipe in RECIPES if recipe.name == "DIFFA 2")
    needed = gigabytes_needed(tmp_path, recipe, "--per_device_train_batch_size", "1", sharing="ZeRO-3")
    assert 24 - (needed - recipe.bytes_a_clip(False) / 1e9) == pytest.approx(15, abs=0.5)


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
