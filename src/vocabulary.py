"""Hidden states against the vocabulary: the projection, each row's likeliest token, and its softmax's denominator.

A decoding step asks for few rows of many logits. Where a CPU computes them, what counts is that the weights are read
once, and at the speed of its memory, and that what is done to the logits finds them in its cache.
"""

import torch
import torch.nn.functional as F

from src.precision import WITHOUT_FLOAT64

# Rows that a CPU's matrix product (MKL's, float32) takes 2 to 3 times as long for as reading the weights does, unless
# the weights come in slices so small that it does not copy them first. docs/performance.md has the times.
FEW_ROWS = range(2, 16)
TOKENS_AT_ONCE = 64  # of the vocabulary: such a slice, and the group in which the highest logit is looked for
# Rows of logits in float64 at once, a megabyte each with LLaDA's vocabulary: a CPU's cache holds a few; elsewhere, few
# operations are what counts.
ROWS_AT_ONCE_ON_CPU, ROWS_AT_ONCE = 4, 256


def by_cache(tensor: torch.Tensor) -> bool:
    """Whether the cache decides how fast a tensor is worked on, and not the number of operations."""
    return tensor.device.type == "cpu"


def project(hidden_states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Logits [..., V] of hidden states [..., d], by the weight [V, d] of the vocabulary, in their dtype."""
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


def likeliest(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The highest of each row of logits [M, V] and its token, both [M]; of equals the first."""
    num_groups = logits.shape[1] // TOKENS_AT_ONCE
    if not by_cache(logits) or num_groups * TOKENS_AT_ONCE < logits.shape[1] or num_groups < 2:
        return logits.max(dim=1)
    # without indices a CPU finds it ten times as fast: so first the group that it is in
    groups = logits.unflatten(1, (num_groups, TOKENS_AT_ONCE))  # [M, G, 64]
    highest, group = groups.amax(dim=2).max(dim=1)  # [M], [M]
    within = groups[torch.arange(len(logits)), group].argmax(dim=1)  # [M]
    return highest, group * TOKENS_AT_ONCE + within


def sums_of_exponentials(logits: torch.Tensor, highest: torch.Tensor) -> torch.Tensor:
    """The denominator of a float64 softmax, [M]: sums of exp(x - `highest` [M]) over each row of `logits` [M, V]."""
    at_once = ROWS_AT_ONCE_ON_CPU if by_cache(logits) else ROWS_AT_ONCE
    sums = torch.empty_like(highest, dtype=WITHOUT_FLOAT64.get(logits.device.type, torch.float64))
    for rows, top, out in zip(logits.split(at_once), highest[:, None].split(at_once), sums.split(at_once), strict=True):
        torch.sum(rows.to(sums.dtype, copy=True).sub_(top).exp_(), dim=-1, out=out)
    return sums
