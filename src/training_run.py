"""The folder of a training run: which checkpoint a start goes on from, and the record of what the run ran with."""

import dataclasses
import json
from pathlib import Path

from src.files import write_file
from src.modeling_DIFFA import DIFFAModel
from src.provenance import versions
from src.training_arguments import DataArguments, DIFFATrainingArguments, ModelArguments
from src.training_checkpoint import RUN_RECORD, check_complete, last_complete, put_aside, put_aside_incomplete
from src.training_settings import Settings


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


def describe(model: DIFFAModel, num_samples: int) -> None:
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    print(f"{num_samples} samples; training {trained / 1e6:.1f} M of {total / 1e6:.1f} M parameters", flush=True)


def write_run(
    model_args: ModelArguments,
    data_args: DataArguments,
    training_args: DIFFATrainingArguments,
    settings: Settings,
) -> None:
    """Write `run.json` beside the checkpoints: options, versions, and `fixed_settings`."""
    run = {
        "model": dataclasses.asdict(model_args),
        "data": dataclasses.asdict(data_args),
        "training": training_args.to_dict(),  # Trainer's own way: it blanks tokens
        "versions": versions(),
        **settings,
    }
    folder = Path(training_args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / RUN_RECORD, json.dumps(run, indent=2, default=str) + "\n")
