"""Part `steps` of perf/gpu.py: a training update of each stage at LLaDA-8B's shape and the published batch.

Clips as long as the encoder's window, 150 text tokens: the case whose memory docs/training.md counts out.
"""

import argparse
import statistics
from functools import partial
from typing import Any

import torch

from perf import measure
from perf.gpu_model import DeviceLimits, Shape, limits_of, random_model, shape_of, taken, total_peak_gigabytes
from perf.gpu_record import Record
from perf.training import batch_of, our_loss, step_of
from src.modeling_DIFFA import DIFFAModel

TEXT_TOKENS, ANSWER_TOKENS = 150, 48
ACCUMULATION = 2  # published
TENSORS_A_BLOCK = 17  # of T x d in bf16, that a block keeps for its backward pass: docs/training.md, Memory
RUNS = 3


def measure_all(record: Record) -> None:
    shape, device = shape_of(record.dry_run), record.device
    limits = limits_of(device, record.dry_run)
    model = random_model(shape, device)
    model.to_adapter_dtype(torch.float32)
    for stage, clips in ((1, shape.stage1_clips), (2, shape.stage2_clips)):
        for checkpointing in (False, True):
            name = f"stage {stage}, {clips} clips x {ACCUMULATION}" + (", checkpointing" if checkpointing else "")
            record.row(name, lambda s=stage, n=clips, c=checkpointing: update(model, shape, s, n, c, limits))


def update(
    model: DIFFAModel, shape: Shape, stage: int, clips: int, checkpointing: bool, limits: DeviceLimits
) -> dict[str, Any]:
    device = model.device
    model.prepare_training(stage)
    model.train()
    model.acoustic_connector.qformer.gradient_checkpointing = False
    if checkpointing:
        model.gradient_checkpointing_enable()
    batch = batch_of(
        model,
        argparse.Namespace(
            text_tokens=TEXT_TOKENS, answer_tokens=ANSWER_TOKENS, batch_size=clips,
            audio_seconds=shape.window_seconds,
        ),
        device,
    )  # fmt: skip
    step = step_of(model, batch, partial(our_loss, checkpointing=checkpointing), True, accumulation=ACCUMULATION)
    step()  # makes the optimizer's state
    resting = taken(device)
    flops = measure.flops_of(step)
    peak = measure.peak_bytes(step, device)
    seconds = statistics.median(measure.seconds_of(step, device) for _ in range(RUNS))
    length = model.num_audio_embeddings(int(shape.window_seconds * 16_000)) + batch["input_ids"].shape[1]
    config = model.llm_model.config
    blocks = config.n_layers if not checkpointing else 0
    kept = (blocks * TENSORS_A_BLOCK or config.n_layers + TENSORS_A_BLOCK) * length * config.d_model * 2
    return {
        "seconds_an_update": seconds,
        "clips_a_second": ACCUMULATION * clips / seconds,
        "teraflop": flops / 1e12,
        "share_of_limit": flops / seconds / limits.operations,
        "positions_a_clip": length,
        "gigabytes_at_rest": resting / 1e9 if device.type == "cuda" else None,
        "peak_gigabytes": total_peak_gigabytes(peak, resting, device),
        "gigabytes_a_clip": peak / 1e9 / clips,
        "gigabytes_a_clip_by_arithmetic": kept / 1e9,
    }
