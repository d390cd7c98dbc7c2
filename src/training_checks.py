"""Which of training's flags contradict each other, or the data: refused before a model loads."""

import math

from torch.nn import Module
from torch.optim import Optimizer
from transformers import Trainer
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.optimization import get_scheduler
from transformers.trainer_utils import SaveStrategy, SchedulerType

from src.checkpoint import resolve
from src.configuration_DIFFA import STAGES
from src.eval_wer import transcribed
from src.frozen_parts import encoder_class
from src.manifest import Sample
from src.text_normalisation import normalisation_of
from src.training_arguments import (
    LOSS_NAMES,
    WER_CLIPS,
    WER_NAMES,
    DataArguments,
    DIFFATrainingArguments,
    ModelArguments,
    SettingsError,
)
from src.training_fsdp import uses_fsdp

MAX_SEED = 2**32  # NumPy takes smaller ones
# Schedules that transformers gives none of --lr_scheduler_kwargs.
WITHOUT_OPTIONS = (SchedulerType.CONSTANT, SchedulerType.CONSTANT_WITH_WARMUP, SchedulerType.INVERSE_SQRT)


def check_arguments(
    model_args: ModelArguments, data_args: DataArguments, training_args: DIFFATrainingArguments
) -> None:
    """Raise SettingsError for settings that contradict each other."""
    if model_args.stage not in STAGES:
        raise SettingsError(f"--stage is {model_args.stage}; expected {' or '.join(map(str, STAGES))}")
    check_numbers(model_args, data_args, training_args)
    stage, starts_from = model_args.stage, STAGES[model_args.stage].starts_from
    if starts_from and not model_args.stage1_checkpoint:
        raise SettingsError(
            f"stage {stage} starts from a stage-{starts_from} checkpoint: pass {start_flag(stage)} FOLDER "
            f"(train_stage{starts_from}.sh)"
        )
    if not starts_from and model_args.stage1_checkpoint:
        raise SettingsError(
            "--stage1_checkpoint is for --stage 2 and later; stage 1 resumes from its own --output_dir: leave it out"
        )
    if starts_from and (model_args.prompt_size or model_args.target_layer_ids):
        raise SettingsError(
            f"--prompt_size and --target_layer_ids are for --stage 1; stage {stage} takes them from "
            "its checkpoint: leave them out"
        )
    if model_args.prompt_size is not None and model_args.prompt_size < 1:
        raise SettingsError(f"--prompt_size is {model_args.prompt_size}; expected 1 or more")
    lora_flags = (model_args.lora_r, model_args.lora_alpha, model_args.lora_target_modules)
    if not STAGES[stage].lora and lora_flags != (None, None, None):
        raise SettingsError("--lora_r, --lora_alpha and --lora_target_modules are for --stage 3; leave them out")
    if not 0 <= model_args.lora_dropout < 1:
        raise SettingsError(f"--lora_dropout is {model_args.lora_dropout}; expected a share, 0 or more and below 1")
    check_preference_arguments(stage, training_args)
    if data_args.eval_dataset_path and training_args.eval_strategy == "no":
        raise SettingsError("--eval_dataset_path needs --eval_strategy steps (and --eval_steps N), or epoch")
    if training_args.eval_strategy != "no" and not data_args.eval_dataset_path:
        raise SettingsError("--eval_strategy needs --eval_dataset_path, a manifest to evaluate on")
    check_wer_arguments(model_args, data_args, training_args)
    if training_args.n_gpu > 1:
        raise SettingsError(
            f"one process sees {training_args.n_gpu} GPUs, but each needs a process of its own: start training by "
            "train_stage1.sh or train_stage2.sh, or set CUDA_VISIBLE_DEVICES=0 to use one GPU"
        )
    if training_args.auto_find_batch_size:
        raise SettingsError(
            "--auto_find_batch_size would change the effective batch size; leave it out, and when memory runs out "
            "lower --per_device_train_batch_size and raise --gradient_accumulation_steps by as much"
        )
    if not 0 <= training_args.max_bad_fraction <= 1:
        raise SettingsError(f"--max_bad_fraction is {training_args.max_bad_fraction}; expected a fraction, 0 to 1")
    check_flags_of_trainer(training_args)


def check_flags_of_trainer(training_args: DIFFATrainingArguments) -> None:
    """Raise SettingsError for flags of transformers that would be ignored here, or break off a run that has begun."""
    if training_args.save_only_model:
        raise SettingsError(
            "--save_only_model leaves out the optimizer's state, without which no run can go on: leave it out. The "
            "checkpoints hold no frozen part as it is"
        )
    if training_args.save_strategy == SaveStrategy.BEST:
        raise SettingsError(
            "--save_strategy best would leave a run nothing to go on from: use steps or epoch with "
            "--load_best_model_at_end True, which keeps the best checkpoint and the last"
        )
    if not training_args.save_safetensors:
        raise SettingsError(
            "--save_safetensors False would leave a run nothing to go on from: checkpoints are read as safetensors; "
            "leave it out"
        )
    if training_args.dataloader_drop_last:
        raise SettingsError(
            "--dataloader_drop_last would leave samples out of evaluations, and training fills up its last update as "
            "it is: leave it out"
        )
    if training_args.label_smoothing_factor:
        raise SettingsError("--label_smoothing_factor is not part of this objective (docs/training.md); leave it out")
    if training_args.neftune_noise_alpha is not None:
        raise SettingsError("--neftune_noise_alpha is for models that are called by token ids alone; leave it out")
    if training_args.fp16:
        raise SettingsError(
            "--fp16 would overflow: training computes in bfloat16 or float32; leave it out, or pass --bf16"
        )
    for name in ("fp16_full_eval", "bf16_full_eval"):
        if getattr(training_args, name):
            raise SettingsError(
                f"--{name} would round the trained weights wherever an evaluation comes after training; leave it out. "
                "Evaluations compute in training's precision (--bf16)"
            )
    check_schedule(training_args)
    check_optimizer(training_args)


class LearningRate(Optimizer):
    """What a schedule reads of an optimizer. To make one of torch's own loads its compiler, which takes seconds."""

    def __init__(self, learning_rate: float) -> None:
        self.defaults = {"lr": learning_rate}
        self.param_groups = [{"lr": learning_rate}]


def check_schedule(training_args: DIFFATrainingArguments) -> None:
    """Raise SettingsError for a schedule that cannot be made, or that would ignore what is given for it."""
    schedule, given = training_args.lr_scheduler_type, training_args.lr_scheduler_kwargs
    if given and schedule in WITHOUT_OPTIONS:
        raise SettingsError(
            f"--lr_scheduler_type {schedule.value} ignores --lr_scheduler_kwargs: leave them out, or choose another "
            "schedule"
        )
    try:
        get_scheduler(schedule, LearningRate(training_args.learning_rate), 0, 2, given)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise SettingsError(
            f"--lr_scheduler_type {schedule.value} cannot be made of --learning_rate {training_args.learning_rate:g} "
            f"and --lr_scheduler_kwargs {given or {}} ({error}): pass what it needs by --lr_scheduler_kwargs, as "
            "JSON, or choose another schedule"
        ) from None


def check_optimizer(training_args: DIFFATrainingArguments) -> None:
    """Raise SettingsError for an optimizer that cannot be made, such as one whose package is not installed."""
    if training_args.optim_target_modules:  # which only the model's layers could answer
        return
    try:
        Trainer.get_optimizer_cls_and_kwargs(training_args, Module())
    except (ImportError, ValueError) as error:
        raise SettingsError(
            f"--optim {training_args.optim.value} with --optim_args {training_args.optim_args} cannot be made "
            f"({error}): install what it needs, or choose another, such as adamw_torch_fused"
        ) from None


def check_target_layers(model_args: ModelArguments) -> None:
    """Raise SettingsError for hidden states that the encoder does not have."""
    if not model_args.target_layer_ids:
        return
    folder = resolve(model_args.whisper_path, "the Whisper encoder", "--whisper_path")
    deepest = encoder_class(folder).read_config(folder).encoder_layers
    if not all(0 <= layer <= deepest for layer in model_args.target_layer_ids):
        raise SettingsError(
            f"--target_layer_ids are {' '.join(map(str, model_args.target_layer_ids))}; expected some of this "
            f"encoder's hidden states, 0 to {deepest}"
        )


def check_preference_arguments(stage: int, training_args: DIFFATrainingArguments) -> None:
    """Raise SettingsError for flags of preference optimisation in another stage, and for numbers that cannot be."""
    prefers, defaults = STAGES[stage].prefers, DIFFATrainingArguments
    for name in ("vrpo_draws", "vrpo_draws_at_once", "vrpo_beta", "sft_weight", "policy_dropout"):
        if not prefers and getattr(training_args, name) != getattr(defaults, name):
            raise SettingsError(f"--{name} is for --stage 4; leave it out")
    for name in ("vrpo_draws", "vrpo_draws_at_once"):
        if getattr(training_args, name) < 1:
            raise SettingsError(f"--{name} is {getattr(training_args, name)}; expected 1 or more")
    if training_args.vrpo_beta <= 0:
        raise SettingsError(f"--vrpo_beta is {training_args.vrpo_beta}; expected more than 0")
    if prefers and uses_fsdp():
        raise SettingsError("stage 4 does not run under FSDP: use DDP, or DeepSpeed (--deepspeed config/zero3.json)")
    if prefers and training_args.loss_normalization != "published":
        raise SettingsError(
            "--loss_normalization is for --stage 1 to 3: stage 4 takes the mean over pairs; leave it out"
        )


def check_numbers(model_args: ModelArguments, data_args: DataArguments, training_args: DIFFATrainingArguments) -> None:
    """Raise SettingsError for a number with which nothing can be learned: nan, infinite, below 0, none of a limit."""
    for args in (model_args, data_args, training_args):
        for name, value in vars(args).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise SettingsError(f"--{name} is {value}; expected a finite number")
    if model_args.lora_alpha is not None and model_args.lora_alpha <= 0:
        raise SettingsError(f"--lora_alpha is {model_args.lora_alpha}; expected more than 0")
    for name in ("learning_rate", "weight_decay", "warmup_ratio", "warmup_steps", "max_grad_norm", "sft_weight"):
        if getattr(training_args, name) < 0:
            raise SettingsError(f"--{name} is {getattr(training_args, name)}; expected 0 or more")
    for name in ("max_seconds", "max_length"):
        if getattr(data_args, name) <= 0:
            raise SettingsError(f"--{name} is {getattr(data_args, name)}; expected more than 0")
    counts = {"per_device_train_batch_size": 1, "per_device_eval_batch_size": 1, "gradient_accumulation_steps": 1}
    for name, least in (counts | {"dataloader_num_workers": 0, "max_steps": -1}).items():
        if getattr(training_args, name) < least:
            raise SettingsError(f"--{name} is {getattr(training_args, name)}; expected {least} or more")
    if training_args.max_steps <= 0 and training_args.num_train_epochs <= 0:
        raise SettingsError(f"--num_train_epochs is {training_args.num_train_epochs}; expected more than 0")
    if training_args.save_strategy == "steps" and training_args.save_steps <= 0:
        raise SettingsError(f"--save_steps is {training_args.save_steps}; expected more than 0")
    for name in ("adam_beta1", "adam_beta2"):
        if not 0 <= getattr(training_args, name) < 1:
            raise SettingsError(f"--{name} is {getattr(training_args, name)}; expected 0 or more, and less than 1")
    for name in ("seed", "data_seed"):
        seed = getattr(training_args, name)
        if seed is not None and not 0 <= seed < MAX_SEED:
            raise SettingsError(f"--{name} is {seed}; expected 0 or more, and less than {MAX_SEED}")
    for name in ("train_dataset_path", "eval_dataset_path"):
        if getattr(data_args, name) == "":
            raise SettingsError(f"--{name} is empty; expected a manifest")


def shares_out_weights() -> str | None:
    """What leaves no process a whole model to answer with, if anything does."""
    return "ZeRO-3" if is_deepspeed_zero3_enabled() else "FSDP" if uses_fsdp() else None


def start_flag(stage: int) -> str:
    """What the flag is called that names the checkpoint a stage starts from."""
    return "--stage1_checkpoint" if stage == 2 else "--start_checkpoint"


def check_wer_arguments(
    model_args: ModelArguments, data_args: DataArguments, training_args: DIFFATrainingArguments
) -> None:
    """Raise SettingsError for a word error rate, or a best model by one, that there cannot be."""
    clips, metric = data_args.eval_wer_clips, training_args.metric_for_best_model
    transcribes = STAGES[model_args.stage].transcribes
    if clips is not None and clips < 0:
        raise SettingsError(f"--eval_wer_clips is {clips}; expected a number of clips, or 0 for none")
    if clips and not transcribes:
        raise SettingsError("--eval_wer_clips is for --stage 1, which transcribes; leave it out")
    if clips and not data_args.eval_dataset_path:
        raise SettingsError("--eval_wer_clips needs --eval_dataset_path, a manifest to take the clips from")
    if metric in WER_NAMES and (not transcribes or clips == 0 or shares_out_weights()):
        raise SettingsError(
            f"--metric_for_best_model is {metric}, measured in stage 1 alone, with --eval_wer_clips above 0, and not "
            f"under {shares_out_weights() or 'ZeRO-3 or FSDP'}; choose loss"
        )
    if metric is not None and metric not in (*WER_NAMES, *LOSS_NAMES):
        raise SettingsError(f"--metric_for_best_model is {metric}; expected loss, or in stage 1 wer")
    if metric and training_args.greater_is_better:
        raise SettingsError(f"--greater_is_better True contradicts --metric_for_best_model {metric}; leave it out")
    if training_args.load_best_model_at_end and training_args.save_total_limit == 1:
        raise SettingsError(
            "--load_best_model_at_end needs --save_total_limit 2 or more: for the best checkpoint, and for the last, "
            "which a run goes on from"
        )


def samples_to_transcribe(
    model_args: ModelArguments,
    data_args: DataArguments,
    training_args: DIFFATrainingArguments,
    eval_samples: list[Sample] | None,
) -> list[Sample]:
    """What each evaluation takes the word error rate of; nothing, and a line that says why, where it cannot.

    Raises SettingsError where it was asked for and no sample has a transcription.
    """
    clips = WER_CLIPS if data_args.eval_wer_clips is None else data_args.eval_wer_clips
    if not STAGES[model_args.stage].transcribes or not eval_samples or not clips:
        return []
    samples, reason = transcribed(eval_samples, clips), ""
    if not samples:
        reason = f"no sample of {data_args.eval_dataset_path} has a `transcription`"
    elif not normalisation_of(sample.transcription for sample in samples).has_words:
        samples, reason = [], f"the transcriptions of {data_args.eval_dataset_path} have no spaces to tell words by"
    if reason:
        if data_args.eval_wer_clips or training_args.metric_for_best_model in WER_NAMES:
            raise SettingsError(f"{reason}, so there is no word error rate; pass --eval_wer_clips 0")
    elif sharer := shares_out_weights():
        samples, reason = [], f"{sharer} shares the model out over the processes, and answering needs it whole"
    if reason and training_args.process_index == 0:
        print(f"no eval_wer: {reason}", flush=True)
    return samples
