"""Train DIFFA's adapters: stage 1 (speech recognition), or stage 2 (question answering) from a stage-1 checkpoint.

The two recipes are shell scripts; start with them:

    LLM_MODEL=... WHISPER_MODEL=... TRAIN_DATASET=... bash train_stage1.sh
    LLM_MODEL=... WHISPER_MODEL=... TRAIN_DATASET=... STAGE1_CKPT=... bash train_stage2.sh

`python train.py --help` lists every flag, `transformers.TrainingArguments` included. Started again with the same
`--output_dir`, training goes on from the last complete checkpoint there. SIGTERM has it write one and stop.
"""

import ctypes
import dataclasses
import errno
import json
import os
import re
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import HfArgumentParser, TrainingArguments
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import TrainerState

from src.audio import AudioError
from src.checkpoint import CheckpointError, read_json, resolve, write_file
from src.configuration_DIFFA import NUM_QUERIES, PUBLIC_LLM, PUBLIC_WHISPER, DIFFAConfig
from src.dataloader import DIFFACollator, DIFFADataset, window_seconds
from src.manifest import ManifestError, Sample, read_manifest
from src.modeling_DIFFA import TRAINED_MODULES, DIFFAModel, check_size
from src.processes import leave
from src.provenance import fingerprint, versions
from src.sampler import TIME_SAMPLING
from src.sft_trainer import TrainingError, dLLMTrainer
from src.training_checkpoint import check_complete, last_complete, put_aside_incomplete
from src.transcription import transcribed

PR_SET_PDEATHSIG = 1  # of Linux's prctl
WER_CLIPS = 32
WER_NAMES, LOSS_NAMES = ("wer", "eval_wer"), ("loss", "eval_loss")  # for --metric_for_best_model


@dataclass
class ModelArguments:
    """What to train, on which frozen parts."""

    stage: int = field(
        metadata={"help": "1: semantic adapter and prompts (ASR); 2: both adapters (question answering)"}
    )
    llm_path: str = field(default=PUBLIC_LLM, metadata={"help": "LLaDA: folder or hub name"})
    whisper_path: str = field(default=PUBLIC_WHISPER, metadata={"help": "Whisper: folder or hub name"})
    stage1_checkpoint: str | None = field(
        default=None, metadata={"help": "stage 2 starts from the semantic adapter of this stage-1 checkpoint"}
    )
    prompt_size: int | None = field(
        default=None,
        metadata={
            "help": f"learned queries of the acoustic adapter (default {NUM_QUERIES}, as published); given in stage 1, "
            "remembered by its checkpoint"
        },
    )
    target_layer_ids: list[int] | None = field(
        default=None,
        metadata={
            "help": "encoder hidden states that the acoustic adapter reads, 0 being the embedding output (default: the "
            "end of every quarter, as published); given in stage 1, remembered by its checkpoint"
        },
    )
    match_embedding_scale: bool = field(
        default=False,
        metadata={"help": "start new adapters at the scale of the LLM's embeddings; helps short runs (the miniature)"},
    )


@dataclass
class DataArguments:
    """What to learn from."""

    train_dataset_path: str = field(metadata={"help": "manifest, JSON list or JSON Lines (README, section Data)"})
    eval_dataset_path: str | None = field(
        default=None,
        metadata={"help": "manifest for a validation loss, with fixed masks; say how often by --eval_strategy"},
    )
    eval_wer_clips: int | None = field(
        default=None,
        metadata={
            "help": "stage 1: at each evaluation, the word error rate on so many clips, the first with a transcription "
            f"(default {WER_CLIPS}; 0: none)"
        },
    )
    max_length: int = field(default=2048, metadata={"help": "text tokens a sample, prompt and answer together"})
    max_seconds: float = field(default=30.0, metadata={"help": "audio beyond is cut off; at most the encoder's window"})
    learn_padding: bool = field(
        default=True, metadata={"help": "count end-of-text padding as answer, so that the model learns to stop"}
    )


@dataclass
class DIFFATrainingArguments(TrainingArguments):
    """transformers.TrainingArguments, and what is special here."""

    time_sampling: str = field(
        default="uniform",
        metadata={
            "choices": TIME_SAMPLING,
            "help": "masking rates of an update: each sample's on its own, or spread evenly (slightly steadier)",
        },
    )
    max_bad_fraction: float = field(
        default=0.001, metadata={"help": "of the clips, how many may be unusable; others take their place"}
    )

    def __post_init__(self) -> None:
        self.remove_unused_columns = False  # the collator makes the batch from objects, not columns
        if self.greater_is_better is None and self.metric_for_best_model in WER_NAMES:
            self.greater_is_better = False  # Trainer's default for whatever is no loss is True
        super().__post_init__()

    @property
    def device(self) -> torch.device:
        """Several CPU processes are given devices "cpu:0", "cpu:1", which torch.load cannot map an optimizer to."""
        device = super().device
        return torch.device("cpu") if device.type == "cpu" else device


class SettingsError(ValueError):
    """Flags that contradict each other; the message says what to change."""


def main() -> None:
    model_args, data_args, training_args = HfArgumentParser(
        (ModelArguments, DataArguments, DIFFATrainingArguments)
    ).parse_args_into_dataclasses()
    check_arguments(model_args, data_args, training_args)
    # before the model loads: a bad manifest shows at once
    samples = read_manifest(data_args.train_dataset_path)
    eval_samples = read_manifest(data_args.eval_dataset_path) if data_args.eval_dataset_path else None
    wer_samples = samples_to_transcribe(model_args, data_args, training_args, eval_samples)
    model = build_model(model_args, training_args)
    max_seconds = min(data_args.max_seconds, window_seconds(model.feature_extractor))
    trainer = dLLMTrainer(
        model=model,
        args=training_args,
        train_dataset=DIFFADataset(samples, model.tokenizer, data_args.max_length, max_seconds),
        eval_dataset=eval_samples and DIFFADataset(eval_samples, model.tokenizer, data_args.max_length, max_seconds),
        data_collator=DIFFACollator(
            model.feature_extractor,
            model.llm_model.config.mask_token_id,
            model.llm_model.config.pad_token_id,
            data_args.learn_padding,
        ),
        time_sampling=training_args.time_sampling,
        max_bad_fraction=training_args.max_bad_fraction,
        wer_samples=wer_samples,
    )
    checkpoint = last_checkpoint(training_args)
    if checkpoint:
        check_same_run(checkpoint, model)
    if trainer.is_world_process_zero():
        describe(model, len(samples))
        write_run(model_args, data_args, training_args, model)
    leave(run(trainer, checkpoint))


def run(trainer: dLLMTrainer, checkpoint: Path | None) -> int:
    """Train to the end, from a checkpoint if there is one, or until SIGTERM. Returns the exit status."""

    def request_stop(*_: object) -> None:
        trainer.stop_requested = True

    signal.signal(signal.SIGTERM, request_stop)
    if checkpoint and trainer.steps_done(checkpoint) >= trainer.planned_steps():
        # Trainer would take one step more. What comes last is repeated: the run may have been killed just before it.
        print(f"{checkpoint} is this run's last step: nothing left to train")
        trainer.state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        best = trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint
        trainer.model.load_adapters(Path(best or checkpoint))
    else:
        trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
        if trainer.stopped:
            if trainer.is_world_process_zero():
                print("train.py: asked to stop; a checkpoint is written, the same command goes on from it", flush=True)
            return 128 + signal.SIGTERM
    trainer.save_state()
    trainer.save_model()
    return 0


def die_with_launcher() -> None:
    """Under torch.distributed.run, end when it ends.

    Killed, it cannot end its processes, which would go on training beside those of the next start.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def check_arguments(
    model_args: ModelArguments, data_args: DataArguments, training_args: DIFFATrainingArguments
) -> None:
    """Raise SettingsError for settings that contradict each other."""
    if model_args.stage not in TRAINED_MODULES:
        raise SettingsError(f"--stage is {model_args.stage}; expected 1 or 2")
    if model_args.stage == 2 and not model_args.stage1_checkpoint:
        raise SettingsError(
            "stage 2 starts from a stage-1 checkpoint: pass --stage1_checkpoint FOLDER (train_stage1.sh)"
        )
    if model_args.stage == 1 and model_args.stage1_checkpoint:
        raise SettingsError("--stage1_checkpoint is for --stage 2; stage 1 resumes from its own --output_dir")
    if model_args.stage == 2 and (model_args.prompt_size or model_args.target_layer_ids):
        raise SettingsError(
            "--prompt_size and --target_layer_ids are for --stage 1; stage 2 takes them from the stage-1 checkpoint"
        )
    if data_args.eval_dataset_path and training_args.eval_strategy == "no":
        raise SettingsError("--eval_dataset_path needs --eval_strategy steps (and --eval_steps N), or epoch")
    if training_args.eval_strategy != "no" and not data_args.eval_dataset_path:
        raise SettingsError("--eval_strategy needs --eval_dataset_path, a manifest to evaluate on")
    check_wer_arguments(model_args, data_args, training_args)
    if not 0 <= training_args.max_bad_fraction <= 1:
        raise SettingsError(f"--max_bad_fraction is {training_args.max_bad_fraction}; expected a fraction, 0 to 1")
    if isinstance(training_args.deepspeed, str):
        for key in ("scheduler", "optimizer"):
            if key in read_json(Path(training_args.deepspeed)):
                raise SettingsError(
                    f"{training_args.deepspeed} has a {key!r}, which would silently override the training flags; "
                    "take it out"
                )


def check_wer_arguments(
    model_args: ModelArguments, data_args: DataArguments, training_args: DIFFATrainingArguments
) -> None:
    """Raise SettingsError for a word error rate, or a best model by one, that there cannot be."""
    clips, metric = data_args.eval_wer_clips, training_args.metric_for_best_model
    if clips is not None and clips < 0:
        raise SettingsError(f"--eval_wer_clips is {clips}; expected a number of clips, or 0 for none")
    if clips and model_args.stage == 2:
        raise SettingsError("--eval_wer_clips is for --stage 1, which transcribes; leave it out")
    if clips and not data_args.eval_dataset_path:
        raise SettingsError("--eval_wer_clips needs --eval_dataset_path, a manifest to take the clips from")
    if metric in WER_NAMES and (model_args.stage == 2 or clips == 0 or is_deepspeed_zero3_enabled()):
        raise SettingsError(
            f"--metric_for_best_model is {metric}, measured in stage 1 alone, with --eval_wer_clips above 0, and not "
            "under ZeRO-3; choose loss"
        )
    if metric is not None and metric not in (*WER_NAMES, *LOSS_NAMES):
        raise SettingsError(f"--metric_for_best_model is {metric}; expected loss, or in stage 1 wer")
    if metric in WER_NAMES and training_args.greater_is_better:
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
    if model_args.stage != 1 or not eval_samples or not clips:
        return []
    samples, reason = transcribed(eval_samples, clips), ""
    if not samples:
        reason = f"no sample of {data_args.eval_dataset_path} has a `transcription`"
        if data_args.eval_wer_clips or training_args.metric_for_best_model in WER_NAMES:
            raise SettingsError(f"{reason}, so there is no word error rate; pass --eval_wer_clips 0")
    elif is_deepspeed_zero3_enabled():
        samples, reason = [], "ZeRO-3 shares the model out over the processes, and answering needs it whole"
    if reason and training_args.process_index == 0:
        print(f"no eval_wer: {reason}", flush=True)
    return samples


def build_model(model_args: ModelArguments, training_args: DIFFATrainingArguments) -> DIFFAModel:
    """The model with its stage's adapters ready to train (float32), the frozen parts in bf16 under --bf16."""
    frozen_dtype = torch.bfloat16 if training_args.bf16 else torch.float32
    device = training_args.device
    torch.manual_seed(training_args.seed)  # new adapters start alike on every rank and in every run
    if model_args.stage == 1:
        config = DIFFAConfig(prompt_size=model_args.prompt_size or NUM_QUERIES)
        if model_args.target_layer_ids:
            config.acoustic_connector_config["target_layer_ids"] = model_args.target_layer_ids
        model = DIFFAModel.from_frozen(
            model_args.llm_path, model_args.whisper_path, config, torch_dtype=frozen_dtype, device=device
        )
        new = TRAINED_MODULES[1]
    else:
        check_stage1(model_args.stage1_checkpoint)
        model = DIFFAModel.from_pretrained(
            model_args.stage1_checkpoint, model_args.llm_path, model_args.whisper_path,
            torch_dtype=frozen_dtype, device=device, adapter_dtype=torch.float32,
        )  # fmt: skip
        new = tuple(name for name in TRAINED_MODULES[2] if name not in model.saved_modules)
        if "semantic_connector" in new:
            raise CheckpointError(f"{model_args.stage1_checkpoint} holds no semantic adapter to start stage 2 from")
    if model_args.match_embedding_scale:
        model.match_embedding_scale(new)
    if training_args.process_index == 0:
        loaded = [name for name in TRAINED_MODULES[model_args.stage] if name not in new]
        print(f"stage {model_args.stage}: loaded {', '.join(loaded) or 'nothing'}; new {', '.join(new) or 'nothing'}")
    model.prepare_training(model_args.stage)
    return model


def check_stage1(stage1_checkpoint: str) -> None:
    """Raise CheckpointError for a checkpoint of stage 2. (Published ones name no stage and hold all adapters.)"""
    folder = resolve(stage1_checkpoint, "the stage-1 checkpoint", "--stage1_checkpoint")
    stage = read_json(folder / "config.json").get("stage")
    if stage == 2:
        raise CheckpointError(
            f"{stage1_checkpoint} is a checkpoint of stage 2, but --stage1_checkpoint needs one of stage 1. To go on "
            "with a stage-2 run, repeat the command that started it"
        )


def check_same_run(checkpoint: Path, model: DIFFAModel) -> None:
    """Raise CheckpointError when a checkpoint is of another stage, or was trained on other frozen parts."""
    saved, current = DIFFAConfig.from_dict(read_json(checkpoint / "config.json")), model.config
    if saved.stage != model.stage:
        raise CheckpointError(
            f"{checkpoint} is of stage {saved.stage}, but this run is of stage {model.stage}: choose another "
            "--output_dir"
        )
    check_size("LLM", "--llm_path", current.llm_model_id, saved.llm_config, current.llm_config, ("d_model",))
    check_size(
        "Whisper encoder", "--whisper_path", current.whisper_model_id, saved.whisper_config, current.whisper_config,
        ("d_model", "encoder_layers", "num_mel_bins"),
    )  # fmt: skip


def last_checkpoint(training_args: DIFFATrainingArguments) -> Path | None:
    """The checkpoint to go on from: the one asked for, else the last complete one in the output folder, if any."""
    output_dir = Path(training_args.output_dir)
    if training_args.resume_from_checkpoint:
        checkpoint = Path(training_args.resume_from_checkpoint)
        check_complete(checkpoint)
        return checkpoint
    if training_args.overwrite_output_dir:
        return None
    with training_args.main_process_first(local=False):
        for path in put_aside_incomplete(output_dir):
            print(f"{path}: this checkpoint is incomplete, so it was given another name and is not used", flush=True)
    return last_complete(output_dir)


def describe(model: DIFFAModel, num_samples: int) -> None:
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    print(f"{num_samples} samples; training {trained / 1e6:.1f} M of {total / 1e6:.1f} M parameters", flush=True)


def write_run(
    model_args: ModelArguments, data_args: DataArguments, training_args: DIFFATrainingArguments, model: DIFFAModel
) -> None:
    """Write `run.json` beside the checkpoints: options, versions, and what the frozen parts were."""
    run = {
        "model": dataclasses.asdict(model_args),
        "data": dataclasses.asdict(data_args),
        "training": training_args.to_dict(),  # Trainer's own way: it blanks tokens
        "versions": versions(),
        "llm": fingerprint(resolve(model.config.llm_model_id, "the LLM", "--llm_path"), weights=False),
        "whisper": fingerprint(resolve(model.config.whisper_model_id, "Whisper", "--whisper_path"), weights=False),
    }
    if model_args.stage1_checkpoint:
        stage1 = resolve(model_args.stage1_checkpoint, "the stage-1 checkpoint", "--stage1_checkpoint")
        run["stage1_checkpoint"] = fingerprint(stage1, weights=True)
    folder = Path(training_args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / "run.json", json.dumps(run, indent=2, default=str) + "\n")


def message_of(error: Exception) -> str:
    """An error's own words; of one that comes from a process reading audio, without the traceback around them."""
    last_line = str(error).rstrip().rpartition("\n")[2]
    return re.sub(r"^[\w.]+Error: ", "", last_line)


if __name__ == "__main__":
    die_with_launcher()
    try:
        main()
    except (CheckpointError, ManifestError, AudioError, SettingsError, TrainingError) as error:
        # Wrong input is the user's to mend: the message says how, a traceback would bury it.
        sys.exit(f"train.py: {message_of(error)}")
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        sys.exit(f"train.py: {error}: make room and start the same command again")
