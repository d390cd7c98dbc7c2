"""LLaDA as its public code computes it, over the weights of the one here: what the ratios are held against.

Of that code (`modeling_llada.py` beside LLaDA-8B's weights) what runs with LLaDA-8B's configuration: each operation
into new memory, norms as squares, mean and root, the rotation's halves put together anew for queries and keys, logits
of every position in one product.
"""

import copy

import torch
import torch.nn.functional as F

from src.modeling_llada import LLaDABlock, LLaDAModel, RMSNorm, rotary_tables


class PublishedNorm(RMSNorm):
    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        x = hidden_states.float()
        x = x * torch.rsqrt(x.pow(2).mean(dim=-1, keepdim=True) + self.eps)
        return self.weight * x.to(hidden_states.dtype)


class PublishedBlock(LLaDABlock):
    def forward(
        self,
        hidden_states: torch.Tensor,  # [B, T, d]
        cos: torch.Tensor,  # [B, 1, T, head_dim]
        sin: torch.Tensor,  # same shape, both halves alike
        attention_bias: torch.Tensor | None,  # [B, 1, 1, T]
    ) -> torch.Tensor:
        h = self.attn_norm(hidden_states)
        q, k, v = (self.heads(projection(h)) for projection in (self.q_proj, self.k_proj, self.v_proj))
        q, k = (rotated(states, cos, sin) for states in (q, k))
        if self.grouped:
            k, v = (states.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for states in (k, v))
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=attention_bias)
        hidden_states = hidden_states + self.attn_out(attended.transpose(1, 2).contiguous().flatten(2))
        h = self.ff_norm(hidden_states)
        gate, up = self.ff_proj(h), self.up_proj(h)
        return hidden_states + self.ff_out(F.silu(gate) * up)


class PublishedLLaDA(LLaDAModel):
    def forward(
        self,
        inputs_embeds: torch.Tensor,  # [B, T, d]
        attention_mask: torch.Tensor | None = None,  # [B, T], nonzero where a position is real
        position_ids: torch.Tensor | None = None,  # [B, T]
    ) -> torch.Tensor:
        """Hidden states [B, T, d] after the final norm."""
        if position_ids is None:
            position_ids = torch.arange(inputs_embeds.shape[1], device=inputs_embeds.device)[None]
        cos, sin = rotary_tables(position_ids, self.head_dim, self.config.rope_theta)
        sin = sin[..., self.head_dim // 2 :].repeat(1, 1, 1, 2)  # there the first half's is negative
        attention_bias = None
        if attention_mask is not None and not attention_mask.all():
            padding = 1 - attention_mask[:, None, None, :].to(inputs_embeds.dtype)
            attention_bias = padding * torch.finfo(inputs_embeds.dtype).min
        hidden_states = inputs_embeds
        for block in self.blocks:
            hidden_states = block(hidden_states, cos, sin, attention_bias)
        return self.final_norm(hidden_states)

    def project(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Logits [..., embedding_size] of hidden states [..., d]."""
        return F.linear(hidden_states, self.output_weight)


def rotated(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Queries or keys [B, H, T, head_dim], turned by their positions, in float32."""
    x = states.float()
    first, second = x.chunk(2, dim=-1)
    return ((x * cos) + (torch.cat((-second, first), dim=-1) * sin)).to(states.dtype)


PUBLISHED = {RMSNorm: PublishedNorm, LLaDABlock: PublishedBlock, LLaDAModel: PublishedLLaDA}


def published_llada(llm: LLaDAModel) -> PublishedLLaDA:
    """The same parameters, in modules that compute as published."""
    twin = copy.deepcopy(llm, {id(parameter): parameter for parameter in llm.parameters()})
    for module in twin.modules():
        module.__class__ = PUBLISHED.get(type(module), type(module))
    return twin
