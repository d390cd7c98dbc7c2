"""Measure a step of preference optimisation (stage 4) against the plain form with two models.

    python perf/preference.py --json preference.json                          # LLaDA-8B's layers, two of them
    python perf/preference.py --d_model 256 --vocabulary 20000 --whisper tiny   # small: about a minute

Random weights: time does not depend on what they hold. A step is a batch of pairs, forward, backward, clipping and
optimizer, the encoder included:

    naive              two models, each of which encodes the clip; logits of every position; the graphs of all 2 K
                       passes of the policy (`tests.reference.preference_loss`)
    ours               `PreferenceModel.forward`
    ours_checkpointed  the same with --gradient_checkpointing

All rows share their frozen weights here, so that peaks are what a step takes above them.

`--json` writes the rows, and by name `step` (`ratio_to_naive`: naive seconds / its seconds; at least 1.5) and `memory`
above weights and optimizer state (`ratio_to_naive`: its bytes / naive bytes; at most 0.25), both of `ours`.
"""

import argparse
import copy
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that this also runs by path

import torch

from perf.decoding import add_shape_flags, random_model
from perf.training import add_batch_flags, examples_of, measure_steps, step_of
from src.errors import reports_user_errors
from src.inference_flags import add_device_flags
from src.lora import LORA_RANK, LORA_TARGETS, new_lora
from src.preference_data import PairCollator
from src.preference_model import PreferenceModel
from tests import reference


def start_of(args: argparse.Namespace, device: torch.device, dtype: torch.dtype) -> PreferenceModel:
    """What a stage 4 starts from: the naive form's reference. Nothing is dropped out."""
    model = random_model(args, device, dtype, PreferenceModel)
    model.attach_lora(new_lora(model.llm_model, LORA_RANK, None, LORA_TARGETS))
    model.to_adapter_dtype(torch.float32)
    model.prepare_training(4)
    model.drops_out = False
    return model.train()


def policy_of(start: PreferenceModel) -> PreferenceModel:
    """A policy some steps later: trained weights of its own, which are others, on the same frozen weights."""
    policy = copy.deepcopy(start, {id(p): p for p in start.parameters() if not p.requires_grad})
    torch.manual_seed(1)  # the same in all rows
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(1e-3 * torch.randn_like(parameter))
    return policy


def pairs_of(model: PreferenceModel, args: argparse.Namespace, device: torch.device) -> dict[str, torch.Tensor]:
    """A batch of pairs; both answers are equally long."""
    examples = [replace(e, rejected_ids=[e.prompt_ids[0]] * len(e.answer_ids)) for e in examples_of(model, args)]
    config = model.llm_model.config
    batch = PairCollator(model.feature_extractor, config.mask_token_id, config.pad_token_id, args.vrpo_draws)(examples)
    return {key: value.to(device) for key, value in batch.items()}


def our_loss(model: PreferenceModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return model(**batch).loss


def naive_loss(model: PreferenceModel, batch: dict[str, torch.Tensor], start: PreferenceModel) -> torch.Tensor:
    return reference.preference_loss(model, start, batch, model.objective.beta)


def steps_for(args: argparse.Namespace, device: torch.device, dtype: torch.dtype) -> dict[str, Callable[[], float]]:
    """What is measured, by the row's name."""
    start, low = start_of(args, device, dtype), dtype != torch.float32
    batch = pairs_of(start, args, device)
    published = reference.as_published(start)
    checkpointed = policy_of(start)
    checkpointed.gradient_checkpointing_enable()
    return {
        "naive": step_of(policy_of(published), batch, partial(naive_loss, start=published), autocast=low),
        "ours": step_of(policy_of(start), batch, our_loss, autocast=low),
        "ours_checkpointed": step_of(checkpointed, batch, our_loss, autocast=low),
    }


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the table there")
    parser.add_argument("--runs", type=int, default=3, help="of each row, interleaved (default: %(default)s)")
    add_device_flags(parser, ("float32", "bfloat16"))
    add_shape_flags(parser, d_model=4096, n_layers=2)
    batch = add_batch_flags(parser, batch_size=1)
    batch.add_argument("--vrpo_draws", type=int, default=4, help="K (default: %(default)s)")
    return parser.parse_args(argv)


@reports_user_errors
def main(argv: list[str] | None = None) -> None:
    measure_steps(parse(argv), steps_for, naive="naive", ours="ours")


if __name__ == "__main__":
    sys.exit(main())
