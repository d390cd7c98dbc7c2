"""Train a stage of DIFFA, each from a checkpoint of the one before: 1 (speech recognition), 2 (question answering),
and DIFFA-2's 3 (LoRA factors of the LLM) and 4 (preference optimisation).

The recipes are shell scripts; start with them:

    LLM_PATH=... WHISPER_PATH=... TRAIN_DATASET=... bash train_stage1.sh
    LLM_PATH=... WHISPER_PATH=... TRAIN_DATASET=... STAGE1_CKPT=... bash train_stage2.sh

`python train.py --help` lists every flag, `transformers.TrainingArguments` included; `--dry_run` says what a run would
do. Started again with the same `--output_dir`, training goes on from the last complete checkpoint. SIGTERM, SIGINT and
SIGHUP have it write one and stop.
"""

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path

import torch
from transformers import HfArgumentParser

from src.audio import window_seconds
from src.checkpoint import CheckpointError, read_json, resolve
from src.configuration_DIFFA import STAGES
from src.dataloader import DIFFACollator, DIFFADataset
from src.errors import reports_user_errors
from src.files import check_output_folder
from src.lora import LORA_RANK, LORA_TARGETS, attached, new_lora
from src.manifest import Sample, read_training_manifest
from src.mixture import Mixture, parse_mixture
from src.modeling_DIFFA import DIFFAModel
from src.preference import PreferenceObjective
from src.preference_data import PairCollator
from src.preference_model import PreferenceModel
from src.preference_trainer import PreferenceTrainer
from src.processes import die_with_launcher, leave
from src.sft_trainer import dLLMTrainer
from src.text_lengths import check_text_lengths
from src.training_arguments import (
    DataArguments,
    DIFFATrainingArguments,
    ModelArguments,
    SettingsError,
)
from src.training_checkpoint import last_complete
from src.training_checks import (
    check_arguments,
    check_target_layers,
    samples_to_transcribe,
    shares_out_weights,
    start_flag,
)
from src.training_plan import meta_model, plan
from src.training_readers import STOP_SIGNALS
from src.training_run import describe, has_ended, last_checkpoint, make_way, output_locked, write_run
from src.training_settings import Settings, check_all_ranks_agree, check_same_run, fixed_settings


def main() -> None:
    parser = HfArgumentParser((ModelArguments, DataArguments, DIFFATrainingArguments))
    try:
        model_args, data_args, training_args = parser.parse_args_into_dataclasses()
    except ValueError as error:  # of TrainingArguments, for flags that do not go together
        raise SettingsError(str(error)) from None
    check_arguments(model_args, data_args, training_args)
    check_target_layers(model_args)
    inputs = [model_args.llm_path, model_args.whisper_path, model_args.stage1_checkpoint]
    check_output_folder(Path(training_args.output_dir), inputs)
    # before the model loads: a bad manifest, or another run's checkpoint, shows at once
    samples, mixture, eval_samples = read_samples(model_args, data_args, training_args)
    wer_samples = samples_to_transcribe(model_args, data_args, training_args, eval_samples)
    settings = fixed_settings(model_args, data_args, training_args, samples, mixture, eval_samples, len(wer_samples))
    check_all_ranks_agree((model_args, data_args, training_args), settings, eval_samples)
    if training_args.dry_run:
        dry_run(model_args, data_args, training_args, settings, samples, mixture)
        return
    with output_locked(training_args):
        checkpoint = last_checkpoint(training_args)
        if checkpoint:
            check_same_run(checkpoint, model_args, settings)
        model = build_model(model_args, training_args)
        model.system_prompt = data_args.system_prompt  # of what evaluations transcribe
        dataset, collator = data_for(model, data_args, training_args)
        trainer_class = PreferenceTrainer if STAGES[model_args.stage].prefers else dLLMTrainer
        trainer = trainer_class(
            model=model,
            args=training_args,
            train_dataset=dataset(samples),
            eval_dataset=eval_samples and dataset(eval_samples, replaces_unusable=False),
            data_collator=collator,
            time_sampling=training_args.time_sampling,
            loss_normalization=training_args.loss_normalization,
            max_bad_fraction=training_args.max_bad_fraction,
            wer_samples=wer_samples,
            settings=settings,
            eval_name=data_args.eval_dataset_path,
            mixture=mixture,
        )
        make_way(training_args, checkpoint)
        if trainer.is_world_process_zero():
            describe(model, len(samples), training_args)
            write_run(model_args, data_args, training_args, settings)
        leave(run(trainer, checkpoint))


def dry_run(
    model_args: ModelArguments,
    data_args: DataArguments,
    training_args: DIFFATrainingArguments,
    settings: Settings,
    samples: list[Sample],
    mixture: Mixture,
) -> None:
    """Check what a start would check, and say what the run would do; nothing is loaded, moved or written."""
    checkpoint = last_checkpoint(training_args)
    if checkpoint:
        check_same_run(checkpoint, model_args, settings)
    elif STAGES[model_args.stage].starts_from:
        check_start(model_args.stage1_checkpoint, model_args.stage)
    if training_args.process_index > 0:
        return
    model = model_of_plan(model_args, training_args)
    dataset, collator = data_for(model, data_args, training_args)
    done = dLLMTrainer.steps_done(checkpoint) if checkpoint else 0
    print(training_args.precision)
    print(plan(model, training_args, dataset(samples), mixture, collator, done, shares_out_weights()), flush=True)


def model_of_plan(model_args: ModelArguments, training_args: DIFFATrainingArguments) -> DIFFAModel:
    """What `build_model` makes, without memory for its weights."""
    model = meta_model(model_args)
    with torch.device("meta"):
        if STAGES[model_args.stage].lora:
            prepare_lora(model, model_args, training_args)
        model.prepare_training(model_args.stage)
    return model


def data_for(
    model: DIFFAModel, data_args: DataArguments, training_args: DIFFATrainingArguments
) -> tuple[Callable[..., DIFFADataset], DIFFACollator | PairCollator]:
    """What makes a dataset of samples, and batches of its examples, for a model."""
    dataset = partial(
        DIFFADataset,
        tokenizer=model.tokenizer,
        max_length=data_args.max_length,
        max_seconds=min(data_args.max_seconds, window_seconds(model.feature_extractor)),
        system_prompt=data_args.system_prompt,
    )
    ids = model.llm_model.config.mask_token_id, model.llm_model.config.pad_token_id
    if STAGES[model.stage].prefers:
        stratified = training_args.time_sampling == "stratified"
        return dataset, PairCollator(model.feature_extractor, *ids, training_args.vrpo_draws, stratified)
    return dataset, DIFFACollator(model.feature_extractor, *ids, data_args.learn_padding)


def read_samples(
    model_args: ModelArguments, data_args: DataArguments, training_args: DIFFATrainingArguments
) -> tuple[list[Sample], Mixture, list[Sample] | None]:
    """What to train on, how it is drawn, and what to evaluate on if anything; what looks odd is printed.

    Raises ManifestError naming what cannot be trained on.
    """
    prompt = data_args.system_prompt
    manifests, allowed, weights = [], training_args.max_bad_fraction, parse_mixture(data_args.train_dataset_path)
    for path in filter(None, (*weights, data_args.eval_dataset_path)):
        samples, warning = read_training_manifest(path, model_args.stage, data_args.max_seconds, allowed)
        too_long = check_text_lengths(path, samples, model_args.llm_path, data_args.max_length, allowed, prompt)
        if training_args.process_index == 0:
            print("".join(f"warning: {text}\n" for text in (warning, too_long) if text), end="", flush=True)
        manifests.append(samples)
    training, evaluation = manifests[: len(weights)], manifests[len(weights) :]
    mixture = Mixture(tuple(map(len, training)), tuple(weights.values()))
    if len(weights) > 1 and training_args.process_index == 0:
        print(mixture.told(list(weights)), flush=True)
    return list(chain(*training)), mixture, evaluation[0] if evaluation else None


def run(trainer: dLLMTrainer, checkpoint: Path | None) -> int:
    """Train to the end, from a checkpoint if there is one, or until a signal to stop. Returns the exit status."""
    received: list[int] = []

    def request_stop(number: int, _: object) -> None:
        received.append(number)
        trainer.stop_requested = True

    for number in STOP_SIGNALS:
        signal.signal(number, request_stop)
    if checkpoint and trainer.steps_done(checkpoint) >= trainer.planned_steps():
        # Trainer would take one step more. What comes last is repeated: the run may have been killed just before it.
        print(f"{checkpoint} is this run's last step: nothing left to train")
        trainer.state = dLLMTrainer.state_of(checkpoint)
        had_best = trainer.state.best_model_checkpoint
        trainer.locate_best(trainer.state, str(checkpoint))
        lost_best = trainer.args.load_best_model_at_end and had_best and not trainer.state.best_model_checkpoint
        if lost_best and has_ended(Path(trainer.args.output_dir), trainer.state.global_step):
            print(f"{trainer.args.output_dir} keeps the adapters that the run ended with")
            return 0
        trainer.model.load_adapters(checkpoint)
        trainer.make_up_last_evaluation()
        best = trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint
        if best and not trainer.stopped:
            trainer.model.load_adapters(Path(best))
    else:
        trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
    if trainer.stopped:
        if trainer.is_world_process_zero():
            last = last_complete(Path(trainer.args.output_dir))
            without = " without --resume_from_checkpoint" * bool(trainer.args.resume_from_checkpoint)
            print(f"train.py: asked to stop; the same command{without} goes on from {last or 'the start'}", flush=True)
        return 128 + (received or [signal.SIGTERM])[0]  # another process may have been asked
    trainer.save_model()
    trainer.save_state()  # last: `has_ended` goes by it
    return 0


def do_without_compiler() -> None:
    """Keep DeepSpeed from compiling, at its first start on CPUs, an operation that inference alone uses.

    It would take half a minute, and a C++ compiler.
    """
    if os.environ.get("DS_ACCELERATOR") == "cpu" and any(flag.startswith("--deepspeed") for flag in sys.argv):
        import deepspeed.ops

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def build_model(model_args: ModelArguments, training_args: DIFFATrainingArguments) -> DIFFAModel:
    """The model with its stage's adapters ready to train (float32), the frozen parts in bf16 under --bf16."""
    frozen_dtype = training_args.precision.dtype
    device = training_args.device
    torch.manual_seed(training_args.seed)  # new adapters start alike on every rank and in every run
    stage = STAGES[model_args.stage]
    if stage.starts_from is None:
        model = DIFFAModel.from_frozen(
            model_args.llm_path, model_args.whisper_path, model_args.new_config(), frozen_dtype, device
        )
        new = stage.trains
    else:
        check_start(model_args.stage1_checkpoint, model_args.stage)
        model = (PreferenceModel if stage.prefers else DIFFAModel).from_pretrained(
            model_args.stage1_checkpoint, model_args.llm_path, model_args.whisper_path,
            torch_dtype=frozen_dtype, device=device, adapter_dtype=torch.float32,
            merge_lora=not stage.lora, lora_dropout=model_args.lora_dropout,
        )  # fmt: skip
        new = tuple(name for name in stage.trains if name not in model.saved_modules)
    if model_args.match_embedding_scale:
        model.match_embedding_scale(new)
    if training_args.process_index == 0:
        loaded = [name for name in stage.trains if name not in new]
        print(f"stage {model_args.stage}: loaded {', '.join(loaded) or 'nothing'}; new {', '.join(new) or 'nothing'}")
    if stage.lora:
        prepare_lora(model, model_args, training_args)
    if stage.prefers:
        model.objective = PreferenceObjective(training_args.vrpo_beta, training_args.sft_weight)
        model.drops_out = training_args.policy_dropout
        model.draws_at_once = training_args.vrpo_draws_at_once
    model.config.family = model_args.family or model.config.family
    model.prepare_training(model_args.stage)
    return model


def prepare_lora(model: DIFFAModel, model_args: ModelArguments, training_args: DIFFATrainingArguments) -> None:
    """Attach new LoRA factors, unless the checkpoint brought some. Raises SettingsError for flags of others then."""
    rank, alpha, targets = model_args.lora_r, model_args.lora_alpha, model_args.lora_target_modules
    if model.trains_lora:
        origin, found = "going on with the checkpoint's", attached(model.llm_model)
        asked = (rank, alpha, targets and tuple(sorted(targets)))
        if any(want not in (None, have) for want, have in zip(asked, found, strict=True)):
            raise SettingsError(
                f"{model_args.stage1_checkpoint} brings LoRA factors, which training goes on with: --lora_r {found[0]} "
                f"--lora_alpha {found[1]:g} --lora_target_modules {' '.join(found[2])}. Leave these flags out, or pass "
                "what they are (train_stage3.sh: LORA_R, LORA_ALPHA)"
            )
    else:
        origin = "new"
        lora = new_lora(model.llm_model, LORA_RANK if rank is None else rank, alpha, targets or LORA_TARGETS)
        model.attach_lora(lora, model_args.lora_dropout)
    if training_args.process_index == 0:
        print(f"LoRA factors of the LLM: {origin}")


def check_start(checkpoint: str, stage: int) -> None:
    """Raise CheckpointError for a checkpoint of another stage than `stage` starts from.

    Published checkpoints name no stage and hold all adapters. LoRA factors go on from an earlier run's as well.
    """
    folder = resolve(checkpoint, f"the checkpoint that stage {stage} starts from", start_flag(stage))
    found, fitting = read_json(folder / "config.json").get("stage"), [STAGES[stage].starts_from]
    fitting += [stage] if STAGES[stage].lora else []
    if found not in (None, *fitting):
        raise CheckpointError(
            f"{checkpoint} is a checkpoint of stage {found}, but {start_flag(stage)} needs one of stage "
            f"{' or '.join(map(str, fitting))}. To go on with a stage-{found} run, repeat the command that started it"
        )


if __name__ == "__main__":
    die_with_launcher()
    do_without_compiler()
    sys.exit(reports_user_errors(main)())
