from dataclasses import replace
from pathlib import Path

import pytest

from src import training_checks
from src.manifest import Sample
from src.training_arguments import SettingsError
from src.training_checks import (
    check_arguments,
    check_preference_arguments,
    check_target_layers,
    samples_to_transcribe,
)
from tests.conftest import GOLDEN
from tests.src.test_training_arguments import STAGE_2, parsed

EVALUATE = ["--eval_dataset_path", "dev.json", "--eval_strategy", "steps", "--save_steps", "500", "--eval_steps", "500"]
STAGE_4 = ["--stage", "4", "--start_checkpoint", "x"]


def test_stage_4_does_not_run_under_fsdp(tmp_path, monkeypatch):
    check_arguments(*parsed(tmp_path, *STAGE_4))
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(SettingsError, match="stage 4 does not run under FSDP: use DDP, or DeepSpeed"):
        check_preference_arguments(4, parsed(tmp_path, *STAGE_4)[2])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--eval_dataset_path", "dev.json"], "--eval_dataset_path needs --eval_strategy steps"),
        (["--eval_strategy", "steps"], "--eval_strategy needs --eval_dataset_path"),
        (["--max_bad_fraction", "1.5"], "--max_bad_fraction is 1.5; expected a fraction, 0 to 1"),
        (["--stage1_checkpoint", "x"], "--stage1_checkpoint is for --stage 2"),
        (
            ["--stage", "3"],
            r"stage 3 starts from a stage-2 checkpoint: pass --start_checkpoint FOLDER \(train_stage2.sh",
        ),
        ([*STAGE_2, "--lora_r", "4"], "--lora_r, --lora_alpha and --lora_target_modules are for --stage 3"),
        (["--lora_dropout", "1"], "--lora_dropout is 1.0; expected a share"),
        (["--stage", "3", "--lora_alpha", "0"], "--lora_alpha is 0.0; expected more than 0"),
        (["--stage", "3", "--lora_alpha", "nan"], "--lora_alpha is nan; expected a finite number"),
        (
            ["--stage", "4"],
            r"stage 4 starts from a stage-3 checkpoint: pass --start_checkpoint FOLDER \(train_stage3.sh",
        ),
        ([*STAGE_2, "--vrpo_draws", "8"], "--vrpo_draws is for --stage 4; leave it out"),
        ([*STAGE_2, "--policy_dropout", "False"], "--policy_dropout is for --stage 4"),
        ([*STAGE_4, "--vrpo_draws", "0"], "--vrpo_draws is 0; expected 1 or more"),
        ([*STAGE_2, "--vrpo_draws_at_once", "2"], "--vrpo_draws_at_once is for --stage 4"),
        ([*STAGE_4, "--vrpo_draws_at_once", "0"], "--vrpo_draws_at_once is 0; expected 1 or more"),
        ([*STAGE_4, "--vrpo_beta", "0"], "--vrpo_beta is 0.0; expected more than 0"),
        ([*STAGE_4, "--sft_weight", "-1"], "--sft_weight is -1.0; expected 0 or more"),
        ([*STAGE_4, "--loss_normalization", "update"], "stage 4 takes the mean over pairs"),
        ([*EVALUATE, "--eval_wer_clips", "-1"], "--eval_wer_clips is -1; expected a number of clips, or 0"),
        (["--eval_wer_clips", "4"], "--eval_wer_clips needs --eval_dataset_path"),
        ([*STAGE_2, *EVALUATE, "--eval_wer_clips", "4"], "--eval_wer_clips is for --stage 1"),
        ([*EVALUATE, "--eval_wer_clips", "0", "--metric_for_best_model", "wer"], "wer, measured in stage 1 alone"),
        ([*STAGE_2, *EVALUATE, "--metric_for_best_model", "eval_wer"], "eval_wer, measured in stage 1 alone"),
        ([*EVALUATE, "--metric_for_best_model", "cer"], "cer; expected loss, or in stage 1 wer"),
        (
            [*EVALUATE, "--metric_for_best_model", "wer", "--greater_is_better", "True"],
            "--greater_is_better True contradicts --metric_for_best_model wer; leave it out",
        ),
        (
            [*EVALUATE, "--metric_for_best_model", "loss", "--greater_is_better", "True"],
            "--greater_is_better True contradicts --metric_for_best_model loss; leave it out",
        ),
        ([*EVALUATE, "--load_best_model_at_end", "--save_total_limit", "1"], "needs --save_total_limit 2 or more"),
        (["--auto_find_batch_size"], "--auto_find_batch_size would change the effective batch size"),
        (["--prompt_size", "0"], "--prompt_size is 0; expected 1 or more"),
        (["--save_only_model"], "--save_only_model leaves out the optimizer's state, without which no run can go on"),
        (
            ["--save_strategy", "best", "--metric_for_best_model", "loss"],
            "--save_strategy best would leave a run nothing",
        ),
        (["--save_safetensors", "False"], "--save_safetensors False would leave a run nothing to go on from"),
        (
            ["--dataloader_drop_last", "True"],
            "--dataloader_drop_last would leave samples out of evaluations, .*leave it",
        ),
        (["--label_smoothing_factor", "0.1"], "--label_smoothing_factor is not part of this objective"),
        (["--neftune_noise_alpha", "5"], "--neftune_noise_alpha is for models that are called by token ids alone"),
        (["--fp16"], r"--fp16 would overflow: training computes in bfloat16 or float32; leave it out, or pass --bf16"),
        (["--fp16_full_eval"], "--fp16_full_eval would round the trained weights .*; leave it out"),
        (["--bf16_full_eval"], "--bf16_full_eval would round the trained weights .*; leave it out"),
    ],
)
def test_settings_that_contradict_each_other(tmp_path, flags, message):
    with pytest.raises(SettingsError, match=message):
        check_arguments(*parsed(tmp_path, *flags))
    check_arguments(*parsed(tmp_path, "--time_sampling", "stratified", "--gradient_checkpointing"))


def test_every_schedule_that_can_be_made_is_taken(tmp_path):
    for name in ("constant", "cosine", "linear", "polynomial", "inverse_sqrt", "cosine_with_restarts"):
        check_arguments(*parsed(tmp_path, "--lr_scheduler_type", name))
    check_arguments(*parsed(tmp_path, "--learning_rate", "0"))
    check_arguments(*parsed(tmp_path, "--lr_scheduler_type", "reduce_lr_on_plateau", *EVALUATE))
    for name, given in (
        ("warmup_stable_decay", '{"num_decay_steps": 2}'),
        ("cosine_with_min_lr", '{"min_lr": 1e-6}'),
        ("polynomial", '{"lr_end": 1e-9}'),
    ):
        flags = ["--lr_scheduler_type", name, "--lr_scheduler_kwargs", given, "--learning_rate", "1e-8"]
        check_arguments(*parsed(tmp_path, *flags))


@pytest.mark.parametrize(
    ("name", "rate", "given", "reason"),
    [
        ("warmup_stable_decay", "1e-4", "{}", "missing 1 required positional argument: 'num_decay_steps'"),
        ("cosine_with_min_lr", "1e-4", "{}", "One of min_lr or min_lr_rate should be set"),
        ("cosine_with_min_lr", "0", '{"min_lr": 1e-6}', "division by zero"),
        ("cosine", "1e-4", '{"min_lr": 1e-6}', "unexpected keyword argument 'min_lr'"),
        (
            "cosine",
            "1e-4",
            '{"num_cycles": "x"}',
            "could not convert string to float",
        ),
        ("polynomial", "1e-8", "{}", "must be smaller than initial lr"),
    ],
)
def test_a_schedule_that_cannot_be_made_is_refused(tmp_path, name, rate, given, reason):
    flags = ["--lr_scheduler_type", name, "--learning_rate", rate, "--lr_scheduler_kwargs", given]
    message = rf"--lr_scheduler_type {name} cannot be made of --learning_rate .* \(.*({reason}).*\): pass what it needs"
    with pytest.raises(SettingsError, match=message):
        check_arguments(*parsed(tmp_path, *flags))


@pytest.mark.parametrize("name", ["constant", "constant_with_warmup", "inverse_sqrt"])
def test_what_a_schedule_would_ignore_is_refused(tmp_path, name):
    flags = ["--lr_scheduler_type", name, "--lr_scheduler_kwargs", '{"timescale": 2}']
    with pytest.raises(SettingsError, match=f"{name} ignores --lr_scheduler_kwargs: leave them out"):
        check_arguments(*parsed(tmp_path, *flags))


def test_an_optimizer_that_cannot_be_made_is_refused(tmp_path):
    for name in ("adamw_torch", "adamw_torch_fused", "adafactor", "sgd"):
        check_arguments(*parsed(tmp_path, "--optim", name))
    missing = (
        r"--optim adamw_apex_fused .* cannot be made \(.*apex is not installed!\): install what it needs, or choose"
    )
    for flags, message in (
        (["--optim", "adamw_apex_fused"], missing),
        (["--optim_args", "x"], r"with --optim_args x cannot be made \(not enough values"),
    ):
        with pytest.raises(SettingsError, match=message):
            check_arguments(*parsed(tmp_path, *flags))


def test_the_acoustic_adapter_reads_hidden_states_that_there_are(tmp_path):
    whisper = ["--whisper_path", str(GOLDEN / "whisper")]
    for flags in ([], ["--target_layer_ids", "0", "12"]):
        check_target_layers(parsed(tmp_path, *whisper, *flags)[0])
    for wrong in (["0", "13"], ["0", "-1"]):
        with pytest.raises(
            SettingsError, match=f"are {' '.join(wrong)}; expected some of this encoder's hidden states, 0 to 12"
        ):
            check_target_layers(parsed(tmp_path, *whisper, "--target_layer_ids", *wrong)[0])


def test_one_process_with_several_gpus_is_refused(tmp_path):
    args = parsed(tmp_path)
    args[2]._n_gpu = 2  # as transformers finds them without a launcher
    with pytest.raises(SettingsError, match=r"sees 2 GPUs, .* by train_stage1\.sh or .* set CUDA_VISIBLE_DEVICES=0"):
        check_arguments(*args)


def test_what_an_evaluation_transcribes(tmp_path, monkeypatch, capsys):
    clip = Sample("a", Path("a.wav"), "", "", "hello", "", 1.0, {})
    samples = [replace(clip, transcription=""), *[clip] * 50]
    args = parsed(tmp_path, *EVALUATE, "--metric_for_best_model", "wer")
    check_arguments(*args)
    assert args[2].greater_is_better is False
    assert samples_to_transcribe(*args, samples) == [clip] * 32
    assert samples_to_transcribe(*parsed(tmp_path, *EVALUATE, "--eval_wer_clips", "7"), samples) == [clip] * 7
    for flags in (["--eval_wer_clips", "0"], STAGE_2):
        assert samples_to_transcribe(*parsed(tmp_path, *EVALUATE, *flags), samples) == []
    assert samples_to_transcribe(*parsed(tmp_path), None) == []
    assert capsys.readouterr().out == ""
    assert samples_to_transcribe(*parsed(tmp_path, *EVALUATE), samples[:1]) == []
    assert capsys.readouterr().out == "no eval_wer: no sample of dev.json has a `transcription`\n"
    with pytest.raises(SettingsError, match=r"no sample of dev.json .*, so there is no word error rate; pass"):
        samples_to_transcribe(*parsed(tmp_path, *EVALUATE, "--eval_wer_clips", "7"), samples[:1])
    japanese = [replace(clip, transcription="がっこう")]  # no spaces
    assert samples_to_transcribe(*parsed(tmp_path, *EVALUATE), japanese) == []
    assert capsys.readouterr().out == "no eval_wer: the transcriptions of dev.json have no spaces to tell words by\n"
    with pytest.raises(SettingsError, match=r"no spaces to tell words by, so there is no word error rate; pass"):
        samples_to_transcribe(*parsed(tmp_path, *EVALUATE, "--eval_wer_clips", "7"), japanese)
    monkeypatch.setattr(training_checks, "is_deepspeed_zero3_enabled", lambda: True)
    assert samples_to_transcribe(*parsed(tmp_path, *EVALUATE), samples) == []
    assert capsys.readouterr().out.startswith("no eval_wer: ZeRO-3 shares the model out")
    with pytest.raises(SettingsError, match=r"wer, measured in stage 1 alone, .* not under ZeRO-3; choose loss"):
        check_arguments(*args)
    monkeypatch.setattr(training_checks, "is_deepspeed_zero3_enabled", lambda: False)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert samples_to_transcribe(*args, samples) == []
    assert capsys.readouterr().out.startswith("no eval_wer: FSDP shares the model out")
