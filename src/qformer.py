"""The acoustic adapter: learned queries read intermediate hidden states of the encoder (paper, section 3.2)."""

from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertEncoder

NUM_QFORMER_LAYERS = 2


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
        self.qformer = BertEncoder(
            BertConfig(
                hidden_size=encoder_dim,
                num_attention_heads=encoder_heads,
                num_hidden_layers=NUM_QFORMER_LAYERS,
                is_decoder=True,  # what BertEncoder calls a layer that may have cross-attention
                add_cross_attention=True,
            )
        )
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
