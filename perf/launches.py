"""How many operations one decoding step asks of a device, the model's and the sampler's, in each decoding mode.

    python perf/launches.py                  # a table, of a model with 8 layers
    python perf/launches.py --n_layers 32    # as many as LLaDA-8B has

On a GPU an operation costs at least a launch: about 10 microseconds of Python and PyTorch, whatever its size. Small
batches are bound by that. Views and memory that is only reserved cost none and are not counted; an operation that takes
several kernels (a sort) counts once. The figures depend on the mode, the batch and the layers, not on the sizes of
weights: so tiny random weights on a CPU do. A step is one a little into a block, so that a cache is in use.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that this also runs by path

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from evaluation.scoring import format_table
from src import llm_generate, modeling_llada
from src.configuration_DIFFA import LLaDAConfig
from src.errors import reports_user_errors
from src.generation_options import PRESETS
from src.inference_flags import OptionError
from src.llm_generate import GenerationOptions, Prompt, decode
from src.modeling_llada import LLaDAModel

MODES: dict[str, dict[str, Any]] = {
    "exact": {},
    "prefix cache": {"cache": "prefix"},
    "dual cache": {"cache": "dual"},
    "threshold": {"threshold": 0.9},
    "factor": {"factor": 1.0},
    "temperature": {"temperature": 1.0, "seed": 0},
    "random remasking": {"remasking": "random", "seed": 0},
    "guidance": {"cfg_scale": 1.0},
    "early stop": {"stop_at_eos": True},
    "fast_dllm": PRESETS["fast_dllm"],
}
BLOCK_LENGTH, NUM_BLOCKS = 32, 2
PROMPT_LENGTH = 20
STEPS_BEFORE = 2  # the step that is counted
BATCH_SIZES = (1, 8)
FUSED = {torch.ops.aten.scaled_dot_product_attention.default, torch.ops.aten.rms_norm.default}  # one operation on GPUs


class OperationCounter(TorchDispatchMode):
    """Counts what operations there are, by name: `model` in calls of what `watch` returned, `sampler` the others."""

    def __init__(self) -> None:
        super().__init__()
        self.model: Counter[str] = Counter()
        self.sampler: Counter[str] = Counter()
        self.in_model = False

    def watch(self, method: Callable) -> Callable:
        def watched(*args: Any, **kwargs: Any) -> Any:
            self.in_model = True
            try:
                return method(*args, **kwargs)
            finally:
                self.in_model = False

        return watched

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        # under inference_mode operations arrive undivided
        composite = torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")
        if composite and func not in FUSED:
            with self:
                return func.decompose(*args, **kwargs)
        name = func.name().removeprefix("aten::").partition(".")[0]
        if not func.is_view and not name.startswith(("empty", "new_empty", "_unsafe_view", "detach", "lift")):
            (self.model if self.in_model else self.sampler)[name] += 1
        return func(*args, **kwargs)


def random_llm(n_layers: int) -> LLaDAModel:
    config = LLaDAConfig(
        d_model=64, n_layers=n_layers, n_heads=2, n_kv_heads=2, mlp_hidden_size=128, embedding_size=1000,
        rope_theta=5e5, rms_norm_eps=1e-5, max_sequence_length=4096, weight_tying=False, mask_token_id=999,
        eos_token_id=998, pad_token_id=998,
    )  # fmt: skip
    torch.manual_seed(0)
    return LLaDAModel(config).requires_grad_(False).to(torch.bfloat16).eval()


def operations_of_a_step(llm: LLaDAModel, batch_size: int, settings: Mapping[str, Any]) -> OperationCounter:
    """One decoding step of a batch whose prompts are padded, as real ones are."""
    tokens = BLOCK_LENGTH * NUM_BLOCKS
    options = GenerationOptions(steps=tokens, block_length=BLOCK_LENGTH, max_new_tokens=tokens, **settings)
    embeds = torch.randn(batch_size, PROMPT_LENGTH, llm.config.d_model).to(llm.embedding_weight)
    mask = torch.ones(batch_size, PROMPT_LENGTH, device=embeds.device)
    mask[0, : batch_size - 1] = 0
    counter = OperationCounter()
    with ExitStack() as undo:
        for module in (llm_generate, modeling_llada):
            undo.enter_context(patch.object(module, "by_cache", lambda tensor: False))
        for name in ("forward", "embed", "project"):
            undo.enter_context(patch.object(llm, name, counter.watch(getattr(llm, name))))
        steps = decode(llm, Prompt(embeds, mask, embeds), options)
        for _ in range(STEPS_BEFORE):
            next(steps)
        with counter:
            next(steps)
    return counter


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n_layers", type=int, default=8)
    parser.add_argument("--names", action="store_true", help="print the sampler's operations of a batch of one as well")
    args = parser.parse_args(argv)
    if args.n_layers < 1:
        raise OptionError(f"--n_layers is {args.n_layers}; expected 1 or more")
    llm = random_llm(args.n_layers)
    rows, names = [], []
    for mode, settings in MODES.items():
        one, many = (operations_of_a_step(llm, batch_size, settings) for batch_size in BATCH_SIZES)
        rows.append([mode, *(str(counts.total()) for counts in (one.model, one.sampler, many.sampler))])
        names.append(f"{mode}: " + ", ".join(f"{count} {name}" for name, count in sorted(one.sampler.items())))
    print(format_table(["", "model", *(f"sampler, batch {size}" for size in BATCH_SIZES)], rows))
    if args.names:
        print(*names, sep="\n")


if __name__ == "__main__":
    sys.exit(main())
