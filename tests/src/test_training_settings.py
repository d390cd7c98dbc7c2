"""What may change between two starts of a run, and what may not."""

import copy
import dataclasses
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from src import training_settings
from src.checkpoint import CheckpointError
from src.manifest import Sample
from src.mixture import Mixture
from src.training_arguments import DataArguments, DIFFATrainingArguments, ModelArguments, SettingsError
from src.training_settings import (
    BY_CONTENT,
    FIXED,
    check_all_ranks_agree,
    check_same_run,
    differences,
    fixed_settings,
    texts_of,
)
from tests.conftest import GOLDEN, load_golden
from tests.src.test_training_arguments import STAGE_2, frozen_flags, parsed

SAMPLES = [
    Sample(name, GOLDEN / "clip0.wav", "What?", f"said {name}", f"said {name}", "toy", 1.0, {}) for name in "abcd"
]
BATCH = ["--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "6"]


def arguments(tmp_path: Path, *flags: str, frozen: Path = GOLDEN) -> tuple:
    paths = ["--llm_path", str(frozen / "llada"), "--whisper_path", str(frozen / "whisper")]
    return parsed(tmp_path, *paths, *BATCH, *flags)


def settings_of(tmp_path: Path, *flags: str, samples: list[Sample] = SAMPLES, frozen: Path = GOLDEN) -> dict:
    """`fixed_settings` of a run with these flags, on these samples."""
    return fixed_settings(*arguments(tmp_path, *flags, frozen=frozen), samples)


def sharded(tmp_path: Path, stage: int, *flags: str) -> dict:
    """The same with DeepSpeed, whose flag would set it up."""
    args = arguments(tmp_path, *flags)
    args[2].deepspeed = "zero.json"
    args[2].hf_deepspeed_config = SimpleNamespace(get_value={"zero_optimization.stage": stage}.get)
    return fixed_settings(*args, SAMPLES)


def test_stages_and_frozen_parts_must_fit(tmp_path):
    model = load_golden()
    folders = [tmp_path / "stage1", tmp_path / "stage2"]
    for stage, folder in enumerate(folders, 1):
        model.prepare_training(stage)
        model.save_pretrained(folder)
    (tmp_path / "run.json").write_text("{}")
    args = parsed(tmp_path, *STAGE_2, *frozen_flags(tmp_path))[0]
    check_same_run(folders[1], args, {})
    with pytest.raises(CheckpointError, match=r"stage1 is of stage 1, but this run is of stage 2: choose another --"):
        check_same_run(folders[0], args, {})
    config = json.loads((folders[1] / "config.json").read_text())
    config["llm_config"]["d_model"] = 1234
    (folders[1] / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"LLM with d_model 1234, but .*llada has 64; .* --llm_path"):
        check_same_run(folders[1], args, {})


def test_a_checkpoint_is_gone_on_from_under_the_settings_it_was_written_under(tmp_path):
    model = load_golden()
    model.prepare_training(1)
    checkpoint = tmp_path / "checkpoint-3"
    model.save_pretrained(checkpoint)
    model_args, settings = arguments(tmp_path)[0], settings_of(tmp_path)
    with pytest.raises(CheckpointError, match=r"checkpoint-3 has neither settings\.json in it nor run\.json beside it"):
        check_same_run(checkpoint, model_args, settings)
    (tmp_path / "run.json").write_text(json.dumps({"training": {"seed": 5}}))  # a record of the first version
    check_same_run(checkpoint, model_args, settings)
    record = {"training": {"seed": 5}, **settings}
    (tmp_path / "run.json").write_text(json.dumps(record).replace("effective_batch_size", "clips_per_update"))
    check_same_run(checkpoint, model_args, settings)
    other = settings_of(tmp_path, "--seed", "7")
    message = r"checkpoint-3 is of a run with other settings: order seed was 42, now 7\. Use the same settings, choose "
    with pytest.raises(CheckpointError, match=message + "another --output_dir, or pass --overwrite"):
        check_same_run(checkpoint, model_args, other)
    (checkpoint / "settings.json").write_text(json.dumps(other))  # what counts, where it is there
    check_same_run(checkpoint, model_args, other)


@pytest.mark.parametrize(
    ("flags", "samples", "expected"),
    [
        (["--learning_rate", "1", "--max_steps", "9"], SAMPLES, []),
        (["--gradient_accumulation_steps", "3", "--per_device_train_batch_size", "8"], SAMPLES, []),
        (["--seed", "7"], SAMPLES, ["order seed was 42, now 7"]),
        (["--vrpo_draws", "8"], SAMPLES, ["objective vrpo_draws was 4, now 8"]),
        (
            ["--vrpo_beta", "0.1", "--sft_weight", "0.05", "--policy_dropout", "False"],
            SAMPLES,
            [
                "objective vrpo_beta was 0.2, now 0.1",
                "objective sft_weight was 0.0, now 0.05",
                "objective policy_dropout was True, now False",
            ],
        ),
        (["--data_seed", "8"], SAMPLES, ["order seed was 42, now 8"]),
        (["--gradient_accumulation_steps", "3"], SAMPLES, ["order effective_batch_size was 24, now 12"]),
        (["--system_prompt", "short"], SAMPLES, []),
        (
            ["--system_prompt", "long"],
            SAMPLES,
            ["objective system_prompt was 'You are a helpful voice assistant.', now"],
        ),
        (["--family", "diffa2"], SAMPLES, ["start family was None, now 'diffa2'"]),
        (["--learn_padding", "False"], SAMPLES, ["objective learn_padding was True, now False"]),
        (["--time_sampling", "stratified"], SAMPLES, ["objective time_sampling was 'uniform', now 'stratified'"]),
        (
            ["--loss_normalization", "update"],
            SAMPLES,
            ["objective loss_normalization was 'published', now 'update'"],
        ),
        ([], SAMPLES[::-1], ["order audio_ids_sha256 was '", "objective texts_sha256 was '"]),
        (
            [],
            SAMPLES[:3],
            ["order samples was 4, now 3", "order audio_ids_sha256 was '", "objective texts_sha256 was '"],
        ),
        ([], [dataclasses.replace(SAMPLES[0], target="other"), *SAMPLES[1:]], ["objective texts_sha256 was '"]),
        ([], [dataclasses.replace(SAMPLES[0], audio_filepath=Path("moved.wav")), *SAMPLES[1:]], []),
    ],
)
def test_what_is_compared(tmp_path, flags, samples, expected):
    found = differences(settings_of(tmp_path), settings_of(tmp_path, *flags, samples=samples))
    assert len(found) == len(expected)
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True))


def test_the_best_of_one_evaluation_set_is_not_held_against_anothers(tmp_path):
    def settings(*flags, eval_samples, wer_clips=0):
        return fixed_settings(*arguments(tmp_path, *flags), SAMPLES, None, eval_samples, wer_clips)

    best = ["--metric_for_best_model", "loss"]
    before = settings(*best, eval_samples=SAMPLES)
    moved = [dataclasses.replace(sample, audio_filepath=Path("moved.wav")) for sample in SAMPLES]
    assert differences(before, settings(*best, eval_samples=moved)) == []
    [text] = differences(before, settings(*best, eval_samples=SAMPLES[:3]))
    assert text.startswith("best_model evaluation_set was '")
    assert differences(before, settings(*best, eval_samples=SAMPLES, wer_clips=2)) == []  # none chose the best
    best = ["--metric_for_best_model", "wer"]
    one, two = (settings(*best, eval_samples=SAMPLES, wer_clips=clips) for clips in (1, 2))
    assert differences(one, two) == ["best_model eval_wer_clips was 1, now 2"]
    none_kept = settings(eval_samples=SAMPLES)
    for now in (settings(eval_samples=None, wer_clips=2), settings(*best, eval_samples=SAMPLES[:3], wer_clips=2)):
        assert differences(none_kept, now) == []
    assert differences(one, none_kept)[0] == "best_model metric_for_best_model was 'wer', now None"


def test_a_mixture_is_compared_by_sizes_and_shares(tmp_path):
    args = arguments(tmp_path)
    plain, one, same, other = (
        fixed_settings(*args, SAMPLES, mixture)
        for mixture in (Mixture((4,)), *(Mixture((3, 1), weights) for weights in ((0.9, 0.1), (9, 1), (0.8, 0.2))))
    )
    assert differences(settings_of(tmp_path), plain) == differences(one, same) == []
    assert differences(one, other) == ["order mixture was [[3, 0.9], [1, 0.1]], now [[3, 0.8], [1, 0.2]]"]
    assert differences(plain, one) == ["order mixture was None, now [[3, 0.9], [1, 0.1]]"]


def test_a_seed_that_the_order_does_not_hang_on_is_compared_as_well(tmp_path):
    one, other = (settings_of(tmp_path, "--data_seed", "8", "--seed", seed) for seed in "12")
    assert differences(one, other) == ["start seed was 1, now 2"]


def test_frozen_parts_may_lie_elsewhere_but_not_be_others(tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(GOLDEN / "llada", moved / "llada")
    shutil.copytree(GOLDEN / "whisper", moved / "whisper")
    assert differences(settings_of(tmp_path), settings_of(tmp_path, frozen=moved)) == []
    (moved / "llada" / "model.safetensors").write_bytes(b"other weights")
    (found,) = differences(settings_of(tmp_path), settings_of(tmp_path, frozen=moved))
    assert re.fullmatch(r"llm model\.safetensors was '\d+ bytes, pieces \w+', now '13 bytes, pieces \w+'", found)


def test_records_from_before_fingerprints_had_pieces_are_gone_on_from(tmp_path):
    now = settings_of(tmp_path)
    before = json.loads(re.sub(r" bytes, pieces \w+", " bytes", json.dumps(now)))
    assert before != now and differences(before, now) == []
    before["llm"]["model.safetensors"] = "13 bytes"
    (found,) = differences(before, now)
    assert found.startswith("llm model.safetensors was '13 bytes', now '")


def test_a_stage_1_checkpoint_may_not_be_another(tmp_path):
    shutil.copytree(GOLDEN / "diffa_upstream", tmp_path / "stage1")
    stage2 = [*STAGE_2[:3], str(tmp_path / "stage1")]
    before = settings_of(tmp_path, *stage2)
    with (tmp_path / "stage1" / "pytorch_model.bin").open("ab") as file:
        file.write(b"trained on")
    (found,) = differences(before, settings_of(tmp_path, *stage2))
    assert found.startswith("stage1_checkpoint pytorch_model.bin was '")


def test_the_optimizers_state_is_shared_out_as_it_was(tmp_path, monkeypatch):
    plain, one = settings_of(tmp_path), sharded(tmp_path, 1)
    assert differences(one, sharded(tmp_path, 2)) == []
    written, ways = (
        "the optimizer's state was written under {}, which alone reads it, now {} ",
        "(DS_CONFIG, NPROC, BF16)",
    )
    first = "DeepSpeed ZeRO-1 or 2 on 1 processes in float32"
    third = "DeepSpeed ZeRO-3 on 1 processes in float32"
    assert differences(one, sharded(tmp_path, 3)) == [written.format(first, third) + ways]
    assert differences(one, plain) == [written.format(first, "no DeepSpeed") + ways]
    assert differences(plain, one) == [written.format("no DeepSpeed", first) + ways]
    (found,) = differences(one, sharded(tmp_path, 1, "--bf16", "True"))
    assert found.endswith("now DeepSpeed ZeRO-1 or 2 on 1 processes in bf16 " + ways)
    monkeypatch.setattr(DIFFATrainingArguments, "world_size", 2)
    half = ["--gradient_accumulation_steps", "3"]  # processes, and the same product
    assert differences(plain, settings_of(tmp_path, *half)) == []
    (found,) = differences(one, sharded(tmp_path, 1, *half))
    assert found.endswith("now DeepSpeed ZeRO-1 or 2 on 2 processes in float32 " + ways)


def another(value: Any) -> Any:
    """A value unlike `value`, of its kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return 2 * value + 1
    return [7] if isinstance(value, list) else f"{value or ''}x"


FLAGS = [
    (place, field.name)
    for place, arguments_class in enumerate((ModelArguments, DataArguments, DIFFATrainingArguments))
    for field in dataclasses.fields(arguments_class)
    if field.init
]


CHOSEN = ["--data_seed", "8", "--prompt_size", "64", "--metric_for_best_model", "loss"]  # else some change is free


@pytest.fixture(scope="module")
def started(tmp_path_factory) -> tuple[tuple, dict]:
    """The arguments of a run, and its settings."""
    args = arguments(tmp_path_factory.mktemp("started"), *CHOSEN)
    return args, fixed_settings(*args, SAMPLES)


@pytest.mark.parametrize(("place", "name"), [flag for flag in FLAGS if flag[1] not in BY_CONTENT])
def test_every_flag_is_free_or_refused_as_the_table_says(started, place, name):
    """`--stage` is compared with the checkpoint's own, DeepSpeed above."""
    args, settings = [copy.copy(part) for part in started[0]], started[1]
    setattr(args[place], name, another(getattr(args[place], name)))
    refused = {flag for flags in FIXED.values() for flag in flags}
    refused |= {"seed", "data_seed", "per_device_train_batch_size", "gradient_accumulation_steps"}
    if name not in ("deepspeed", "stage"):
        found = differences(settings, fixed_settings(*args, SAMPLES))
        assert len(found) == (name in refused), found


def agree(monkeypatch, mine: tuple, others: tuple, mine_of_eval=SAMPLES, others_eval=SAMPLES) -> None:
    """Have two ranks compare these arguments; what the other one sends is found by asking as if it were alone."""
    sent = []
    monkeypatch.setattr(training_settings, "gather_object", lambda values: sent.extend(values) or values)
    check_all_ranks_agree(others, fixed_settings(*others, SAMPLES), others_eval)
    monkeypatch.setattr(training_settings, "gather_object", lambda values: [*values, ("node1", sent[0][1])])
    check_all_ranks_agree(mine, fixed_settings(*mine, SAMPLES), mine_of_eval)


def test_all_ranks_must_agree(tmp_path, monkeypatch):
    mine = arguments(tmp_path)
    moved = ["--output_dir", str(tmp_path / "there"), "--dataloader_num_workers", "3"]
    agree(monkeypatch, mine, arguments(tmp_path, *moved))
    for flags, message in (
        (["--seed", "2"], "--seed 2, not 42; order seed 2, not 42"),
        (["--learning_rate", "1"], r"--learning_rate 1\.0, not 5e-05"),
        (["--max_seconds", "3"], r"--max_seconds 3\.0, not 30\.0; objective max_seconds 3\.0, not 30\.0"),
    ):
        with pytest.raises(SettingsError, match=rf"rank 1 on node1 has other settings than rank 0 on .*: {message}\. "):
            agree(monkeypatch, mine, arguments(tmp_path, *flags))
    with pytest.raises(SettingsError, match=r"rank 1 on node1 .*: evaluation set \w+, not \w+\. Start all nodes with"):
        agree(monkeypatch, mine, mine, others_eval=None)
    codes = iter([{"src/audio.py": "new"}, {"src/audio.py": "old"}])
    monkeypatch.setattr(training_settings, "code_fingerprint", lambda: next(codes))
    with pytest.raises(SettingsError, match=r"rank 1 on node1 .*: src/audio\.py new, not old\. "):
        agree(monkeypatch, mine, mine)


def test_a_worse_answer_is_part_of_what_is_learned():
    """Of other samples nothing is added, so that runs of earlier versions go on."""
    sample = Sample("a", Path("a.wav"), "What?", "a cat", "", "toy", 1.0, {})
    assert texts_of(sample) == ("What?", "a cat", "")
    assert texts_of(dataclasses.replace(sample, rejected="a dog")) == ("What?", "a cat", "", "a dog")
