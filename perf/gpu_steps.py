"""Part `steps` of perf/gpu.py: a training update of each stage at LLaDA-8B's shape and the published batch.

Operations are those of an update without checkpointing, which computes some again: what is gained, not what is done.
Clips as long as the encoder's window, 150 text tokens: the case whose memory docs/training.md counts out. DIFFA takes
its batch twice for an update (accumulation), DIFFA-2 once; in stage 4 a pair is two texts, each in four draws.
"""

import argparse
import statistics
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import Any

import torch

from perf import measure
from perf.gpu_model import DeviceLimits, Shape, limits_of, random_model, shape_of, taken, total_peak_gigabytes
from perf.gpu_record import Record
from perf.preference import pairs_of
from perf.training import batch_of, our_loss, step_of
from perf.training_budget import LARGE, RECIPES, VRPO_DRAWS, Recipe
from src.lora import LORA_RANK, LORA_TARGETS, new_lora
from src.modeling_DIFFA import DIFFAModel
from src.preference_model import PreferenceModel
from src.training_plan import bytes_of_clip

TEXT_TOKENS, ANSWER_TOKENS = 150, 48
ACCUMULATION = {"DIFFA": 2, "DIFFA-2": 1}  # published
LORA_DROPOUT = 0.05  # published
RUNS = 2


def measure_all(record: Record) -> None:
    limits = limits_of(record.device, record.dry_run)
    for _, recipes in groupby(RECIPES, key=lambda recipe: (recipe.family, recipe.compares)):
        measure_recipes(record, list(recipes), limits)


def measure_recipes(record: Record, recipes: Sequence[Recipe], limits: DeviceLimits) -> None:
    """Recipes that can go on with one model. It is gone afterwards: a GPU has no room for two."""
    shape, large = shape_of(record.dry_run), recipes[0].encoder is LARGE
    model_class = PreferenceModel if recipes[0].compares else DIFFAModel
    model = random_model(shape, record.device, model_class=model_class, large=large)
    model.to_adapter_dtype(torch.float32)
    for recipe in recipes:
        if recipe.lora:
            model.attach_lora(new_lora(model.llm_model, LORA_RANK, None, LORA_TARGETS), LORA_DROPOUT)
        times, clips = ACCUMULATION[recipe.family], shape.clips[recipe.name]
        things, work = "pairs" if recipe.compares else "clips", []
        for checkpointing in (False, True):
            name = f"{recipe.family}, stage {recipe.stage}, {clips} {things} x {times}"
            name += ", checkpointing" if checkpointing else ""
            record.row(name, partial(update, model, shape, recipe, checkpointing, limits, work))


def update(
    model: DIFFAModel, shape: Shape, recipe: Recipe, checkpointing: bool, limits: DeviceLimits, work: list[float]
) -> dict[str, Any]:
    """One row; `work` takes up the operations of an update from the first of a recipe's rows (counting is slow)."""
    device, clips, accumulation = model.device, shape.clips[recipe.name], ACCUMULATION[recipe.family]
    model.prepare_training(recipe.stage)
    model.train()
    model.acoustic_connector.qformer.gradient_checkpointing = False
    if checkpointing:
        model.gradient_checkpointing_enable()
    batch = (pairs_of if recipe.compares else batch_of)(
        model,
        argparse.Namespace(
            text_tokens=TEXT_TOKENS, answer_tokens=ANSWER_TOKENS, batch_size=clips,
            audio_seconds=shape.window_seconds, vrpo_draws=VRPO_DRAWS,
        ),
        device,
    )  # fmt: skip
    step = step_of(model, batch, partial(our_loss, checkpointing=checkpointing), True, accumulation=accumulation)
    step()  # makes the optimizer's state
    resting = taken(device)
    if not work:
        work.append(measure.flops_of(step))
    peak = measure.peak_bytes(step, device)
    seconds = statistics.median(measure.seconds_of(step, device) for _ in range(RUNS))
    length = model.num_audio_embeddings(int(shape.window_seconds * 16_000)) + batch["input_ids"].shape[-1]
    layers = len(LORA_TARGETS) if recipe.lora else 0
    return {
        "seconds_an_update": seconds,
        "clips_a_second": accumulation * clips / seconds,
        "teraflop": work[0] / 1e12,
        "share_of_limit": work[0] / seconds / limits.operations,
        "positions_a_clip": length,
        "gigabytes_at_rest": resting / 1e9 if device.type == "cuda" else None,
        "peak_gigabytes": total_peak_gigabytes(peak, resting, device),
        "gigabytes_a_clip": peak / 1e9 / clips,
        "gigabytes_a_clip_by_arithmetic": bytes_of_clip(model.llm_model.config, length, 2, checkpointing, layers) / 1e9,
    }
