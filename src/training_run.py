"""One training run: what fixes it, what its folder records of it, and which checkpoint a second start goes on from."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from src.checkpoint import CheckpointError, read_json, resolve
from src.configuration_DIFFA import DIFFAConfig
from src.files import write_file
from src.frozen_parts import check_frozen_parts
from src.manifest import Sample
from src.modeling_DIFFA import DIFFAModel
from src.provenance import fingerprint, versions
from src.training_arguments import (
    DataArguments,
    DIFFATrainingArguments,
    ModelArguments,
    effective_batch_size,
    order_seed,
)
from src.training_checkpoint import check_complete, last_complete, put_aside, put_aside_incomplete

RECORD = "run.json"  # beside the checkpoints
RENAMED = {"clips_per_update": "effective_batch_size"}  # settings in the records of earlier versions


def last_checkpoint(training_args: DIFFATrainingArguments) -> Path | None:
    """The checkpoint to go on from: the one asked for, else the last complete one in the output folder, if any."""
    output_dir = Path(training_args.output_dir)
    if training_args.resume_from_checkpoint:
        checkpoint = Path(training_args.resume_from_checkpoint)
        check_complete(checkpoint)
        return checkpoint
    with training_args.main_process_first(local=False):
        if training_args.overwrite_output_dir and (aside := put_aside(output_dir)):
            print(f"{aside}: what {output_dir} held of an earlier run is there now", flush=True)
        for path in put_aside_incomplete(output_dir):
            print(f"{path}: this checkpoint is incomplete, so it was given another name and is not used", flush=True)
    return last_complete(output_dir)


def fixed_settings(
    model_args: ModelArguments, training_args: DIFFATrainingArguments, samples: Sequence[Sample]
) -> dict[str, dict[str, Any]]:
    """What a resumed run must share with the one before: frozen parts, and all that the order of samples hangs on."""
    ids = "\n".join(sample.audio_id for sample in samples)
    order = {
        "seed": order_seed(training_args),
        "effective_batch_size": effective_batch_size(training_args),
        "group_by_length": training_args.group_by_length,
        "samples": len(samples),
        "audio_ids_sha256": hashlib.sha256(ids.encode()).hexdigest(),  # audio, or the manifest, may have been moved
    }
    llm = resolve(model_args.llm_path, "the LLM (LLaDA)", "--llm_path")
    whisper = resolve(model_args.whisper_path, "the Whisper encoder", "--whisper_path")
    return {
        "order": order,
        # which cannot share the optimizer's state out anew
        "deepspeed": {"processes": training_args.world_size} if training_args.deepspeed else {},
        "llm": fingerprint(llm, weights=False),
        "whisper": fingerprint(whisper, weights=False),
    }


def check_same_run(checkpoint: Path, model_args: ModelArguments, settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise CheckpointError when a checkpoint is of another stage, or of a run with other `fixed_settings`.

    With another order of samples, clips of the epoch that goes on would come twice or not at all.
    """
    saved = DIFFAConfig.from_dict(read_json(checkpoint / "config.json"))
    if saved.stage != model_args.stage:
        raise CheckpointError(
            f"{checkpoint} is of stage {saved.stage}, but this run is of stage {model_args.stage}: choose another "
            "--output_dir"
        )
    check_frozen_parts(saved, model_args.llm_path, model_args.whisper_path)
    record = checkpoint.with_name(RECORD)
    before = read_json(record) if record.exists() else {}
    different = [
        f"{part} {name} was {value!r}, now {now.get(name)!r}"
        for part, now in settings.items()
        for name, value in ((RENAMED.get(name, name), value) for name, value in before.get(part, {}).items())
        if value != now.get(name)
    ]
    if different:
        raise CheckpointError(
            f"{checkpoint} is of a run with other settings: {'; '.join(different)}. "
            "Use the same settings, choose another --output_dir, or pass --overwrite_output_dir True to start afresh"
        )


def describe(model: DIFFAModel, num_samples: int) -> None:
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    print(f"{num_samples} samples; training {trained / 1e6:.1f} M of {total / 1e6:.1f} M parameters", flush=True)


def write_run(
    model_args: ModelArguments,
    data_args: DataArguments,
    training_args: DIFFATrainingArguments,
    settings: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write `run.json` beside the checkpoints: options, versions, and `fixed_settings`."""
    run = {
        "model": dataclasses.asdict(model_args),
        "data": dataclasses.asdict(data_args),
        "training": training_args.to_dict(),  # Trainer's own way: it blanks tokens
        "versions": versions(),
        **settings,
    }
    if model_args.stage1_checkpoint:
        stage1 = resolve(model_args.stage1_checkpoint, "the stage-1 checkpoint", "--stage1_checkpoint")
        run["stage1_checkpoint"] = fingerprint(stage1, weights=True)
    folder = Path(training_args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / RECORD, json.dumps(run, indent=2, default=str) + "\n")
