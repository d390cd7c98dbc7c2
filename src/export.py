"""Write a checkpoint in the form that other programs read: the published code of DIFFA and DIFFA-2, or PEFT.

    python -m src.export published exp/stage3                  # exp/stage3-published/pytorch_model.bin
    python -m src.export published exp/stage3 --whole          # the same with LLM and encoder in it
    python -m src.export peft exp/stage3                       # exp/stage3-peft: for PeftModel.from_pretrained

The first holds the trained weights alone, as released checkpoints do, or with `--whole` all weights, as the published
trainer saves them: 17 GB for LLaDA-8B, which must fit into memory. The second holds the LoRA factors alone, which
`PeftModel.from_pretrained(llada, "exp/stage3-peft")` puts into the public LLaDA. A folder appears complete or not at
all; one that holds something already is refused.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from src.checkpoint import CheckpointError, read_json, read_tensors, resolve
from src.configuration_DIFFA import ADAPTER_MODULES, STAGES, DIFFAConfig
from src.diffa_checkpoint import modules_in, prefixes_of
from src.errors import reports_user_errors
from src.files import check_output_folder, new_folder
from src.frozen_parts import check_frozen_parts
from src.lora import (
    ADAPTER,
    ALPHA_PER_RANK,
    LLM_PREFIX,
    LORA_RANK,
    LORA_TARGETS,
    PEFT_CONFIG,
    PEFT_FILES,
    PEFT_PREFIX,
    LoRA,
    read_lora,
)
from src.modeling_whisper_encoder import encoder_tensors

FORMATS = {"published": "what the published code reads", "peft": "what PeftModel.from_pretrained reads"}


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    folder = resolve(args.model_path, "the DIFFA checkpoint", "the command")
    place = folder.resolve() if Path(args.model_path).is_dir() else Path(args.model_path.rpartition("/")[2])  # hub name
    output = args.output or place.with_name(f"{place.name}-{args.format}")
    config = DIFFAConfig.from_dict(read_json(folder / "config.json"))
    lora = read_lora(folder, config.lora_alpha)
    if args.format == "peft":
        check_output_folder(output, [folder])
        export_peft(output, config, lora)
    else:
        state = trained_weights(folder, config, lora)
        inputs = [folder]
        if args.whole:
            llm_path, whisper_path = args.llm_path or config.llm_model_id, args.whisper_path or config.whisper_model_id
            check_frozen_parts(config, llm_path, whisper_path)
            inputs += [resolve(llm_path, "the LLM (LLaDA)", "--llm_path")]
            inputs += [resolve(whisper_path, "the Whisper encoder", "--whisper_path")]
        check_output_folder(output, inputs)
        export_published(output, config, state, lora, inputs[1:])
    print(f"{output}: {', '.join(sorted(path.name for path in output.iterdir()))}")
    return 0


# -- for the published code --------------------------------------------------------------------------------------------


def trained_weights(folder: Path, config: DIFFAConfig, lora: LoRA | None) -> dict[str, torch.Tensor]:
    """A checkpoint's adapters and LoRA factors under published names, float32.

    Raises CheckpointError where its stage's adapters are not all there, and for factors that the published code would
    read wrongly: their rank, scale and layers are constants of its loader.
    """
    state = {name: tensor.float() for name, tensor in read_tensors(folder, prefixes_of(ADAPTER_MODULES))}
    required = STAGES[config.stage].trains if config.stage in STAGES else ADAPTER_MODULES
    missing = [module for module in required if module not in modules_in(state)]
    if missing:
        raise CheckpointError(
            f"{folder} lacks the weights of {', '.join(missing)}: the checkpoint is incomplete, copy it again"
        )
    if lora is None:
        return state
    ranks = {len(factors.a) for factors in lora.factors.values()}
    scales = {lora.scale(name) for name in lora.factors}
    layers = {name.split(".")[-2] for name in lora.factors}
    if (ranks, scales) != ({LORA_RANK}, {ALPHA_PER_RANK}) or not layers <= set(LORA_TARGETS):
        raise CheckpointError(
            f"{folder} has LoRA factors of rank {told(ranks)} and scale {told(scales)} for {told(layers)}; the "
            f"published code reads them as of rank {LORA_RANK} and scale {ALPHA_PER_RANK}, for {told(LORA_TARGETS)} "
            "alone. Export them by `peft`, or train with the published settings"
        )
    return state | lora.state_dict()


def told(values: Sequence | set) -> str:
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in sorted(values))


def export_published(
    output: Path,
    config: DIFFAConfig,
    state: Mapping[str, torch.Tensor],
    lora: LoRA | None,
    frozen: Sequence[Path] = (),
) -> None:
    """Write `pytorch_model.bin` and `config.json` for the published code.

    Args:
        state: `trained_weights`.
        frozen: the folders of LLM and encoder, whose weights go into the file as they are; none for the released form.
    """
    with new_folder(output) as folder:
        if frozen:
            encoder = {f"whisper_model.{name}": tensor for name, tensor in encoder_tensors(frozen[1])}
            state = {**state, **encoder, **dict(llm_weights(frozen[0], lora))}
        torch.save(dict(state), folder / "pytorch_model.bin")
        (folder / "config.json").write_text(json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n")


def llm_weights(folder: Path, lora: LoRA | None) -> Iterator[tuple[str, torch.Tensor]]:
    """The LLM's weights under the names they have once PEFT has put LoRA layers around some, or under their own."""
    weights = dict(read_tensors(folder))
    if lora is None:
        yield from ((LLM_PREFIX + name, tensor) for name, tensor in weights.items())
        return
    lora.check({name: tensor.shape for name, tensor in weights.items()})
    for name, tensor in weights.items():
        inner = f"{name.removesuffix('.weight')}.base_layer.weight" if name in lora.factors else name
        yield LLM_PREFIX + PEFT_PREFIX + inner, tensor


# -- for PEFT ----------------------------------------------------------------------------------------------------------


def export_peft(output: Path, config: DIFFAConfig, lora: LoRA | None) -> None:
    """Write the LoRA factors as PEFT does: `adapter_config.json` and `adapter_model.safetensors`.

    Raises CheckpointError where there are none, or several ranks, of which only one has a place there.
    """
    ranks = {len(factors.a) for factors in lora.factors.values()} if lora else set()
    if len(ranks) != 1:
        found = f"LoRA factors of ranks {told(ranks)}" if ranks else "no LoRA factors"
        raise CheckpointError(f"the checkpoint holds {found}; expected factors of one rank, as stage 3 writes them")
    rank = ranks.pop()
    fields = {  # all versions of PEFT know these, and have defaults for others
        "peft_type": "LORA", "task_type": None, "base_model_name_or_path": config.llm_model_id, "inference_mode": True,
        "r": rank, "lora_alpha": rank * lora.scale(next(iter(lora.factors))), "lora_dropout": 0.0, "bias": "none",
        "target_modules": [name.removesuffix(".weight") for name in lora.factors],
    }  # fmt: skip
    state = {  # PEFT's files leave out the prefix of DIFFA's LLM, and the adapter's name
        name.removeprefix(LLM_PREFIX).replace(f".{ADAPTER}.", "."): tensor.contiguous()
        for name, tensor in lora.state_dict().items()
    }
    with new_folder(output) as folder:
        (folder / PEFT_CONFIG).write_text(json.dumps(fields, indent=2) + "\n")
        save_file(state, folder / PEFT_FILES[0], metadata={"format": "pt"})


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m src.export", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    formats = parser.add_subparsers(required=True, dest="format", metavar="|".join(FORMATS))
    for name, what in FORMATS.items():
        command = formats.add_parser(name, help=what, description=what, allow_abbrev=False)
        command.add_argument("model_path", metavar="FOLDER", help="a DIFFA checkpoint: folder or hub name")
        command.add_argument("--output", type=Path, help=f"a new folder (default: FOLDER-{name})")
        if name == "published":
            command.add_argument("--whole", action="store_true", help="with the weights of LLM and encoder")
            command.add_argument("--llm_path", help="LLaDA, for --whole (default: as the checkpoint remembers)")
            command.add_argument("--whisper_path", help="Whisper, likewise")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(reports_user_errors(main)())
