"""The flags that the inference scripts and ask.py share, and what they mean."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from src.errors import UserError
from src.flag_types import finite_number, fraction
from src.generation_options import CACHE_MODES, PRESETS, REMASKING_RULES, GenerationOptions
from src.precision import AUTO, DTYPES
from src.processes import own_device
from src.prompts import system_prompt_flag
from src.quantization import BITS

# The flags that say how to decode. What is not given, the preset decides.
DECODING_FLAGS = (
    "steps", "block_length", "max_new_tokens", "temperature", "cfg_scale", "remasking", "seed", "cache",
    "refresh_interval", "threshold", "factor", "last_rank", "stop_at_eos", "stop_in_block",
)  # fmt: skip


class OptionError(UserError):
    """Flags that do not fit together; the message says which and what would do."""


def make_parser(docstring: str) -> argparse.ArgumentParser:
    """The flags that all inference scripts take; how long an answer is stays open, until benchmark and model tell."""
    parser = argparse.ArgumentParser(
        description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add_model_flags(parser)
    add_decoding_flags(parser, "exact")
    work = parser.add_argument_group("running")
    work.add_argument("--audio_root", type=Path, help="folder of relative audio paths; default: the input file's own")
    work.add_argument("--batch_size", type=int, default=1, help="items at a time (default: %(default)s)")
    work.add_argument(
        "--compile", action="store_true",
        help="torch.compile for the LLM, for long runs on GPUs: the first passes wait for it (docs/decoding.md)",
    )  # fmt: skip
    work.add_argument("--limit", type=int, help="answer only the first so many items")
    work.add_argument("--overwrite", action="store_true", help="discard answers already on disk")
    work.add_argument(
        "--max_error_rate", type=fraction, default=0.01,
        help="share of items with unusable audio above which the exit status is 1 (default: %(default)s)",
    )  # fmt: skip
    work.add_argument(
        "--swap_audio", action="store_true",
        help="control: give every item another item's audio, drawn by --seed; the score of a model that uses the audio "
        "falls to chance",
    )  # fmt: skip
    return parser


def add_model_flags(parser: argparse.ArgumentParser, default: str = "") -> None:
    """Which model, and where it runs; `default` says what serves without --model_path, which else must be given."""
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model_path", required=not default,
        help="DIFFA checkpoint: folder or hub name" + (f"; default: {default}" if default else ""),
    )  # fmt: skip
    model.add_argument("--llm_path", help="LLaDA: folder or hub name; default: what the checkpoint remembers")
    model.add_argument("--whisper_path", help="Whisper: folder or hub name; default: what the checkpoint remembers")
    model.add_argument(
        "--use_lora", nargs="?", const=True, type=yes_or_no, metavar="True",
        help="insist on LoRA factors (DIFFA-2, stages 3 and 4); where a checkpoint has them, they are always merged",
    )  # fmt: skip
    model.add_argument(
        "--system_prompt", type=system_prompt_flag, default="short", metavar="short|long|TEXT",
        help="short: DIFFA's, and DIFFA-2's in inference; long: DIFFA-2's in training (default: %(default)s)",
    )  # fmt: skip
    model.add_argument(
        "--quantize", choices=tuple(BITS),
        help="round the LLM's weights to 8 or 4 bits while they are loaded, a half or a quarter of the memory; answers "
        "may differ a little (docs/performance.md)",
    )  # fmt: skip
    add_device_flags(model)


def add_device_flags(parser: argparse._ActionsContainer, dtypes: Iterable[str] = DTYPES) -> None:
    """Where to compute, and in which number format, of `dtypes` (`src/precision.py` chooses)."""
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps, ...; default: a GPU if there is one")
    parser.add_argument(
        "--dtype", choices=(AUTO, *dtypes), default=AUTO,
        help="auto: bfloat16 where the machine is faster in it, else float32 (default: %(default)s)",
    )  # fmt: skip


def yes_or_no(text: str) -> bool:
    """A flag's value as published scripts write it, "True" or "False". Raises ArgumentTypeError for anything else."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False: say one of them")
    return text.lower() == "true"


def add_decoding_flags(
    parser: argparse.ArgumentParser,
    preset: str,
    steps: int | None = None,
    block_length: int | None = None,
    max_new_tokens: int | None = None,
) -> None:
    """How to decode; the arguments are the defaults, None where the benchmark's settings are."""
    length_default = "default: as published, see above" if steps is None else "default: %(default)s"
    decoding = parser.add_argument_group("decoding")
    decoding.add_argument(
        "--preset", choices=PRESETS, default=preset,
        help="exact gives the published tokens; fast and fastest take fewer and cheaper forward passes and may differ "
        "a little (docs/performance.md); fast_dllm is the published fast mode of DIFFA-2; the flags below win over it "
        "(default: %(default)s)",
    )  # fmt: skip
    decoding.add_argument(
        "--accelerate", choices=["fast_dllm"], dest="preset", default=argparse.SUPPRESS,
        help="the same as --preset, as the published scripts write it",
    )  # fmt: skip
    decoding.add_argument("--steps", type=int, default=steps, help=f"forward passes per answer ({length_default})")
    decoding.add_argument("--block_length", type=int, default=block_length, help=f"tokens ({length_default})")
    decoding.add_argument("--max_new_tokens", type=int, default=max_new_tokens, help=f"tokens ({length_default})")
    decoding.add_argument(
        "--temperature", type=finite_number, default=0.0, help="0 decodes greedily (default: %(default)s)"
    )
    decoding.add_argument("--cfg_scale", type=finite_number, default=0.0, help="guidance (default: %(default)s, none)")
    decoding.add_argument("--remasking", choices=REMASKING_RULES, default="low_confidence")
    decoding.add_argument(
        "--cache", choices=CACHE_MODES,
        help="keep keys and values between the steps of a block: of what is before it (prefix), or all others (dual)",
    )  # fmt: skip
    decoding.add_argument("--refresh_interval", type=int, help="with a cache: renew it every so many steps of a block")
    decoding.add_argument(
        "--threshold", type=finite_number, help="parallel decoding: fix all tokens at least this probable"
    )
    decoding.add_argument(
        "--factor",
        type=finite_number,
        help="parallel decoding: fix n tokens while (n + 1)(1 - the least probable) <= factor",
    )
    decoding.add_argument(
        "--last_rank", action=argparse.BooleanOptionalAction,
        help="with --factor: fix the least probable as well when all others are fixed",
    )  # fmt: skip
    decoding.add_argument(
        "--stop_at_eos", action=argparse.BooleanOptionalAction, help="compute no block after one with an end token"
    )
    decoding.add_argument(
        "--stop_in_block", action=argparse.BooleanOptionalAction,
        help="with --stop_at_eos: end an answer within its block, as soon as all before its first end token is fixed",
    )  # fmt: skip
    decoding.add_argument("--seed", type=int, default=0, help="of sampling (default: %(default)s)")


def given_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The decoding flags that say something: fields of GenerationOptions that win over the preset's."""
    return {name: getattr(args, name) for name in DECODING_FLAGS if getattr(args, name) is not None}


def options_of(args: argparse.Namespace) -> GenerationOptions:
    """How to decode, by the flags. Raises OptionError for numbers that do not fit together."""
    for name in ("batch_size", "limit"):
        if getattr(args, name, None) is not None and getattr(args, name) < 1:  # ask.py has neither
            raise OptionError(f"{name} is {getattr(args, name)}; it must be at least 1")
    try:
        return GenerationOptions.of_preset(args.preset, **given_settings(args))
    except ValueError as error:
        raise OptionError(error) from None


def device_of(args: argparse.Namespace) -> torch.device:
    """The device asked for, else a GPU, else the CPU; of several GPUs, where no number says which, this process's own.

    Raises OptionError if it is not there.
    """
    try:
        device = torch.device(args.device) if args.device else own_device()
    except RuntimeError:
        raise OptionError(f"--device {args.device} is unknown; say cpu, cuda or cuda:1, or leave it out") from None
    there = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if device.type in there and not there[device.type]():
        raise OptionError(f"--device {args.device}: PyTorch finds no GPU here; leave it out, or say cpu")
    if device.type not in ("cpu", *there):
        check_computes(device)
    return own_device() if device.type == "cuda" and device.index is None else device


def check_computes(device: torch.device) -> None:
    """Raise OptionError for a device that PyTorch has a name for, and nothing to compute with."""
    try:
        (torch.ones(1, device=device) + 1).item()
    except (AssertionError, ImportError, RuntimeError) as error:  # NotImplementedError is the last's
        reason = str(error).strip().partition("\n")[0]
        raise OptionError(
            f"--device {device}: PyTorch cannot compute there ({reason:.200}); leave it out, or say cpu"
        ) from None
