"""What passes cost at LLaDA-8B's width: some of its layers and the whole vocabulary, random weights, no encoder.

    python perf/real_shape.py --json real_shape.json                 # 2 layers: 7 GB of memory in bf16
    python perf/real_shape.py --d_model 64 --vocabulary 1000         # to try it

Rows of the table:

    whole       a decoding pass over 600 positions and the logits of the block's 32: every pass in exact decoding
    cached      a decoding pass over the block's 32 positions against a cache of 600, and their logits
    vocabulary  the logits alone
    step        a training pass over 4 samples of 300 positions, 24 of them masked: loss, and gradients of the audio's
                embeddings

`_int8` and `_int4` are the same with rounded weights (`--quantize`), which are not trained.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that this also runs by path

import torch

from evaluation.scoring import format_table
from perf import measure
from perf.full_size import GIGABYTE, LLADA_8B
from src.checkpoint import assign, no_weights
from src.configuration_DIFFA import LLaDAConfig
from src.errors import reports_user_errors
from src.inference_flags import add_device_flags, device_of
from src.masked_diffusion import IGNORE_INDEX, diffusion_loss
from src.modeling_llada import LLaDAModel
from src.precision import choose_precision
from src.quantization import BITS, quantize
from src.splice import Spliced

POSITIONS, BLOCK = 600, 32  # of a prompt of 10 s of audio and its answer; computed together with a cache
BATCH, TRAINED_POSITIONS, MASKED = 4, 300, 24  # of a training pass; masked in each sample
HEAD_DIM = 128  # LLaDA-8B's


@dataclass(frozen=True)
class PassRow:
    """One line of the table."""

    seconds: float
    gigaflops: float  # in matrix products
    share_of_limit: float  # of the machine's matrix products in that time
    ratio_to_float: float  # seconds of the same pass with weights that are not rounded, by its own
    weight_gigabytes: float  # of the LLM


def random_llm(args: argparse.Namespace, device: torch.device, dtype: torch.dtype) -> LLaDAModel:
    """LLaDA-8B with fewer layers, by default; every tensor is made in its own number format."""
    heads = max(1, args.d_model // HEAD_DIM)
    ids = {name: args.vocabulary - 1 for name in ("mask_token_id", "eos_token_id", "pad_token_id")}
    shape = {
        "d_model": args.d_model, "n_layers": args.n_layers, "n_heads": heads, "n_kv_heads": heads,
        "mlp_hidden_size": 3 * args.d_model, "embedding_size": args.vocabulary, "vocab_size": args.vocabulary,
    }  # fmt: skip
    torch.manual_seed(0)
    with no_weights():
        llm = LLaDAModel(LLaDAConfig.from_dict(LLADA_8B | shape | ids)).requires_grad_(False)
    for name, parameter in list(llm.named_parameters()):
        weight = torch.empty(parameter.shape, dtype=dtype, device=device)
        assign(llm, name, weight.fill_(1.0) if weight.ndim == 1 else weight.normal_(std=0.02))
    return llm.eval()


def rounded(llm: LLaDAModel, to: str) -> LLaDAModel:
    """The same LLM with rounded weights."""
    with no_weights():
        twin = LLaDAModel(llm.config).requires_grad_(False)
        matrices = quantize(twin, to)
    for name, parameter in llm.named_parameters():
        if name in matrices:
            matrices[name].take(parameter, llm.dtype)
        else:
            assign(twin, name, parameter)
    return twin.eval()


def cases_of(llm: LLaDAModel) -> dict[str, Callable[[], torch.Tensor]]:
    """The passes of decoding, by name."""
    embeds = llm.embed(torch.arange(POSITIONS, device=llm.final_norm.weight.device)[None] % llm.config.embedding_size)
    caches, start = llm.new_caches(embeds), POSITIONS - BLOCK
    block = slice(start, POSITIONS)
    positions, states = torch.arange(POSITIONS, device=embeds.device)[None], embeds[0, block].clone()

    @torch.inference_mode()
    def whole() -> torch.Tensor:
        return llm.project(llm(embeds, position_ids=positions, wanted=block)[0])

    @torch.inference_mode()
    def cached() -> torch.Tensor:
        return llm.project(llm(embeds[:, block], None, positions[:, block], caches=caches, start=start)[0])

    @torch.inference_mode()
    def vocabulary() -> torch.Tensor:
        return llm.project(states)

    llm(embeds, caches=caches)
    return {"whole": whole, "cached": cached, "vocabulary": vocabulary}


def training_pass(llm: LLaDAModel) -> torch.Tensor:
    """The loss, with gradients of what goes into the LLM; masks stand at the end, as answers do."""
    device = llm.final_norm.weight.device
    ids = torch.arange(BATCH * TRAINED_POSITIONS, device=device).view(BATCH, -1) % (llm.config.embedding_size - 1)
    labels = torch.full_like(ids, IGNORE_INDEX)
    labels[:, -MASKED:] = ids[:, -MASKED:]
    embeds = llm.embed(ids).clone().requires_grad_()
    columns = torch.arange(TRAINED_POSITIONS, device=device).expand_as(ids)
    rates = torch.full((BATCH,), 0.5, device=device)
    loss = diffusion_loss(llm, Spliced(embeds, torch.ones_like(ids), columns), labels, rates, 2 * BATCH * MASKED).loss
    loss.backward()
    return loss.detach()


def rows_of(llms: dict[str, LLaDAModel], device: torch.device, runs: int, limit: float) -> dict[str, PassRow]:
    """Every pass once for its work, then all in turns for their times. `llms` by what their names end with."""
    cases, sizes = {}, {}
    for ending, llm in llms.items():
        size = sum(tensor.nbytes for tensor in (*llm.parameters(), *llm.buffers())) / GIGABYTE
        of_llm = cases_of(llm) | ({} if ending else {"step": partial(training_pass, llm)})
        cases |= {name + ending: case for name, case in of_llm.items()}
        sizes |= {name + ending: size for name in of_llm}
    flops = {name: measure.flops_of(case) for name, case in cases.items()}
    seconds = measure.interleaved_medians(cases, device, runs)
    return {
        name: PassRow(
            seconds=seconds[name],
            gigaflops=flops[name] / 1e9,
            share_of_limit=flops[name] / seconds[name] / limit,
            ratio_to_float=seconds[name.partition("_")[0]] / seconds[name],
            weight_gigabytes=sizes[name],
        )
        for name in sorted(cases, key=lambda name: list(cases).index(name.partition("_")[0]))
    }


def table(rows: dict[str, PassRow]) -> str:
    header = ["", "seconds", "GFLOP", "of the limit", "float / it", "GB of weights"]
    lines = [
        [
            name, f"{row.seconds:.3f}", f"{row.gigaflops:.1f}", f"{row.share_of_limit:.0%}",
            f"{row.ratio_to_float:.2f}", f"{row.weight_gigabytes:.2f}",
        ]
        for name, row in rows.items()
    ]  # fmt: skip
    return format_table(header, lines)


@reports_user_errors
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the table there")
    parser.add_argument("--runs", type=int, default=5, help="of each row, interleaved (default: %(default)s)")
    parser.add_argument("--d_model", type=int, default=LLADA_8B["d_model"], help="(default: %(default)s)")
    parser.add_argument("--n_layers", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--vocabulary", type=int, default=LLADA_8B["vocab_size"], help="(default: %(default)s)")
    add_device_flags(parser, ("float32", "bfloat16"))
    args = parser.parse_args(argv)
    device = device_of(args)
    precision = choose_precision(device, args.dtype)
    limit = measure.matrix_product_limit(device, precision.dtype)
    llm = random_llm(args, device, precision.dtype)
    rows = rows_of({"": llm} | {f"_{to}": rounded(llm, to) for to in BITS}, device, args.runs, limit)
    run = measure.run_record(device, precision, args.runs, limit)
    measure.report(table(rows), {name: asdict(row) for name, row in rows.items()}, run, args.json)


if __name__ == "__main__":
    sys.exit(main())
