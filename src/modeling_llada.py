"""LLaDA, the masked-diffusion language model (arXiv 2502.09992), written natively.

A Llama-like transformer without a causal mask: every position sees every other, and the logits at position i
predict the token at i itself. Parameters carry the public checkpoint's names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from src.checkpoint import (
    CheckpointError,
    assign,
    check_names,
    check_shape,
    no_weights,
    read_json,
    read_one_by_one,
    read_tensors,
)
from src.configuration_DIFFA import LLaDAConfig
from src.lora import LoRA
from src.quantization import QuantizedMatrix, quantize

# Rows that a CPU's matrix product (MKL's, float32) takes 2 to 3 times as long for as reading the weights does, unless
# the weights come in slices so small that it does not copy them first. docs/performance.md has the times.
FEW_ROWS = range(2, 16)
TOKENS_AT_ONCE = 64  # of the vocabulary: such a slice, and the group in which the sampler looks for the highest logit


class RMSNorm(nn.Module):
    """Root-mean-square norm: normalises in float32, casts back, then scales."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        # rms_norm computes in float32 and rounds once; given the weight, it would scale before rounding
        return self.weight * F.rms_norm(hidden_states, hidden_states.shape[-1:], eps=self.eps)


def rotary_tables(position_ids: torch.Tensor, head_dim: int, theta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine of the rotary angles, float32 [B, 1, T, head_dim], for `position_ids` [B, T].

    Halves are rotated, not interleaved pairs: both halves have the same angles, and the first half's sine is negative.
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=position_ids.device) / head_dim
    angles = position_ids[:, None, :, None].float() * theta**-exponents  # [B, 1, T, head_dim / 2]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Apply rotary position embedding in float32 to queries or keys [B, H, T, head_dim]."""
    swapped = x.roll(x.shape[-1] // 2, dims=-1)  # (x1, x2) -> (x2, x1)
    return (x * cos).add_(swapped * sin).to(x.dtype)


def gated(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """SiLU of `gate`, times `up`, of one shape; written over `gate` where no backward pass needs it."""
    if torch.is_grad_enabled():
        return _GatedSiLU.apply(gate, up)
    return F.silu(gate, inplace=True).mul_(up)  # new memory would take a CPU a tenth of a forward pass


class _GatedSiLU(torch.autograd.Function):
    """silu(gate) * up, of which backward computes silu(gate) again: it is as large as both, and cheap."""

    @staticmethod
    def forward(ctx, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx, upstream: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gate, up = ctx.saved_tensors
        for_up = F.silu(gate).mul_(upstream)
        return torch.ops.aten.silu_backward(upstream * up, gate), for_up


@dataclass(frozen=True)
class KeyValueCache:
    """One layer's keys and values of a whole sequence; each pass overwrites those of the columns it computes."""

    keys: torch.Tensor  # [B, H_kv, T, head_dim], rotated
    values: torch.Tensor  # same shape

    def update(self, start: int, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Put in k and v [B, H_kv, n, head_dim] from column `start` on; returns those of the whole sequence."""
        columns = slice(start, start + k.shape[2])
        self.keys[:, :, columns], self.values[:, :, columns] = k, v
        return self.keys, self.values

    def rows(self, count: int) -> "KeyValueCache":
        """The part that belongs to the first rows, in the same memory."""
        return KeyValueCache(self.keys[:count], self.values[:count])


class LLaDABlock(nn.Module):
    """One pre-norm transformer block: bidirectional attention, then a gated SiLU feed-forward."""

    def __init__(self, config: LLaDAConfig) -> None:
        super().__init__()
        d, head_dim = config.d_model, config.head_dim
        self.head_dim = head_dim
        self.grouped = config.n_heads != config.n_kv_heads  # fewer key/value heads than query heads
        self.attn_norm = RMSNorm(d, config.rms_norm_eps)
        self.q_proj = nn.Linear(d, config.n_heads * head_dim, bias=False)
        self.k_proj = nn.Linear(d, config.n_kv_heads * head_dim, bias=False)
        self.v_proj = nn.Linear(d, config.n_kv_heads * head_dim, bias=False)
        self.attn_out = nn.Linear(config.n_heads * head_dim, d, bias=False)
        self.ff_norm = RMSNorm(d, config.rms_norm_eps)
        self.ff_proj = nn.Linear(d, config.mlp_hidden_size, bias=False)
        self.up_proj = nn.Linear(d, config.mlp_hidden_size, bias=False)
        self.ff_out = nn.Linear(config.mlp_hidden_size, d, bias=False)

    def heads(self, projected: torch.Tensor) -> torch.Tensor:
        """[B, T, H * head_dim] -> [B, H, T, head_dim]."""
        return projected.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def forward(
        self,
        hidden_states: torch.Tensor,  # [B, n, d]
        rotary: tuple[torch.Tensor, torch.Tensor],  # cos, sin: [B, 1, n, head_dim]
        key_mask: torch.Tensor | None,  # bool [B, 1, 1, T], True where a key may be attended to
        wanted: slice | None = None,  # of n, the columns to compute; all give keys and values
        cache: KeyValueCache | None = None,  # of all T columns; None when n is T
        start: int = 0,  # of T, where the n columns begin
    ) -> torch.Tensor:
        """Hidden states [B, n or the number of wanted columns, d]."""
        h = self.attn_norm(hidden_states)
        k, v = rotate(self.heads(self.k_proj(h)), *rotary), self.heads(self.v_proj(h))
        if cache is not None:
            k, v = cache.update(start, k, v)
        if wanted is not None:
            hidden_states, h = hidden_states[:, wanted], h[:, wanted]
            rotary = tuple(table[:, :, wanted] for table in rotary)
        q = rotate(self.heads(self.q_proj(h)), *rotary)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=key_mask, enable_gqa=self.grouped)
        # residuals are added in place, to products that nobody else reads
        hidden_states = self.attn_out(attended.transpose(1, 2).flatten(2)).add_(hidden_states)
        h = self.ff_norm(hidden_states)
        return self.ff_out(gated(self.ff_proj(h), self.up_proj(h))).add_(hidden_states)


class LLaDAModel(nn.Module):
    """The whole language model. `state_dict()` has the public names, `model.transformer.wte.weight` and so on.

    DIFFA reaches an LLM by these names alone, which another one must have as well (`frozen_parts` chooses the class):
    `read_config`, `from_pretrained`, `config` (with `d_model`, `max_sequence_length`, and the ids of the mask, end and
    padding tokens), `embed`, the forward pass, `project`, `dtype`, `quantization`,
    `embedding_weight`, `output_weight`, `new_caches`, `compile_blocks`, `gradient_checkpointing`.

    Attributes:
        gradient_checkpointing: keep a block's input alone for the backward pass, which computes the block again.
    """

    def __init__(self, config: LLaDAConfig) -> None:
        super().__init__()
        self.config = config
        self.head_dim = config.head_dim
        self.gradient_checkpointing = False
        transformer = {
            "wte": nn.Embedding(config.embedding_size, config.d_model),
            "blocks": nn.ModuleList(LLaDABlock(config) for _ in range(config.n_layers)),
            "ln_f": RMSNorm(config.d_model, config.rms_norm_eps),
        }
        if not config.weight_tying:
            transformer["ff_out"] = nn.Linear(config.d_model, config.embedding_size, bias=False)
        self.model = nn.ModuleDict({"transformer": nn.ModuleDict(transformer)})

    @staticmethod
    def read_config(folder: Path) -> LLaDAConfig:
        """The configuration of a LLaDA checkpoint; raises CheckpointError for that of another model."""
        config = read_json(folder / "config.json")
        try:
            return LLaDAConfig.from_dict(config)
        except ValueError as error:
            raise CheckpointError(f"{folder / 'config.json'}: {error}") from None

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        torch_dtype: torch.dtype = torch.bfloat16,
        device: str | torch.device = "cpu",
        lora: LoRA | None = None,
        quantization: str | None = None,
    ) -> "LLaDAModel":
        """Load a public checkpoint folder: `config.json` and one safetensors file or shards with an index.

        The model is built on the meta device and filled tensor by tensor, so that peak memory is the weights' own
        size; the updates of `lora` are added on the way, and then, with `quantization` "int8" or "int4", weights are
        rounded (`quantization.quantize`): they never stand in memory whole. Parameters come frozen (`requires_grad`
        False), the module in evaluation mode.
        Raises CheckpointError for another model's configuration, for missing, unexpected or misshapen weights, and for
        LoRA factors that do not fit.
        """
        path = Path(path)
        with no_weights():
            model = cls(cls.read_config(path)).requires_grad_(False)
        expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
        if lora:
            lora.check(expected)
        with torch.device("meta"):
            quantized = quantize(model, quantization) if quantization else {}
        found = set()
        for name, tensor in read_one_by_one(path) if quantized else read_tensors(path):
            found.add(name)
            if lora and name in lora.factors and tensor.shape == expected[name]:
                tensor = lora.merge(name, tensor.to(device), torch_dtype)
            if name in quantized:
                check_shape(name, tensor, expected[name])
                quantized[name].take(tensor.to(device), torch_dtype)
            elif name in expected:
                assign(model, name, tensor.to(device=device, dtype=torch_dtype))
        check_names(f"LLaDA checkpoint {path}", missing=expected.keys() - found, unexpected=found - expected.keys())
        return model.eval()

    def embed(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Token embeddings [B, T, d] of ids [B, T]."""
        return self.model.transformer.wte(input_ids)

    def forward(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        wanted: slice | None = None,
        caches: Sequence[KeyValueCache] | None = None,
        start: int = 0,
    ) -> torch.Tensor:
        """Hidden states [B, n, d] after the final norm; `project` turns those of interest into logits.

        Args:
            inputs_embeds: [B, n, d]; n is the whole length T, or a part of it when an earlier pass filled the caches.
            attention_mask: [B, T], nonzero where a position is real; None when nothing is padded (no mask is faster).
            position_ids: [B, n] int64; None for 0 ... n - 1 in every row.
            wanted: the columns of n to return; the last layer computes no others. None for all.
            caches: `new_caches`; this pass's keys and values are put in, and all of them are attended to.
            start: the column of T at which `inputs_embeds` begins.
        """
        if position_ids is None:
            position_ids = torch.arange(inputs_embeds.shape[1], device=inputs_embeds.device)[None]  # [1, T]
        rotary = rotary_tables(position_ids, self.head_dim, self.config.rope_theta)
        key_mask = None if attention_mask is None else attention_mask.bool()[:, None, None, :]
        hidden_states = inputs_embeds
        last = self.config.n_layers - 1
        for index, block in enumerate(self.blocks):
            columns = wanted if index == last else None
            if self.gradient_checkpointing and torch.is_grad_enabled():  # training: there are no caches
                hidden_states = checkpoint(  # LoRA layers may drop something out, and must again
                    block, hidden_states, rotary, key_mask, columns, use_reentrant=False,
                    preserve_rng_state=self.training,
                )  # fmt: skip
                continue
            cache = None if caches is None else caches[index]
            hidden_states = block(hidden_states, rotary, key_mask, columns, cache, start)
        return self.final_norm(hidden_states)

    def compile_blocks(self) -> None:
        """Compile the blocks (torch.compile); the first passes wait for the compiler.

        One program serves all blocks and lengths. The last block stays as it is: which columns it computes changes
        from block to block of an answer, and each would be another program.
        """
        for block in self.blocks[:-1]:
            block.compile(dynamic=True)

    def new_caches(self, like: torch.Tensor) -> list[KeyValueCache]:
        """Room for the keys and values of sequences `like` [B, T, d], layer by layer, on its device, in its dtype."""
        batch_size, length, _ = like.shape
        shape = (batch_size, self.config.n_kv_heads, length, self.head_dim)
        return [KeyValueCache(like.new_empty(shape), like.new_empty(shape)) for _ in self.blocks]

    def project(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Logits [..., embedding_size] of hidden states [..., d]."""
        if isinstance(self.output, QuantizedMatrix):
            return self.output.product(hidden_states)
        return project_by(hidden_states, self.output_weight)

    @property
    def dtype(self) -> torch.dtype:
        """The number format of embeddings and hidden states, whatever the weights have."""
        return self.final_norm.weight.dtype

    @property
    def quantization(self) -> str | None:
        """What the blocks' weights were rounded to, a key of `quantization.BITS`; None if they were not."""
        layer = self.blocks[0].q_proj
        return f"int{layer.bits}" if isinstance(layer, QuantizedMatrix) else None

    @property
    def embedding_weight(self) -> nn.Parameter:
        """The token embeddings, [embedding_size, d]."""
        return self.model.transformer.wte.weight

    @property
    def output(self) -> nn.Module:
        """The layer with the vocabulary projection: that of the embeddings where weights are tied."""
        return self.model.transformer.wte if self.config.weight_tying else self.model.transformer.ff_out

    @property
    def output_weight(self) -> nn.Parameter:
        """The vocabulary projection, [embedding_size, d]."""
        return self.output.weight

    @property
    def blocks(self) -> nn.ModuleList:
        return self.model.transformer.blocks

    @property
    def final_norm(self) -> RMSNorm:
        return self.model.transformer.ln_f


def by_cache(tensor: torch.Tensor) -> bool:
    """Whether the cache decides how fast a tensor is worked on, and not the number of operations."""
    return tensor.device.type == "cpu"


def project_by(hidden_states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Logits [..., V] of hidden states [..., d], by the weight [V, d] of the vocabulary, in their dtype.

    Of the few rows of a decoding step, a CPU should read the weights once, and at the speed of its memory.
    """
    num_rows, num_tokens = hidden_states.shape[:-1].numel(), len(weight)
    whole = num_tokens - num_tokens % TOKENS_AT_ONCE
    if not (by_cache(weight) and weight.dtype == torch.float32 and num_rows in FEW_ROWS and whole):
        return F.linear(hidden_states, weight)
    rows = hidden_states.reshape(num_rows, -1)
    slices = weight[:whole].unflatten(0, (-1, TOKENS_AT_ONCE))  # [G, 64, d]
    logits = torch.bmm(rows.expand(len(slices), -1, -1), slices.transpose(1, 2))  # [G, M, 64]
    logits = logits.transpose(0, 1).flatten(1)  # [M, G * 64]
    if whole < num_tokens:
        logits = torch.cat((logits, F.linear(rows, weight[whole:])), dim=1)
    return logits.view(*hidden_states.shape[:-1], num_tokens)
