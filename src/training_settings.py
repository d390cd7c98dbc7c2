"""What a training run must keep from its first start to its last: the settings that a resumed run is compared by."""

import hashlib
import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object

from src.checkpoint import CheckpointError, read_json, resolve
from src.configuration_DIFFA import DIFFAConfig
from src.frozen_parts import check_frozen_parts
from src.manifest import Sample
from src.mixture import Mixture
from src.provenance import code_fingerprint, fingerprint, is_same, versions
from src.training_arguments import (
    WER_NAMES,
    DataArguments,
    DIFFATrainingArguments,
    ModelArguments,
    SettingsError,
    effective_batch_size,
    order_seed,
)
from src.training_checkpoint import RUN_RECORD, SETTINGS
from src.training_sharding import in_words, sharding

# Flags that stay as they are, by what depends on them. (BY_CONTENT: another place with the same content is the same.)
# All others may change, and take effect: intervals, epochs, schedule, learning rate, weight decay, workers, precision.
FIXED = {
    "order": ("group_by_length",),
    "start": (
        "family",
        "prompt_size",
        "target_layer_ids",
        "match_embedding_scale",
        "lora_r",
        "lora_alpha",
        "lora_target_modules",
    ),
    "objective": (
        "time_sampling",
        "loss_normalization",
        "learn_padding",
        "max_length",
        "max_seconds",
        "system_prompt",
        "lora_dropout",
        "vrpo_draws",
        "vrpo_beta",
        "sft_weight",
        "policy_dropout",
    ),
    "optimizer": ("optim", "optim_args", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm"),
    "best_model": ("metric_for_best_model", "greater_is_better"),
}
BY_CONTENT = ("llm_path", "whisper_path", "stage1_checkpoint", "train_dataset_path")
# Flags that each rank, or each node, may have its own value of: places (contents are compared), and secrets.
OWN_FLAGS = (
    *BY_CONTENT, "eval_dataset_path", "output_dir", "logging_dir", "run_name", "local_rank", "deepspeed",
    "dataloader_num_workers", "hub_token", "push_to_hub_token",
)  # fmt: skip
MAX_SHOWN = 10  # differences in one message
SHARDING = "deepspeed"  # the part that `sharding` tells
RENAMED = {"clips_per_update": "effective_batch_size"}  # in the records of earlier versions

Settings = dict[str, dict[str, Any]]


def fixed_settings(
    model_args: ModelArguments,
    data_args: DataArguments,
    training_args: DIFFATrainingArguments,
    samples: Sequence[Sample],
    mixture: Mixture | None = None,
    eval_samples: Sequence[Sample] | None = None,
    wer_clips: int = 0,
) -> Settings:
    """What a resumed run must share with the one before, by parts, as JSON gives it back.

    With another order of samples, clips of the epoch that goes on would come twice or not at all; with another
    objective or optimizer, losses before and after would not compare; what only the start reads would be ignored. Where
    the best checkpoint is kept, another evaluation set's losses would be held against the first one's.
    """
    flags = vars(model_args) | vars(data_args) | vars(training_args)
    settings = {part: {name: flags[name] for name in names} for part, names in FIXED.items()}
    settings["order"] |= {
        "seed": order_seed(training_args),
        "effective_batch_size": effective_batch_size(training_args),
        "samples": len(samples),
        "mixture": mixture.record if mixture else None,
        "audio_ids_sha256": sha256_of([sample.audio_id for sample in samples], "\n"),  # files may have been moved
    }
    if training_args.metric_for_best_model:
        settings["best_model"] |= {"evaluation_set": digest_of(eval_samples), "eval_wer_clips": wer_clips}
    settings["objective"]["texts_sha256"] = sha256_of([texts_of(sample) for sample in samples])
    if training_args.data_seed is not None:  # else the order's seed is the only one
        settings["start"]["seed"] = training_args.seed
    settings[SHARDING] = sharding(training_args)
    settings["llm"] = fingerprint(resolve(model_args.llm_path, "the LLM (LLaDA)", "--llm_path"), weights=False)
    whisper = resolve(model_args.whisper_path, "the Whisper encoder", "--whisper_path")
    settings["whisper"] = fingerprint(whisper, weights=False)
    if model_args.stage1_checkpoint:
        stage1 = resolve(model_args.stage1_checkpoint, "the stage-1 checkpoint", "--stage1_checkpoint")
        settings["stage1_checkpoint"] = fingerprint(stage1, weights=True)
    return json.loads(json.dumps(settings))


def check_same_run(checkpoint: Path, model_args: ModelArguments, settings: Settings) -> None:
    """Raise CheckpointError when a checkpoint is of another stage, or of a run with other `fixed_settings`."""
    saved = DIFFAConfig.from_dict(read_json(checkpoint / "config.json"))
    if saved.stage != model_args.stage:
        raise CheckpointError(
            f"{checkpoint} is of stage {saved.stage}, but this run is of stage {model_args.stage}: choose another "
            "--output_dir"
        )
    check_frozen_parts(saved, model_args.llm_path, model_args.whisper_path)
    if different := differences(recorded_settings(checkpoint), settings):
        raise CheckpointError(
            f"{checkpoint} is of a run with other settings: {'; '.join(different)}. "
            "Use the same settings, choose another --output_dir, or pass --overwrite_output_dir True to start afresh"
        )


def recorded_settings(checkpoint: Path) -> Settings:
    """The settings that a checkpoint was written under. Raises CheckpointError where nothing tells them."""
    for record in (checkpoint / SETTINGS, checkpoint.with_name(RUN_RECORD)):  # the second, where the first is not yet
        if record.exists():
            return read_json(record)
    raise CheckpointError(
        f"{checkpoint} has neither {SETTINGS} in it nor {RUN_RECORD} beside it, so nothing tells the settings of its "
        "run, which going on needs: bring one back, or pass --overwrite_output_dir True to start afresh"
    )


def differences(before: Mapping[str, Mapping[str, Any]], now: Settings) -> list[str]:
    """What is not as it was, in words. What `before` lacks, as records of earlier versions do, is not compared."""
    before = {**before, "best_model": comparable_best(before.get("best_model", {}))}
    changed = [
        f"{part} {name} was {value!r}, now {values.get(name)!r}"
        for part, values in now.items()
        if part != SHARDING
        for name, value in ((RENAMED.get(name, name), value) for name, value in before.get(part, {}).items())
        if not is_same(value, values.get(name))
    ]
    was, is_now = (settings.get(SHARDING, {}) for settings in (before, now))
    if any(value != is_now.get(name) for name, value in was.items()):
        changed.append(
            f"the optimizer's state was written under {in_words(was)}, which alone reads it, now {in_words(is_now)} "
            "(DS_CONFIG, NPROC, BF16)"
        )
    return changed


def comparable_best(before: Mapping[str, Any]) -> Mapping[str, Any]:
    """How the best checkpoint was chosen: nothing where none was; WER clips where it was by word error rate."""
    metric = before.get("metric_for_best_model")
    if metric is None:
        return {}
    return {name: value for name, value in before.items() if metric in WER_NAMES or name != "eval_wer_clips"}


def check_all_ranks_agree(arguments: Sequence[Any], settings: Settings, eval_samples: Sequence[Sample] | None) -> None:
    """Raise SettingsError, on every rank, unless all of them have the same flags, data, code and versions.

    Each node starts its own processes: with other settings there, they would train on without a word.

    Args:
        arguments: the three dataclasses of flags.
        settings: what `fixed_settings` gives on this rank.
        eval_samples: what is evaluated on, if anything.
    """
    flags = {f"--{field.name}": getattr(args, field.name) for args in arguments for field in fields(args) if field.init}
    mine = {name: repr(value) for name, value in flags.items() if name.removeprefix("--") not in OWN_FLAGS}
    mine |= {f"{part} {name}": repr(value) for part, values in settings.items() for name, value in values.items()}
    mine["evaluation set"] = digest_of(eval_samples)
    mine |= code_fingerprint() | versions()
    ranks = gather_object([(socket.gethostname(), mine)])
    for rank, (host, other) in enumerate(ranks):
        first_host, first = ranks[0]
        unlike = [f"{name} {other.get(name)}, not {first[name]}" for name in first if other.get(name) != first[name]]
        if unlike:
            raise SettingsError(
                f"rank {rank} on {host} has other settings than rank 0 on {first_host}: {'; '.join(unlike[:MAX_SHOWN])}"
                f"{'; ...' if len(unlike) > MAX_SHOWN else ''}. Start all nodes with the same settings, data and code"
            )


def digest_of(eval_samples: Sequence[Sample] | None) -> str:
    """What tells one evaluation set from another."""
    return sha256_of([(sample.audio_id, *texts_of(sample)) for sample in eval_samples or ()])


def texts_of(sample: Sample) -> tuple[str, ...]:
    """What is learned of a sample; a fourth text in preference pairs alone."""
    texts = (sample.input, sample.target, sample.transcription)
    return texts if sample.rejected is None else (*texts, sample.rejected)


def sha256_of(values: Sequence[Any], separator: str | None = None) -> str:
    """SHA-256 of strings joined by a separator, or of values as JSON."""
    text = json.dumps(values) if separator is None else separator.join(values)
    return hashlib.sha256(text.encode()).hexdigest()
