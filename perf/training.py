"""How long a stage-2 training step takes and how much memory, against the published loss; random weights, real shapes.

    python perf/training.py --json training.json
    python perf/training.py --d_model 64 --n_layers 1 --vocabulary 800 --whisper tiny    # to try it

A step is forward, backward, clipping and AdamW. Rows of the table:

    naive              states of all of the encoder's layers, keys and values of all its frames in the Q-Former,
                       LLaDA's public code (`tests/published_llada.py`), logits and cross entropy of every position,
                       full autograd; all parts in the wanted precision, as DeepSpeed casts the published model (its
                       float32 masters of the adapters are left out, which is less memory than it takes); AdamW that
                       is not fused
    ours               `DIFFAModel.forward`; adapters held in float32, computing in the wanted precision (autocast)
    ours_checkpointed  the same with --gradient_checkpointing

The frozen encoder is not in these: it has run before. `whole_naive` and `whole_ours` are steps with the encoder, which
is most of such a step, since it always hears a whole window.

`--json` writes the rows, and by name what `whole_ours` is to `whole_naive`: `step` (`ratio_to_naive`: naive seconds by
its seconds, more is better), and `memory` above weights and optimizer state (`ratio_to_naive`: its bytes by naive's,
less is better).
"""

import argparse
import copy
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that this also runs by path

import numpy as np
import torch

from evaluation.scoring import format_table
from perf import measure
from perf.decoding import add_shape_flags, instruction_of, random_model
from src.configuration_DIFFA import SAMPLE_RATE
from src.dataloader import DIFFACollator, Example
from src.errors import reports_user_errors
from src.inference_flags import add_device_flags, device_of
from src.masked_diffusion import Masking
from src.modeling_DIFFA import DIFFAModel
from src.precision import choose_precision
from src.prompts import build_prompt, tokenize_prompt
from tests import reference


@dataclass(frozen=True)
class StepRow:
    """One line of the table: one step."""

    seconds: float
    peak_mebibytes: float  # above what was taken before: weights and optimizer state
    gigaflops: float  # in matrix products
    share_of_limit: float  # of the machine's matrix products in that time
    loss: float


def examples_of(model: DIFFAModel, args: argparse.Namespace) -> list[Example]:
    """A batch's examples, whose masking rates lie evenly, of noise and repeated words."""
    instruction = instruction_of(model.tokenizer, args.text_tokens - args.answer_tokens)
    prompt_ids, audio_position = tokenize_prompt(model.tokenizer, build_prompt(instruction))
    answer_ids = [prompt_ids[-1]] * (args.text_tokens - len(prompt_ids))
    noise = np.random.default_rng(0).normal(0, 0.1, (args.batch_size, int(args.audio_seconds * SAMPLE_RATE)))
    return [
        Example(row, str(row), waveform.astype(np.float32), prompt_ids, answer_ids, audio_position,
                Masking((row + 0.5) / args.batch_size, row))
        for row, waveform in enumerate(noise)
    ]  # fmt: skip


def batch_of(model: DIFFAModel, args: argparse.Namespace, device: torch.device) -> dict[str, torch.Tensor]:
    config = model.llm_model.config
    collate = DIFFACollator(model.feature_extractor, config.mask_token_id, config.pad_token_id)
    batch = collate(examples_of(model, args))
    return {key: value.to(device) for key, value in batch.items()}


def step_of(
    model: DIFFAModel,
    batch: dict[str, torch.Tensor],
    loss_of: Callable[..., torch.Tensor],
    autocast: bool,
    accumulation: int = 1,
) -> Callable[[], float]:
    """One optimizer step of a model of its own, as Trainer takes it; returns the loss.

    `accumulation`: how many times the batch is taken for one update.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    fused = loss_of is not naive_loss  # the recipe's optimizer, and the published one
    optimizer = torch.optim.AdamW(trained, lr=1e-5, weight_decay=0.05, fused=fused)
    device = batch["t"].device

    def step() -> float:
        torch.manual_seed(0)  # the same dropout everywhere
        for _ in range(accumulation):
            with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                loss = loss_of(model, batch) / accumulation
            loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return accumulation * loss.item()

    return step


class Heard(torch.nn.Module):
    """Stands in for an encoder that has run already."""

    def __init__(self, *output: object) -> None:
        super().__init__()
        self.output = output

    def forward(self, *_: torch.Tensor) -> tuple:
        return self.output


def having_heard(model: DIFFAModel, batch: dict[str, torch.Tensor], autocast: bool) -> DIFFAModel:
    """The same model, for one batch: its encoder has run."""
    with torch.autocast(batch["t"].device.type, torch.bfloat16, enabled=autocast):
        features = batch["input_features"], batch["feature_attention_mask"]
        model.whisper_model = Heard(*model.whisper_model(*features, model.states_read))
    return model


def our_loss(model: DIFFAModel, batch: dict[str, torch.Tensor], checkpointing: bool) -> torch.Tensor:
    model.llm_model.gradient_checkpointing = checkpointing  # the LLM is shared by these rows
    return model(**batch).loss


def naive_loss(model: DIFFAModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return reference.loss(model, batch)


def steps_of(model: DIFFAModel, batch: dict[str, torch.Tensor], low: bool) -> dict[str, Callable[[], float]]:
    """What is measured, by the row's name. `low`: the model's frozen parts are in bfloat16."""

    def to_train(own: DIFFAModel, dtype: torch.dtype) -> DIFFAModel:
        own.prepare_training(2)
        own.to_adapter_dtype(dtype)
        return own.train()

    def published() -> DIFFAModel:
        """With the frozen parts of `model`, and adapters of its own."""
        return to_train(reference.as_published(model), model.llm_model.embedding_weight.dtype)

    def ours() -> DIFFAModel:
        own = copy.deepcopy(model, {id(part): part for part in (model.llm_model, model.whisper_model)})
        return to_train(own, torch.float32)

    whole = {
        "whole_naive": step_of(published(), batch, naive_loss, autocast=False),
        "whole_ours": step_of(ours(), batch, partial(our_loss, checkpointing=False), autocast=low),
    }
    checkpointed = having_heard(ours(), batch, low)
    checkpointed.gradient_checkpointing_enable()
    return {
        "naive": step_of(having_heard(published(), batch, False), batch, naive_loss, autocast=False),
        "ours": step_of(having_heard(ours(), batch, low), batch, partial(our_loss, checkpointing=False), autocast=low),
        "ours_checkpointed": step_of(checkpointed, batch, partial(our_loss, checkpointing=True), autocast=low),
    } | whole


def rows_of(steps: dict[str, Callable[[], float]], device: torch.device, runs: int, limit: float) -> dict[str, StepRow]:
    """Every step once to make its optimizer state, once for its work, once for its memory; then all in turns."""
    losses, flops, peaks = {}, {}, {}
    for name, step in steps.items():
        losses[name] = step()
        flops[name] = measure.flops_of(step)
        peaks[name] = measure.peak_bytes(step, device)
    seconds = measure.interleaved_medians(steps, device, runs)
    return {
        name: StepRow(
            seconds=seconds[name],
            peak_mebibytes=peaks[name] / measure.MEBIBYTE,
            gigaflops=flops[name] / 1e9,
            share_of_limit=flops[name] / seconds[name] / limit,
            loss=losses[name],
        )
        for name in steps
    }


def baseline_of(name: str, rows: dict[str, StepRow]) -> StepRow:
    return rows["whole_naive" if name.startswith("whole") else "naive"]


def table(rows: dict[str, StepRow]) -> str:
    header = ["", "seconds", "naive / it", "peak MiB", "it / naive", "GFLOP", "of the limit", "loss"]
    lines = [
        [
            name, f"{row.seconds:.3f}", f"{baseline_of(name, rows).seconds / row.seconds:.2f}",
            f"{row.peak_mebibytes:.0f}", f"{row.peak_mebibytes / baseline_of(name, rows).peak_mebibytes:.3f}",
            f"{row.gigaflops:.0f}", f"{row.share_of_limit:.0%}", f"{row.loss:.4f}",
        ]
        for name, row in rows.items()
    ]  # fmt: skip
    return format_table(header, lines)


def targets(naive: StepRow, ours: StepRow) -> dict[str, dict[str, float]]:
    """`step` and `memory` of the JSON file."""
    return {
        "step": {"seconds": ours.seconds, "ratio_to_naive": naive.seconds / ours.seconds},
        "memory": {
            "mebibytes": ours.peak_mebibytes,
            "ratio_to_naive": ours.peak_mebibytes / naive.peak_mebibytes,
        },
    }


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the table there")
    parser.add_argument("--runs", type=int, default=5, help="of each row, interleaved (default: %(default)s)")
    add_device_flags(parser, ("float32", "bfloat16"))
    add_shape_flags(parser, d_model=512, n_layers=8)
    add_batch_flags(parser, batch_size=4)
    return parser.parse_args(argv)


def add_batch_flags(parser: argparse.ArgumentParser, batch_size: int) -> argparse._ArgumentGroup:
    """Flags for `examples_of`, with this default."""
    batch = parser.add_argument_group("batch")
    batch.add_argument("--batch_size", type=int, default=batch_size, help="(default: %(default)s)")
    batch.add_argument("--audio_seconds", type=float, default=10.0, help="(default: %(default)s)")
    batch.add_argument("--text_tokens", type=int, default=110, help="of each text (default: %(default)s)")
    batch.add_argument("--answer_tokens", type=int, default=48, help="of these (default: %(default)s)")
    return batch


def random_steps(args: argparse.Namespace, device: torch.device, dtype: torch.dtype) -> dict[str, Callable[[], float]]:
    model = random_model(args, device, dtype)
    return steps_of(model, batch_of(model, args, device), low=dtype != torch.float32)


def measure_steps(
    args: argparse.Namespace, steps_for: Callable[..., dict[str, Callable[[], float]]], naive: str, ours: str
) -> None:
    """Measure what `steps_for` gives for flags, device and dtype; `naive` and `ours` are the rows to be compared."""
    device = device_of(args)
    precision = choose_precision(device, args.dtype)
    limit = measure.matrix_product_limit(device, precision.dtype)
    rows = rows_of(steps_for(args, device, precision.dtype), device, args.runs, limit)
    run = measure.run_record(device, precision, args.runs, limit)
    content = targets(rows[naive], rows[ours]) | {name: asdict(row) for name, row in rows.items()}
    measure.report(table(rows), content, run, args.json)


@reports_user_errors
def main(argv: list[str] | None = None) -> None:
    measure_steps(parse(argv), random_steps, naive="whole_naive", ours="whole_ours")


if __name__ == "__main__":
    sys.exit(main())
