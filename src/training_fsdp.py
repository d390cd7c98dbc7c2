"""FSDP2 beside DDP and DeepSpeed: frozen parts, adapters and optimizer state shared out by torch, through accelerate.

`accelerate launch --config_file config/fsdp.yaml` turns it on. Its checkpoints are those of DDP, whole and in the same
files, so that a run may go on under the other.
"""

import os
from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor


def uses_fsdp() -> bool:
    """Whether the launcher asks for it."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def set_up(accelerator: Accelerator) -> None:
    """Have an accelerator share a model out, as the launcher's settings say; on CPUs as well, where it alone does not.

    Weights are gathered in their own precision, and computed with under autocast, as under DDP: accelerate's own way
    would round the masking rates, and the adapters, to 16 bits.
    """
    state = accelerator.state
    state.fsdp_plugin = FullyShardedDataParallelPlugin()
    state.distributed_type = state._shared_state["distributed_type"] = DistributedType.FSDP
    prepare = accelerator.prepare

    def prepare_together(*parts: Any, **options: Any) -> Any:
        """Trainer prepares the model once more without its optimizer, which FSDP2 needs to see: not this time."""
        if len(parts) == 1 and isinstance(parts[0], nn.Module):
            return parts[0]
        for part in parts:
            if isinstance(part, nn.Module) and accelerator.native_amp:
                part.forward = torch.autocast(accelerator.device.type, torch.bfloat16)(part.forward)
        return prepare(*parts, **options)

    accelerator.prepare = prepare_together


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor that may be shared out, put together on every process (all must ask)."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def share_of(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """This process's share of a whole tensor, shared out as `like` is."""
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)


def whole_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's state as DDP would have it; all processes must ask."""
    state = optimizer.state_dict()
    return state | {"state": each_tensor(state["state"], lambda _, tensor: whole(tensor).cpu())}


def load_whole_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Set an optimizer's state to this process's share of what `whole_state` returned."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]

    def share(index: int, tensor: torch.Tensor) -> torch.Tensor:
        return share_of(tensor, weights[index]) if tensor.shape == weights[index].shape else tensor  # or a step count

    optimizer.load_state_dict(state | {"state": each_tensor(state["state"], share)})


def each_tensor(
    state: dict[int, dict[str, Any]], change: Callable[[int, torch.Tensor], torch.Tensor]
) -> dict[int, dict[str, Any]]:
    """An optimizer's state by weights, its tensors changed."""
    return {
        index: {
            name: change(index, value) if isinstance(value, torch.Tensor) else value for name, value in kept.items()
        }
        for index, kept in state.items()
    }
