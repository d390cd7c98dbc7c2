"""The adapters in the folder of a DIFFA checkpoint: read and checked, or written."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from src.checkpoint import CheckpointError, check_names, read_tensors, weight_names
from src.configuration_DIFFA import ADAPTER_MODULES, STAGES, DIFFAConfig
from src.files import write_file
from src.lora import LLM_PREFIX, is_peft, llm_name, own_name


def prefixes_of(modules: Collection[str]) -> tuple[str, ...]:
    """How the names of these modules' weights begin."""
    return tuple(f"{module}." for module in modules)


def modules_in(names: Collection[str]) -> tuple[str, ...]:
    """The adapters that some of these weights belong to."""
    return tuple(module for module in ADAPTER_MODULES if any(name.startswith(f"{module}.") for name in names))


def read_adapters(
    folder: Path, model_state: Mapping[str, torch.Tensor], stage: int | None, with_lora: bool
) -> dict[str, torch.Tensor]:
    """The adapters' weights in a checkpoint folder: those its stage trained, or all when it names no stage.

    Args:
        model_state: the whole model's weights, whose names and shapes the checkpoint's must have.
        with_lora: the model has the LoRA factors in the folder, which are not read here.

    Raises CheckpointError naming missing and unexpected weights, and for a wrong shape or a value that is not finite.
    """
    what = f"DIFFA checkpoint {folder}"
    check_names(what, missing=set(), unexpected=foreign_weights(folder, model_state, with_lora))
    state = dict(read_tensors(folder, prefixes_of(ADAPTER_MODULES)))
    required = STAGES[stage].trains if stage else ADAPTER_MODULES
    complete = prefixes_of({*required, *modules_in(state)})
    expected = {name for name in model_state if name.startswith(complete)}
    check_names(what, missing=expected - set(state), unexpected=set(state) - expected)
    for name, tensor in state.items():
        if tensor.shape != model_state[name].shape:
            raise CheckpointError(
                f"{what}: {name} has shape {tuple(tensor.shape)}, but this LLM and encoder need "
                f"{tuple(model_state[name].shape)}: were the adapters trained on other frozen parts?"
            )
        if not tensor.isfinite().all():
            raise CheckpointError(
                f"{what}: {name} holds values that are not finite: it is damaged, pass another checkpoint"
            )
    return state


def foreign_weights(folder: Path, model_state: Mapping[str, torch.Tensor], with_lora: bool) -> set[str]:
    """Names of weights that belong to nothing in the model.

    Those of the frozen parts do, which published training runs wrote and nobody reads, and LoRA factors if it has them.
    """
    known = prefixes_of((*ADAPTER_MODULES, "whisper_model"))
    # where the LLM's weights are rounded, whole numbers stand in their place (`src/quantization.py`)
    of_llm = {llm_name(name).replace(".numbers", ".weight") for name in model_state if name.startswith(LLM_PREFIX)}
    return {
        name
        for name in weight_names(folder)
        if not name.startswith(known)
        and not (with_lora and is_peft(name))
        and not (name.startswith(LLM_PREFIX) and llm_name(name) in of_llm)
    }


def write_checkpoint(folder: Path, state: Mapping[str, torch.Tensor], config: DIFFAConfig) -> None:
    """Write `model.safetensors` and `config.json`; each appears whole or not at all."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    write_file(folder / "model.safetensors", save(state, metadata={"format": "pt"}))
    write_file(folder / "config.json", json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n")


# -- hooks of DIFFAModel.load_state_dict -------------------------------------------------------------------------------


def take_published_names(model: nn.Module, state_dict: dict[str, torch.Tensor], *_: Any) -> None:
    """Give LoRA factors, which checkpoints hold under published names, the names that they have in the model."""
    for name in [name for name in state_dict if is_peft(name)]:
        state_dict[own_name(name)] = state_dict.pop(name)


def forget_unsaved_keys(model: nn.Module, incompatible_keys: Any) -> None:
    """Take what checkpoints leave out on purpose off the list of missing keys."""
    prefixes = prefixes_of(model.saved_modules)
    incompatible_keys.missing_keys[:] = [key for key in incompatible_keys.missing_keys if key.startswith(prefixes)]
