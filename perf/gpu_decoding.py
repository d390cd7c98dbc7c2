"""Part `decoding` of perf/gpu.py: seconds an answer at LLaDA-8B's shape, in each mode, for one prompt and for batches.

Rows named "answer" are whole answers by the sampler (and, as "naive", by tests/reference.py over
tests/published_llada.py), the encoder not counted.
Rows named "int8" and "int4" are answers with rounded weights, beside the same with those in bf16.
Rows named "graphs" compare answers whose repeated passes are replayed with the same ones launched kernel by kernel.
Rows named "pass" are single forward passes of fixed shape, with the projection of a block and its argmax: eager,
captured in a CUDA graph, compiled, and both. Rows named "profile" look into one step of the sampler.
"""

import copy
import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from unittest.mock import patch

import torch

from perf import measure
from perf.decoding import Answer, by_naive, by_sampler, compiled_copy, instruction_of, modes_of
from perf.gpu_model import DeviceLimits, limits_of, prompt_of, random_model, shape_of, taken, total_peak_gigabytes
from perf.gpu_profile import profile_of
from perf.gpu_record import Record
from perf.real_shape import rounded
from src import llm_generate
from src.llm_generate import GenerationOptions, Prompt, decode
from src.modeling_llada import LLaDAModel
from src.quantization import BITS, QuantizedMatrix
from tests import reference
from tests.published_llada import published_llada

TOKENS_PER_PASS = 4
RUNS = 3
PASSES = 10  # of which the median counts
STEPS_BEFORE_A_PROFILE = 3  # with a cache, the first computes everything, and the third records a CUDA graph


def measure_all(record: Record) -> None:
    shape, device = shape_of(record.dry_run), record.device
    limits = limits_of(device, record.dry_run)
    record.row("limits", lambda: {
        "product_teraflops": limits.operations / 1e12, "copy_gigabytes_a_second": limits.bandwidth / 1e9,
    })  # fmt: skip
    model = random_model(shape, device)
    llm, weights = model.llm_model, bytes_read(model.llm_model)
    record.row("weights", lambda: {"gigabytes": taken(device) / 1e9 or None, "read_in_a_pass_gigabytes": weights / 1e9})
    short, long = shape.answer_lengths
    prompts = {batch_size: prompt_of(model, shape, batch_size) for batch_size in shape.batch_sizes}
    one = prompts[1]
    audio = reference.audio_columns(model, one.inputs_embeds[0], instruction_of(model.tokenizer, shape.text_tokens))
    meter = AnswerMeter(llm, device, limits, weights)

    def answers(options: GenerationOptions, batch_size: int, names: Sequence[str]) -> None:
        modes = modes_of(options, TOKENS_PER_PASS)
        for name in names:
            key, mode = f"{name}, {options.max_new_tokens} tokens", modes.get(name)
            answer = partial(published_answer, prompt=one, options=options, audio=audio)
            if mode:
                answer = partial(by_sampler, prompt=prompts[batch_size], options=mode)
            record.row(
                f"answer, batch {batch_size}: {key}",
                partial(meter.figures, answer, key, batch_size, options.max_new_tokens),
            )

    modes = ("naive", "exact", "prefix", "dual", "dual_parallel")
    answers(GenerationOptions(long, long // 2, long), 1, modes)
    answers(GenerationOptions(short, short, short), 1, modes)
    for batch_size, name in ((1, "exact"), (1, "dual"), (shape.batch_sizes[1], "dual")):
        mode = modes_of(GenerationOptions(long, long // 2, long), TOKENS_PER_PASS)[name]
        call = partial(by_sampler, llm, prompts[batch_size], mode)
        title = f"graphs, batch {batch_size}: {name}, {long} tokens"
        record.row(title, partial(against_no_graphs, call, device))
    for bits in BITS:
        in_bits = rounded(llm, bits)
        for name in ("exact", "dual"):
            mode = modes_of(GenerationOptions(long, long // 2, long), TOKENS_PER_PASS)[name]
            title = f"batch 1: {name}, {long} tokens"
            in_bf16 = record.rows[f"answer, {title}"].get("seconds")
            call = partial(by_sampler, in_bits, one, mode)
            record.row(f"{bits}, {title}", partial(against_bf16, call, in_bf16, in_bits, device))
        del in_bits, call
    profiles = modes_of(GenerationOptions(short, short, short), TOKENS_PER_PASS)
    for name in ("exact", "dual"):
        record.row(f"profile: {name}", lambda name=name: step_profile(llm, one, profiles[name]))
    block = long // 2
    for batch_size in shape.batch_sizes[:2]:
        passes(record, llm, prompts[batch_size], block, "eager")
    for batch_size in shape.batch_sizes[1:]:
        answers(GenerationOptions(short, short, short), batch_size, modes[1:])
    with torch.compiler.set_stance("force_eager" if record.dry_run else "default"):
        torch.compiler.reset()  # counting operations turns compiled code off for good
        compiled = compiled_copy(llm)
        passes(record, compiled, one, block, "compiled")
        for name in ("exact", "dual"):
            mode = modes_of(GenerationOptions(long, long // 2, long), TOKENS_PER_PASS)[name]
            record.row(f"answer, batch 1: {name}, {long} tokens, compiled", lambda mode=mode: timed(
                partial(by_sampler, compiled, one, mode), device))  # fmt: skip
        passes(record, compiled, prompts[shape.batch_sizes[1]], block, "compiled")


def against_bf16(
    call: Callable[[], Answer], in_bf16: float | None, in_bits: LLaDAModel, device: torch.device
) -> dict[str, Any]:
    """Seconds of an answer with rounded weights, beside those in bf16, and the gigabytes that the weights take."""
    kept = sum(matrix.num_bytes for matrix in in_bits.modules() if isinstance(matrix, QuantizedMatrix))
    return timed(call, device) | {"seconds_bf16": in_bf16, "gigabytes": kept / 1e9}


def published_answer(llm: LLaDAModel, prompt: Prompt, options: GenerationOptions, audio: slice) -> Answer:
    return by_naive(published_llada(llm), prompt, options, audio)


def shallow(llm: LLaDAModel, layers: int) -> LLaDAModel:
    """The first layers of an LLM alone; the weights are the same."""
    twin = copy.deepcopy(llm, {id(parameter): parameter for parameter in llm.parameters()})
    twin.config = replace(llm.config, n_layers=layers)
    del twin.blocks[layers:]
    return twin


def without_graphs() -> AbstractContextManager:
    return patch.object(llm_generate, "graphs_for", lambda device, options: None)


def against_no_graphs(call: Callable[[], Answer], device: torch.device) -> dict[str, Any]:
    """The sampler as it is, which replays passes of one shape as CUDA graphs, and with every kernel launched."""
    answer = call()
    row = {"seconds": statistics.median(measure.seconds_of(call, device) for _ in range(RUNS))}
    with without_graphs():
        launched = call()
        row["seconds_without"] = statistics.median(measure.seconds_of(call, device) for _ in range(RUNS))
    return row | {"ratio": row["seconds_without"] / row["seconds"], "ok": torch.equal(answer.ids, launched.ids)}


def bytes_read(llm: LLaDAModel) -> int:
    """Bytes of the weights that every pass reads: all but the embedding, of which it reads a few rows."""
    embedding = 0 if llm.config.weight_tying else llm.embedding_weight.numel()
    return 2 * (sum(parameter.numel() for parameter in llm.parameters()) - embedding)


def timed(call: Callable[[], Answer], device: torch.device) -> dict[str, Any]:
    first = measure.seconds_of(call, device)  # waits for the compiler, if anything does
    seconds = statistics.median(measure.seconds_of(call, device) for _ in range(RUNS))
    return {"seconds": seconds, "first_seconds": first}


@dataclass
class AnswerMeter:
    """Measures answers, and sets them against what the device does at best."""

    llm: LLaDAModel
    device: torch.device
    limits: DeviceLimits
    weights: int  # bytes read in a pass
    work: dict[str, float] = field(default_factory=dict)  # operations of one answer, by mode and length

    def operations(self, answer: Callable[[LLaDAModel], Answer]) -> float:
        """Of an answer, by those with one and with two layers: counting all of them takes ten times as long."""
        with without_graphs():  # whose operations cannot be counted
            one, two = (measure.flops_of(partial(answer, shallow(self.llm, layers))) for layers in (1, 2))
        return one + (self.llm.config.n_layers - 1) * (two - one)

    def figures(self, answer: Callable[[LLaDAModel], Answer], key: str, batch_size: int, tokens: int) -> dict[str, Any]:
        """One row, of answers with so many tokens each.

        The floor is the time that the passes would take at their limit: their products, or reading the weights once
        a pass, whichever takes longer.
        """
        if key not in self.work:
            self.work[key] = self.operations(answer) / batch_size
        call, device = partial(answer, self.llm), self.device
        resting, answers = taken(device), []
        peak = measure.peak_bytes(lambda: answers.append(call()), device)
        runs = RUNS if batch_size == 1 else 1
        seconds = statistics.median(measure.seconds_of(call, device) for _ in range(runs))
        passes, flops = answers[0].forward_passes, batch_size * self.work[key]
        floor = max(flops / self.limits.operations, passes * self.weights / self.limits.bandwidth)
        return {
            "seconds": seconds,
            "seconds_a_step": seconds / passes,
            "passes": passes,
            "answers_a_second": batch_size / seconds,
            "tokens_a_second": batch_size * tokens / seconds,
            "teraflop": flops / 1e12,
            "share_of_products": flops / seconds / self.limits.operations,
            "floor_seconds": floor,
            "share_of_floor": floor / seconds,
            "peak_gigabytes": total_peak_gigabytes(peak, resting, device),
        }


@torch.inference_mode()
def step_profile(llm: LLaDAModel, prompt: Prompt, options: GenerationOptions) -> dict[str, Any]:
    """One step, a few steps into an answer. (The first profile of a process takes long: it is thrown away.)"""
    figures = {}
    for _ in range(2):
        steps = decode(llm, prompt, options)
        for _ in range(STEPS_BEFORE_A_PROFILE):
            next(steps)
        figures = profile_of(lambda steps=steps: next(steps), prompt.inputs_embeds.device)
    return figures


def passes(record: Record, llm: LLaDAModel, prompt: Prompt, block: int, kind: str) -> None:
    """A pass over everything, and one over a block beside cached keys and values, for one shape of batch."""
    batch_size = len(prompt.inputs_embeds)
    for name, call in pass_of(llm, prompt, block).items():
        title = f"pass, batch {batch_size}: {name}, {kind}"
        record.row(title, lambda call=call: pass_seconds(call, record.device))
        if record.device.type == "cuda":
            record.row(f"{title}, in a CUDA graph", lambda call=call: pass_seconds(captured(call), record.device))


def pass_of(llm: LLaDAModel, prompt: Prompt, block: int) -> dict[str, Callable[[], torch.Tensor]]:
    embeds = torch.nn.functional.pad(prompt.inputs_embeds, (0, 0, 0, 2 * block), value=0.01)  # [B, T, d]
    start, total = prompt.inputs_embeds.shape[1], embeds.shape[1]
    mask = None
    if not bool(prompt.attention_mask.all()):
        mask = torch.nn.functional.pad(prompt.attention_mask, (0, 2 * block), value=1)  # [B, T]
    positions = torch.arange(total, device=embeds.device).expand(len(embeds), -1).contiguous()  # [B, T]
    caches = llm.new_caches(embeds)
    for cache in caches:
        cache.keys.normal_()
        cache.values.normal_()
    part, part_positions = embeds[:, start : start + block].contiguous(), positions[:, start : start + block]

    @torch.inference_mode()
    def everything() -> torch.Tensor:
        return llm.project(llm(embeds, mask, positions, slice(start, start + block))).argmax(dim=-1)

    @torch.inference_mode()
    def block_alone() -> torch.Tensor:
        hidden_states = llm(part, mask, part_positions, slice(0, block), caches, start)
        return llm.project(hidden_states).argmax(dim=-1)

    return {f"all {total} positions": everything, f"a block of {block}": block_alone}


def pass_seconds(call: Callable[[], object], device: torch.device) -> dict[str, Any]:
    first = measure.seconds_of(call, device)
    return {
        "seconds": statistics.median(measure.seconds_of(call, device) for _ in range(PASSES)),
        "first_seconds": first,
    }


def captured(call: Callable[[], object]) -> Callable[[], None]:
    """The call's kernels as a CUDA graph: launched at once, without Python."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):  # libraries set themselves up, which cannot be captured
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay
