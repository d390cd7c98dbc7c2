"""Training's flags: what they mean. (`training_checks`: which of them contradict each other.)"""

from argparse import ArgumentTypeError
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import TrainingArguments
from transformers.hf_argparser import string_to_bool

from src.configuration_DIFFA import (
    MAX_TEXT_TOKENS,
    NUM_QUERIES,
    PUBLIC_LLM,
    PUBLIC_WHISPER,
    WINDOW_SECONDS,
    DIFFAConfig,
)
from src.data_sampler import TIME_SAMPLING
from src.errors import UserError
from src.family import FAMILIES
from src.lora import ALPHA_PER_RANK, LORA_RANK, LORA_TARGETS
from src.masked_diffusion import LOSS_NORMALIZATION
from src.precision import AUTO, choose_precision
from src.processes import own_device
from src.prompts import SYSTEM_PROMPTS, system_prompt_of
from src.training_fsdp import uses_fsdp
from src.training_sharding import ShardingError, check_deepspeed_file

WER_CLIPS = 32
WER_NAMES, LOSS_NAMES = ("wer", "eval_wer"), ("loss", "eval_loss")  # for --metric_for_best_model


@dataclass
class ModelArguments:
    """What to train, on which frozen parts."""

    stage: int = field(
        metadata={
            "help": "1: semantic adapter and prompts (ASR); 2: both adapters (question answering); 3: both adapters, "
            "and LoRA factors of the LLM (DIFFA-2); 4: the same, by preferences (VRPO, DIFFA-2)"
        }
    )
    llm_path: str = field(default=PUBLIC_LLM, metadata={"help": "LLaDA: folder or hub name"})
    whisper_path: str = field(default=PUBLIC_WHISPER, metadata={"help": "Whisper: folder or hub name"})
    stage1_checkpoint: str | None = field(
        default=None,
        metadata={
            "aliases": ["--start_checkpoint"],
            "help": "of the stage before, which every stage but the first starts from",
        },
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
    family: str | None = field(
        default=None,
        metadata={
            "choices": list(FAMILIES),
            "help": "what checkpoints say they are, which inference takes its defaults from (default: as the one that "
            "training starts from; else by the encoder)",
        },
    )
    match_embedding_scale: bool = field(
        default=False,
        metadata={"help": "start new adapters at the scale of the LLM's embeddings; helps short runs (the miniature)"},
    )
    lora_r: int | None = field(
        default=None, metadata={"help": f"stage 3: rank of new LoRA factors (default {LORA_RANK}, as published)"}
    )
    lora_alpha: float | None = field(
        default=None,
        metadata={"help": f"stage 3: their scale is lora_alpha / lora_r (default {ALPHA_PER_RANK} r, as published)"},
    )
    lora_target_modules: list[str] | None = field(
        default=None,
        metadata={"help": f"stage 3: layers of each block (default {' '.join(LORA_TARGETS)}, as published)"},
    )
    lora_dropout: float = field(
        default=0.05,
        metadata={"help": "stages 3 and 4: share of the factors' inputs that is dropped out (default as published)"},
    )

    def new_config(self) -> DIFFAConfig:
        """The configuration of a model whose adapters start anew."""
        config = DIFFAConfig(prompt_size=self.prompt_size or NUM_QUERIES)
        if self.target_layer_ids:
            config.acoustic_connector_config["target_layer_ids"] = self.target_layer_ids
        return config


@dataclass
class DataArguments:
    """What to learn from."""

    train_dataset_path: str = field(
        metadata={
            "help": "manifest, JSON list or JSON Lines (README, section Data); or several, with the share of samples "
            "that is to come from each: 'qa.json:0.95 asr.json:0.05' (an epoch is a pass over the first)"
        }
    )
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
    system_prompt: str = field(
        default="short",
        metadata={
            "help": f"what each conversation begins with: {' or '.join(SYSTEM_PROMPTS)}, which DIFFA and DIFFA-2 were "
            "trained with, or a text"
        },
    )
    max_length: int = field(
        default=MAX_TEXT_TOKENS, metadata={"help": "text tokens a sample, prompt and answer together"}
    )
    max_seconds: float = field(
        default=WINDOW_SECONDS, metadata={"help": "audio beyond is cut off; at most the encoder's window"}
    )
    learn_padding: bool = field(
        default=True, metadata={"help": "count end-of-text padding as answer, so that the model learns to stop"}
    )

    def __post_init__(self) -> None:
        self.system_prompt = system_prompt_of(self.system_prompt)  # the text, which is what runs are compared by


@dataclass
class DIFFATrainingArguments(TrainingArguments):
    """transformers.TrainingArguments, and what is special here."""

    time_sampling: str = field(
        default="uniform",
        metadata={
            "choices": TIME_SAMPLING,
            "help": "masking rates of an update (in stage 4, of an answer's draws): each on its own, or spread evenly "
            "(slightly steadier)",
        },
    )
    loss_normalization: str = field(
        default="published",
        metadata={
            "choices": LOSS_NORMALIZATION,
            "help": "a batch's loss is divided by its own answer tokens, or by the whole update's, of all processes: "
            "then nothing depends on how the effective batch size comes about (docs/training.md)",
        },
    )
    vrpo_draws: int = field(
        default=4, metadata={"help": "stage 4: draws of masks for each answer (default as published)"}
    )
    vrpo_draws_at_once: int = field(
        default=1, metadata={"help": "stage 4: draws in one pass: faster on a GPU, for as much more memory"}
    )
    vrpo_beta: float = field(
        default=0.2, metadata={"help": "stage 4: how fast preferences saturate (default as published)"}
    )
    sft_weight: float = field(
        default=0.0,
        metadata={"help": "stage 4: weight of the better answer's own loss for each token (published: none)"},
    )
    policy_dropout: bool = field(
        default=True, metadata={"help": "stage 4: drop out in the policy, as published; the reference never does"}
    )
    max_bad_fraction: float = field(
        default=0.001, metadata={"help": "of the clips, how many may be unusable; others take their place"}
    )

    overwrite_output_dir: bool = field(
        default=False,
        metadata={
            "help": "move what output_dir holds of an earlier run to overwritten-1 (2, ...) in it, and begin anew; "
            "without it, training goes on from the last checkpoint there"
        },
    )
    dry_run: bool = field(
        default=False,
        metadata={"help": "check everything, say what the run would do (updates, memory, disk, a batch), and stop"},
    )

    bf16: str = field(  # after __post_init__ True or False, as in transformers
        default=AUTO,
        metadata={
            "nargs": "?", "const": "True",
            "help": "frozen parts and arithmetic in bfloat16: True, False, or auto, which is True where the machine is "
            "faster in it (src/precision.py); the adapters' master weights are float32 in any case",
        },
    )  # fmt: skip

    def __post_init__(self) -> None:
        device = torch.device("cpu") if self.use_cpu or self.no_cuda else own_device()
        self.precision = choose_precision(device, "float32" if self.fp16 else self.asked_precision())
        self.bf16 = self.precision.name == "bfloat16"
        self.remove_unused_columns = False  # the collator makes the batch from objects, not columns
        if self.greater_is_better is None and self.metric_for_best_model in WER_NAMES:
            self.greater_is_better = False  # Trainer's default for whatever is no loss is True
        if isinstance(self.deepspeed, str):
            check_deepspeed_file(Path(self.deepspeed))
            if uses_fsdp():
                raise ShardingError(
                    "--deepspeed and FSDP (accelerate launch) share out the same; leave one of them out"
                )
        super().__post_init__()

    def asked_precision(self) -> str:
        """--bf16 in the words of `choose_precision`. Raises SettingsError for other words."""
        if self.bf16 == AUTO:
            return AUTO
        try:
            return "bfloat16" if string_to_bool(self.bf16) else "float32"
        except ArgumentTypeError:
            raise SettingsError(f"--bf16 is {self.bf16!r}; expected True, False or auto") from None

    @property
    def device(self) -> torch.device:
        """Several CPU processes are given devices "cpu:0", "cpu:1", which torch.load cannot map an optimizer to."""
        device = super().device
        return torch.device("cpu") if device.type == "cpu" else device


def effective_batch_size(args: TrainingArguments) -> int:
    """Samples of one optimizer step: batch size x gradient accumulation x processes."""
    return args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size


def order_seed(args: TrainingArguments) -> int:
    """What the order of samples, and their masks, are drawn from."""
    return args.seed if args.data_seed is None else args.data_seed


class SettingsError(UserError):
    """Flags that contradict each other; the message says what to change."""
