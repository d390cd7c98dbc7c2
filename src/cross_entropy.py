"""Cross entropy of hidden states projected onto the vocabulary, in bounded memory: logits of few rows at a time."""

import torch
import torch.nn.functional as F

ROWS_AT_A_TIME = 128  # of logits: 62 MiB in float32 for LLaDA's 126464 tokens


def projected_cross_entropy(hidden_states: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """`F.cross_entropy(F.linear(hidden_states, weight).float(), labels, reduction="none")`, with a frozen weight.

    A row's gradient depends on that row alone, so it is computed along with its logits, which are then let go: backward
    only scales it. Nothing is projected a second time, as it would be by checkpointing.

    Args:
        hidden_states: [M, d]; weight: [V, d], without gradient; labels: int64 [M], in 0 ... V - 1.

    Returns:
        float32 [M], differentiable with respect to `hidden_states`.
    """
    if weight.requires_grad:
        raise ValueError("the vocabulary projection requires a gradient, which this loss does not compute: freeze it")
    return _ProjectedCrossEntropy.apply(hidden_states, weight, labels)


class _ProjectedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden_states: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        losses = hidden_states.new_empty(len(labels), dtype=torch.float32)
        gradient = torch.empty_like(hidden_states) if ctx.needs_input_grad[0] else None
        for start in range(0, len(labels), ROWS_AT_A_TIME):
            rows = slice(start, start + ROWS_AT_A_TIME)
            label = labels[rows, None]
            logits = F.linear(hidden_states[rows], weight).float()  # [rows, V]
            normalizer = logits.logsumexp(dim=-1, keepdim=True)
            losses[rows] = (normalizer - logits.gather(1, label))[:, 0]
            if gradient is not None:
                # d loss / d logits = softmax - one-hot
                logits.sub_(normalizer).exp_().scatter_add_(1, label, torch.full_like(normalizer, -1))
                gradient[rows] = logits.to(weight.dtype) @ weight
        ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx, upstream: torch.Tensor) -> tuple[torch.Tensor | None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (upstream[:, None] * gradient).to(gradient.dtype), None, None
