"""The acoustic adapter: learned queries read intermediate hidden states of the encoder (paper, section 3.2)."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertEncoder, BertSelfAttention

NUM_QFORMER_LAYERS = 2
ROWS_AT_A_TIME = 16  # of frames that a GPU reads: their weights take 120 MB in float32 for Whisper-large


def target_layers(encoder_layers: int) -> list[int]:
    """Indices into the encoder's hidden-state tuple (0 is the embedding output) that the acoustic adapter reads.

    large (32 layers): every fourth, as published. Other depths: the end of every quarter, which gives the published
    ones for tiny (0-3), small (2, 5, 8, 11) and medium (5, 11, 17, 23); fewer than four layers give one target each.
    """
    num_targets = 8 if encoder_layers == 32 else min(4, encoder_layers)
    return [-(-encoder_layers * (k + 1) // num_targets) - 1 for k in range(num_targets)]  # ceil(...) - 1


class QformerConnector(nn.Module):
    """For each target layer, learned queries go through one shared two-layer Q-Former; the results are mixed."""

    def __init__(
        self, encoder_dim: int, encoder_heads: int, llm_dim: int, target_layer_ids: list[int], num_queries: int
    ) -> None:
        super().__init__()
        self.target_layer_ids = target_layer_ids
        self.layer_prompts = nn.ParameterList(
            nn.Parameter(torch.randn(1, num_queries, encoder_dim)) for _ in target_layer_ids
        )
        self.layer_weights = nn.Parameter(torch.zeros(num_queries, len(target_layer_ids)))  # uniform at the start
        config = BertConfig(
            hidden_size=encoder_dim,
            num_attention_heads=encoder_heads,
            num_hidden_layers=NUM_QFORMER_LAYERS,
            is_decoder=True,  # what BertEncoder calls a layer that may have cross-attention
            add_cross_attention=True,
        )
        self.qformer = BertEncoder(config)
        for layer in self.qformer.layer:
            layer.crossattention.self = FrameAttention(config)
        self.proj = nn.Sequential(nn.LayerNorm(encoder_dim), nn.Linear(encoder_dim, llm_dim))

    def scale_outputs(self, scale: torch.Tensor) -> None:
        """Bring a new adapter's embeddings to root mean square `scale`."""
        linear = self.proj[1]  # of unit-scale inputs, from the layer norm
        linear.weight.mul_(scale / linear.weight.float().square().sum(dim=1).mean().sqrt())
        linear.bias.zero_()

    def gradient_checkpointing_enable(self) -> None:
        """Keep only the inputs of the Q-Former's layers, and compute the layers again in backward."""
        self.qformer.gradient_checkpointing = True
        self.qformer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)

    def forward(self, hidden_states: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Embeddings [B, num_queries, d_llm] of the encoder's hidden states, a tuple of [B, T, d_w].

        All T frames of the window are attended to, the silence after a short clip included, as in the published
        model. The target layers go through the shared Q-Former as one batch.
        """
        targets = [hidden_states[index] for index in self.target_layer_ids]
        batch_size = targets[0].shape[0]
        queries = torch.cat([prompt.expand(batch_size, -1, -1) for prompt in self.layer_prompts])  # [K B, Q, d_w]
        read = self.qformer(queries, encoder_hidden_states=torch.cat(targets), use_cache=False).last_hidden_state
        read = read.unflatten(0, (len(targets), batch_size))  # [K, B, Q, d_w]
        mixed = torch.einsum("kbqd,qk->bqd", read, self.layer_weights.softmax(dim=-1))
        return self.proj(mixed)


class FrameAttention(BertSelfAttention):
    """BERT's cross-attention, to the encoder's frames, without a key and a value for each of them.

    A query q weighs frame x by softmax(q . (K x + k)), and of the weighted frames V x + v is summed up. Since there are
    few queries, K is multiplied into these instead, (K^T q) . x, and V into the weighted mean of the frames. k adds the
    same to all of a query's scores, and so nothing to their softmax. Backward computes the weights again.
    """

    def forward(
        self,
        hidden_states: torch.Tensor,  # [N, Q, d]
        attention_mask: None,
        head_mask: None,
        encoder_hidden_states: torch.Tensor,  # [N, T, d]
        *_: None,
    ) -> tuple[torch.Tensor, tuple]:
        """[N, Q, d], and the keys and values that BERT would keep: none."""
        q = self.transpose_for_scores(self.query(hidden_states)) * self.attention_head_size**-0.5  # [N, H, Q, h]
        parameters = (self.key.weight, self.value.weight, self.key.bias, self.value.bias)
        heads = (parameter.to(q.dtype).unflatten(0, q.shape[1::2]) for parameter in parameters)
        probability, dropped = self.dropout.p if self.training else 0.0, None
        if probability:
            shape = (len(q), q.shape[1] * q.shape[2], encoder_hidden_states.shape[1])
            dropped = torch.empty(shape, dtype=torch.bool, device=q.device)
            dropped.bernoulli_(1 - probability).logical_not_()  # on a CPU those that torch's dropout draws
        read = _ReadFrames.apply(q, encoder_hidden_states.to(q.dtype), *heads, dropped, 1 / (1 - probability))
        return read.transpose(1, 2).flatten(2), ()


class _ReadFrames(torch.autograd.Function):
    """What queries read of frames; frames get no gradient: the encoder is frozen."""

    @staticmethod
    def forward(
        ctx,
        q: torch.Tensor,  # [N, H, Q, h]
        frames: torch.Tensor,  # [N, T, d]
        w_key: torch.Tensor,  # [H, h, d]
        w_value: torch.Tensor,  # [H, h, d]
        b_key: torch.Tensor,  # [H, h]
        b_value: torch.Tensor,  # [H, h]
        dropped: torch.Tensor | None,  # bool [N, H Q, T], which weights drop out
        scale: float,  # of the others
    ) -> torch.Tensor:  # [N, H, Q, h]
        means = q.new_empty(*q.shape[:3], frames.shape[2])  # [N, H, Q, d], weighted
        sums = q.new_empty(*q.shape[:3], 1)  # [N, H, Q, 1], of the weights
        for rows in rows_of(q):
            weights = weights_of(q[rows], frames[rows], w_key)  # [n, H Q, T]
            if dropped is not None:
                weights.masked_fill_(dropped[rows], 0)
            means[rows] = (weights.to(q.dtype) @ frames[rows]).view_as(means[rows])
            sums[rows] = weights.sum(dim=-1).view_as(sums[rows])
        ctx.save_for_backward(q, frames, w_key, w_value, b_value, dropped, means, sums)
        ctx.scale = scale
        return scale * (means @ w_value.mT + sums * b_value[:, None])

    @staticmethod
    def backward(ctx, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, frames, w_key, w_value, b_value, dropped, means, sums = ctx.saved_tensors
        upstream = ctx.scale * upstream  # [N, H, Q, h]
        for_q, for_w_key = torch.empty_like(q), torch.zeros_like(w_key, dtype=torch.float32)
        for rows in rows_of(q):
            weights = weights_of(q[rows], frames[rows], w_key)  # [n, H Q, T]
            # of the sum of weights (V x + v) to each weight: upstream . (V x + v)
            gradient = (upstream[rows] @ w_value).flatten(1, 2) @ frames[rows].mT  # [n, H Q, T]
            gradient = gradient.float() + (upstream[rows] @ b_value[:, :, None]).flatten(1, 2)
            if dropped is not None:
                gradient.masked_fill_(dropped[rows], 0)
            # of a softmax to its scores
            weights.mul_(gradient.sub_((weights * gradient).sum(dim=-1, keepdim=True)))
            for_keys = (weights.to(q.dtype) @ frames[rows]).view_as(means[rows])  # [n, H, Q, d], of K^T q
            for_q[rows] = for_keys @ w_key.mT
            for_w_key += torch.einsum("nhqe,nhqd->hed", q[rows], for_keys)
        for_w_value = torch.einsum("nhqe,nhqd->hed", upstream, means)
        for_b_value = (upstream * sums).sum(dim=(0, 2))
        # a gradient for k as well: data parallel training waits for one
        return for_q, None, for_w_key.to(q.dtype), for_w_value, torch.zeros_like(b_value), for_b_value, None, None


def rows_of(q: torch.Tensor) -> Iterator[slice]:
    """The rows of a batch to be read at a time: few, whose weights take little memory, and one fits a CPU's caches."""
    size = 1 if q.device.type == "cpu" else ROWS_AT_A_TIME
    return (slice(start, start + size) for start in range(0, len(q), size))


def weights_of(q: torch.Tensor, frames: torch.Tensor, w_key: torch.Tensor) -> torch.Tensor:
    """How much each query [n, H, Q, h] attends to each frame [n, T, d]: float32 [n, H Q, T]."""
    return ((q @ w_key).flatten(1, 2) @ frames.mT).softmax(dim=-1, dtype=torch.float32)
