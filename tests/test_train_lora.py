"""Stage 3, which trains LoRA factors of the LLM beside both adapters, as train.py does it."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

import train
from src.checkpoint import CheckpointError
from src.lora import LORA_TARGETS, is_factor, published_name, read_lora
from src.modeling_DIFFA import DIFFAModel
from src.training_arguments import SettingsError
from tests.conftest import GOLDEN, GOLDEN2, short_encoder
from tests.src.test_training_arguments import parsed
from tests.test_train import (
    environment,
    kill_launcher,
    read_until_logged,
    same_course,
    start,
    steps_logged,
    train_here,
    write_manifest,
)
from tests.test_train import run as run_script

PARTS = GOLDEN2 / "llada", GOLDEN2 / "whisper"


@pytest.fixture
def run(monkeypatch, capsys) -> Callable[..., SimpleNamespace]:
    """Training in stage 3 from a checkpoint, in this process, four steps unless flags say otherwise."""

    def start(folder: Path, checkpoint: Path, *flags: str) -> SimpleNamespace:
        samples = [
            {
                "audio_id": f"a{n}", "audio_filepath": str(GOLDEN2 / f"clip{n % 2}.wav"), "input": "hello",
                "target": "ten one", "transcription": "", "dataset": "golden", "duration": 1.0,
            }
            for n in range(4)
        ]  # fmt: skip
        (folder / "manifest.json").write_text(json.dumps(samples))
        settings = {
            "stage": 3, "start_checkpoint": checkpoint, "llm_path": PARTS[0], "max_steps": 4,
            "whisper_path": short_encoder(folder, GOLDEN2),
            "train_dataset_path": folder / "manifest.json", "output_dir": folder / "out", "learning_rate": 0.01,
            "per_device_train_batch_size": 2, "logging_steps": 1, "save_steps": 1, "save_strategy": "steps",
            "report_to": "none", "dataloader_num_workers": 0, "use_cpu": True, "bf16": False,
        }  # fmt: skip
        words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        return train_here(monkeypatch, capsys, *words, *flags)

    return start


@pytest.mark.slow
def test_factors_are_trained_saved_and_go_on(tmp_path, run):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    done = run(whole, GOLDEN2 / "diffa2_stage1", "--lora_r", "4", "--lora_target_modules", "q_proj", "v_proj")
    assert done.returncode == 0, done.err[-3000:]
    assert (
        "stage 3: loaded semantic_connector, acoustic_connector; new nothing\nLoRA factors of the LLM: new" in done.out
    )
    state = load_file(whole / "out" / "model.safetensors")
    assert {name.split(".")[0] for name in state} == {"semantic_connector", "acoustic_connector", "llm_model"}
    lora = read_lora(whole / "out")
    assert (lora.rank, len(lora.factors)) == (4, 6) and all(f.b.abs().sum() > 0 for f in lora.factors.values())
    answers = DIFFAModel.from_pretrained(whole / "out", *PARTS, use_lora=True)
    assert (answers.stage, answers.config.family, answers.config.lora_alpha) == (3, "diffa2", None)

    same = ("--lora_r", "4", "--lora_target_modules", "q_proj", "v_proj")
    first = run(cut, GOLDEN2 / "diffa2_stage1", *same, "--max_steps", "2", "--lr_scheduler_type", "constant")
    assert first.returncode == 0, first.err[-3000:]
    again = run(cut, GOLDEN2 / "diffa2_stage1", *same, "--lora_dropout", "0.5")
    assert again.returncode == 2 and "objective lora_dropout was 0.05, now 0.5" in again.err
    resumed = run(cut, GOLDEN2 / "diffa2_stage1", *same, "--lr_scheduler_type", "constant")
    straight = run(whole, GOLDEN2 / "diffa2_stage1", *same, "--lr_scheduler_type", "constant", "--overwrite_output_dir")
    assert resumed.returncode == straight.returncode == 0, resumed.err[-3000:] + straight.err[-3000:]
    found, expected = (load_file(folder / "out" / "model.safetensors") for folder in (cut, whole))
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-5)

    on = run(tmp_path, whole / "out", "--max_steps", "1")  # with other data, say
    assert on.returncode == 0 and "LoRA factors of the LLM: going on with the checkpoint's" in on.out, on.err[-3000:]
    assert read_lora(tmp_path / "out").rank == 4
    contradiction = run(tmp_path, whole / "out", "--overwrite_output_dir", "--lora_r", "2")
    assert contradiction.returncode == 2 and "brings LoRA factors, which training goes on with" in contradiction.err


def two_processes(folder: Path, config: str) -> dict[str, str]:
    """Stage 3 by its script, from golden adapters: blocks computed twice, batches by length, two manifests."""
    manifest = write_manifest(folder)
    env = environment(
        folder, NPROC="2", DS_CONFIG=config, STAGE2_CKPT=str(GOLDEN2 / "diffa2_stage1"), LEARNING_RATE="1e-3",
        LLM_PATH=str(PARTS[0]), WHISPER_PATH=str(short_encoder(folder / "parts", GOLDEN2)), GLOBAL_BATCH="2",
    )  # fmt: skip
    other = manifest.with_name("other.json")
    other.write_text(manifest.read_text())
    env.pop("GRADIENT_ACCUMULATION")
    return env | {"TRAIN_DATASET": f"{manifest}:0.8 {other}:0.2"}


FLAGS = ("--gradient_checkpointing", "True", "--group_by_length", "True")


@pytest.mark.slow
def test_two_processes_give_the_same_factors_however_their_state_is_shared_out(tmp_path):
    """ZeRO-1 with a kill and a resume, and two steps of ZeRO-3, against plain DDP."""
    folders = [tmp_path / name for name in ("ddp", "zero1", "zero3")]
    for folder in folders:
        folder.mkdir()
    whole = run_script(
        "train_stage3.sh", two_processes(folders[0], ""), *FLAGS, "--max_steps=5", "--save_total_limit=9"
    )
    assert whole.returncode == 0, whole.stderr[-3000:]
    assert "an epoch draws 10 samples: 8 of 8 from" in whole.stdout and "effective batch size 2 (" in whole.stderr

    env = two_processes(folders[1], "config/dp_config.json")
    process = start("train_stage3.sh", env, *FLAGS, "--max_steps=5")
    read_until_logged(process, 3)
    kill_launcher(process)
    finished = run_script("train_stage3.sh", env, *FLAGS, "--max_steps=5")
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert steps_logged(finished.stdout) <= 3, "it started over instead of resuming"
    same_course(folders[1] / "out", folders[0] / "out")
    lora = read_lora(folders[1] / "out")
    assert len(lora.factors) == 15 and all(factors.b.abs().sum() > 0 for factors in lora.factors.values())
    for path in (folders[1] / "out").rglob("*"):
        assert not path.is_file() or b"base_layer.weight" not in path.read_bytes(), path  # nothing frozen

    zero3 = run_script("train_stage3.sh", two_processes(folders[2], "config/zero3.json"), *FLAGS, "--max_steps=2")
    assert zero3.returncode == 0, zero3.stderr[-3000:]
    found, expected = (load_file(f / "out" / "checkpoint-2" / "model.safetensors") for f in (folders[2], folders[0]))
    assert found.keys() == expected.keys()
    changed = [name for name in found if ".lora_B." in name]
    for name in changed:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)
    assert len(changed) == 15


def test_factors_that_are_read_again_go_on_being_trained(tmp_path):
    """As a finished run does that is started again: it writes what has gradients."""
    model = DIFFAModel.from_pretrained(GOLDEN2 / "diffa2_stage3", *PARTS, merge_lora=False)
    model.prepare_training(3)
    model.save_pretrained(tmp_path)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    with torch.no_grad():
        for name in trained:
            model.get_parameter(name).zero_()
    model.load_adapters(tmp_path)
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == trained
    saved, factors = load_file(tmp_path / "model.safetensors"), [name for name in trained if is_factor(name)]
    assert len(factors) == 30 and all(model.get_parameter(name).equal(saved[published_name(name)]) for name in factors)


def test_stage_3_starts_from_stage_2_or_goes_on_with_factors(tmp_path):
    for stage in (None, 1, 2, 3):
        (tmp_path / "config.json").write_text(json.dumps({"stage": stage}))
        if stage == 1:
            with pytest.raises(CheckpointError, match="of stage 1, but --start_checkpoint needs one of stage 2 or 3"):
                train.check_start(str(tmp_path), 3)
        else:
            train.check_start(str(tmp_path), 3)


@pytest.mark.parametrize(("family", "expected"), [(None, "diffa"), ("diffa2", "diffa2")])
def test_a_checkpoint_says_the_family_it_was_trained_for(tmp_path, family, expected):
    """By the encoder, where the flag does not say it: the miniature's is small in both."""
    flags = ["--llm_path", str(GOLDEN / "llada"), "--whisper_path", str(GOLDEN / "whisper"), "--bf16", "False"]
    model_args, _, training_args = parsed(tmp_path, *flags, *(("--family", family) if family else ()))
    assert train.build_model(model_args, training_args).config.family == expected


def test_flags_of_new_factors_must_be_those_of_the_factors_that_are_gone_on_with(tmp_path):
    flags = ["--stage", "3", "--start_checkpoint", str(GOLDEN2 / "diffa2_stage3"), "--bf16", "False"]
    flags += ["--llm_path", str(PARTS[0]), "--whisper_path", str(PARTS[1])]
    for fits in ([], ["--lora_r", "8", "--lora_alpha", "16"], ["--lora_target_modules", *LORA_TARGETS]):
        model_args, _, training_args = parsed(tmp_path, *flags, *fits)
        assert train.build_model(model_args, training_args).trains_lora
    for other in (["--lora_r", "4"], ["--lora_alpha", "8"], ["--lora_target_modules", "q_proj"]):
        model_args, _, training_args = parsed(tmp_path, *flags, *other)
        with pytest.raises(SettingsError, match=r"goes on with: --lora_r 8 --lora_alpha 16 --lora_target_modules ff_p"):
            train.build_model(model_args, training_args)
