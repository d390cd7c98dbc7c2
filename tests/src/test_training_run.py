"""What a run's folder says of it, and whether a second start is the same run."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from src import training_run
from src.checkpoint import CheckpointError
from src.training_arguments import DIFFATrainingArguments
from tests.conftest import GOLDEN, load_golden
from tests.src.test_training_arguments import STAGE_2, frozen_flags, parsed


def test_stages_and_frozen_parts_must_fit(tmp_path):
    model = load_golden()
    folders = [tmp_path / "stage1", tmp_path / "stage2"]
    for stage, folder in enumerate(folders, 1):
        model.prepare_training(stage)
        model.save_pretrained(folder)
    args = parsed(tmp_path, *STAGE_2, *frozen_flags(tmp_path))[0]
    training_run.check_same_run(folders[1], args, {})
    with pytest.raises(CheckpointError, match=r"stage1 is of stage 1, but this run is of stage 2: choose another --"):
        training_run.check_same_run(folders[0], args, {})
    config = json.loads((folders[1] / "config.json").read_text())
    config["llm_config"]["d_model"] = 1234
    (folders[1] / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"LLM with d_model 1234, but .*llada has 64; .* --llm_path"):
        training_run.check_same_run(folders[1], args, {})


def settings_of(
    tmp_path: Path, *flags: str, ids: str = "abcd", frozen: Path = GOLDEN, deepspeed: str | None = None
) -> dict[str, dict]:
    """`fixed_settings` of a run with these flags, on samples with these ids."""
    paths = ["--llm_path", str(frozen / "llada"), "--whisper_path", str(frozen / "whisper")]
    model_args, _, training_args = parsed(tmp_path, *paths, *flags)
    training_args.deepspeed = deepspeed  # as a flag it would set up DeepSpeed
    return training_run.fixed_settings(model_args, training_args, [SimpleNamespace(audio_id=name) for name in ids])


def test_resuming_needs_the_settings_that_the_order_of_samples_hangs_on(tmp_path, monkeypatch):
    model = load_golden()
    model.prepare_training(1)
    model.save_pretrained(tmp_path / "checkpoint-3")
    model_args = parsed(tmp_path, *frozen_flags(tmp_path))[0]
    moved = tmp_path / "moved"  # the same frozen parts
    shutil.copytree(GOLDEN / "llada", moved / "llada")
    shutil.copytree(GOLDEN / "whisper", moved / "whisper")
    before = ["--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "6"]

    def check(settings: dict) -> None:
        training_run.check_same_run(tmp_path / "checkpoint-3", model_args, settings)

    check(settings_of(tmp_path))  # no run.json
    record = {"training": {"seed": 5}}
    (tmp_path / "run.json").write_text(json.dumps(record))  # an old one
    check(settings_of(tmp_path))
    (tmp_path / "run.json").write_text(json.dumps(record | settings_of(tmp_path, *before)))
    check(settings_of(tmp_path, *before, "--learning_rate", "1", "--max_steps", "9", frozen=moved))
    former = (tmp_path / "run.json").read_text().replace("effective_batch_size", "clips_per_update")
    (tmp_path / "run.json").write_text(former)
    check(settings_of(tmp_path, *before))
    for flags, ids, message in (
        (["--seed", "7"], "abcd", "order seed was 42, now 7"),
        (["--data_seed", "8"], "abcd", "order seed was 42, now 8"),
        (["--gradient_accumulation_steps", "3"], "abcd", "order effective_batch_size was 24, now 12"),
        (["--group_by_length"], "abcd", "order group_by_length was False, now True"),
        ([], "abcde", "order samples was 4, now 5; order audio_ids_sha256 was '"),
        ([], "abdc", "order audio_ids_sha256 was '"),
    ):
        with pytest.raises(CheckpointError, match=rf"checkpoint-3 is of a run with other settings: {message}") as error:
            check(settings_of(tmp_path, *before, *flags, ids=ids))
        assert "Use the same settings, choose another --output_dir, or pass --overwrite" in str(error.value)
    (moved / "llada" / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(
        CheckpointError, match=r"settings: llm model\.safetensors was '\d+ bytes', now '13 bytes'\. Use"
    ):
        check(settings_of(tmp_path, *before, frozen=moved))
    shared_out = settings_of(tmp_path, *before, deepspeed="zero2.json")
    monkeypatch.setattr(DIFFATrainingArguments, "world_size", 2)
    two = [*before, "--gradient_accumulation_steps", "3"]  # processes, and the same product
    check(settings_of(tmp_path, *two))
    (tmp_path / "run.json").write_text(json.dumps(shared_out))
    with pytest.raises(CheckpointError, match=r"other settings: deepspeed processes was 1, now 2\. Use"):
        check(settings_of(tmp_path, *two, deepspeed="zero2.json"))


def test_an_incomplete_checkpoint_is_not_resumed_from(tmp_path, capsys):
    (tmp_path / "checkpoint-3").mkdir()
    args = parsed(tmp_path, "--resume_from_checkpoint", str(tmp_path / "checkpoint-3"))[2]
    with pytest.raises(CheckpointError, match="checkpoint-3 is not a complete checkpoint"):
        training_run.last_checkpoint(args)
    assert training_run.last_checkpoint(parsed(tmp_path)[2]) is None
    assert "incomplete-checkpoint-3: this checkpoint is incomplete" in capsys.readouterr().out


def test_starting_over_puts_the_old_run_out_of_reach(tmp_path, capsys):
    """Its checkpoint-22000 would be the one to keep and to go on from, rather than the new run's checkpoint-1000."""
    (tmp_path / "checkpoint-22000").mkdir()
    (tmp_path / "checkpoint-22000" / "contents.json").write_text("{}")
    assert training_run.last_checkpoint(parsed(tmp_path)[2]) == tmp_path / "checkpoint-22000"
    assert training_run.last_checkpoint(parsed(tmp_path, "--overwrite_output_dir", "True")[2]) is None
    assert "overwritten-1: what " in capsys.readouterr().out
    assert (tmp_path / "overwritten-1" / "checkpoint-22000").exists()
    assert training_run.last_checkpoint(parsed(tmp_path)[2]) is None
