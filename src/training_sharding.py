"""How a run's processes share out what training keeps: by DeepSpeed, as its file says, or not at all (DDP)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from src.errors import UserError

ZERO_STAGES = (0, 1, 2, 3)
OWN_SETTINGS = ("scheduler", "optimizer")  # would silently override training's flags


class ShardingError(UserError):
    """A DeepSpeed file that training cannot use; the message says what it holds and what is expected."""


def check_deepspeed_file(path: Path) -> None:
    """Raise ShardingError unless a file is JSON, names a ZeRO stage, and leaves the recipe to the flags."""
    expected = "expected a file such as config/dp_config.json; DS_CONFIG= trains without DeepSpeed"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ShardingError(f"the DeepSpeed file {path} cannot be read ({error.strerror}); {expected}") from None
    except ValueError as error:
        raise ShardingError(f"the DeepSpeed file {path} is not JSON ({error}); {expected}") from None
    zero = settings.get("zero_optimization") if isinstance(settings, dict) else None
    stage = zero.get("stage") if isinstance(zero, dict) else None
    if stage not in ZERO_STAGES:
        raise ShardingError(
            f"the DeepSpeed file {path} has zero_optimization.stage {stage!r}; expected one of "
            f"{', '.join(map(str, ZERO_STAGES))}, as in config/dp_config.json"
        )
    for key in OWN_SETTINGS:
        if key in settings:
            raise ShardingError(f"{path} has a {key!r}, which would silently override the training flags; take it out")
    if (settings.get("fp16") or {}).get("enabled") is True:
        raise ShardingError(
            f"{path} enables fp16, in which training does not compute; take it out, and choose by --bf16"
        )


def sharding(training_args: TrainingArguments) -> dict[str, Any]:
    """How the optimizer's state is shared out over processes: it is read in no other way than it was written in."""
    if not training_args.deepspeed:
        return {"zero": None}
    stage = training_args.hf_deepspeed_config.get_value("zero_optimization.stage", 0)
    zero = {1: "1 or 2", 2: "1 or 2"}.get(stage, str(stage))  # these two share it out alike
    return {"zero": zero, "processes": training_args.world_size, "bf16": training_args.bf16}


def in_words(sharding: Mapping[str, Any]) -> str:
    """What `sharding` returned, for messages."""
    if sharding.get("zero") is None:
        return "no DeepSpeed"
    precision = {True: " in bf16", False: " in float32"}.get(sharding.get("bf16"), "")
    return f"DeepSpeed ZeRO-{sharding['zero']} on {sharding.get('processes')} processes{precision}"
