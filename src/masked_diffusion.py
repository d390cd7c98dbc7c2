"""The training objective of masked diffusion, from clean text to the loss (LLaDA, arXiv 2502.09992, equation 3).

B samples of L text tokens, M of them masked; the answer region is the text after the prompt:

    1. diffusion time  t ~ U(0, 1), one a sample                            [B]     training_times, validation_maskings
    2. masking rate    t' = (1 - 1e-3) t + 1e-3                             [B]     mask_answers
    3. masks           each token of the answer region with probability t'  [B, L]  mask_answers
    4. prediction      one bidirectional pass; hidden states at the masks   [M, d]  diffusion_loss
    5. cross entropy   of the clean tokens, at the masks alone              [M]     diffusion_loss
    6. weights         CE / t', summed over each sample's masks             [B]     diffusion_loss
    7. denominator     the batch's tokens of the answer region (training)   scalar  diffusion_loss, share_denominator
                       the set's (validation)                               scalar  validation_loss

A data sampler takes step 1 and a collator steps 2 and 3, on the CPU: what is random about a sample is settled by its
`Masking`, so that it does not depend on workers, processes or interruptions. `DIFFAModel.forward` takes steps 4 to 7.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers.utils import ModelOutput

from src.configuration_DIFFA import IGNORE_INDEX, MIN_MASK_RATE, SEEDS
from src.splice import Spliced, position_ids_of

TIME_SAMPLING = ("uniform", "stratified")
LOSS_NORMALIZATION = ("published", "update")
ROWS_AT_A_TIME = 128  # of logits: 62 MiB in float32 for LLaDA's 126464 tokens


@dataclass(frozen=True)
class Masking:
    """What is random about one sample's masks."""

    time: float  # the diffusion time t, in (0, 1)
    seed: int  # of the generator that decides which tokens

    @classmethod
    def random(cls) -> "Masking":
        """From torch's global random state."""
        return cls(torch.rand(()).item(), int(torch.randint(SEEDS, ())))


@dataclass
class DiffusionOutput(ModelOutput):
    """The loss of a batch, and what it is made of; all float32, all differentiable."""

    loss: torch.Tensor | None = None  # scalar
    sample_losses: torch.Tensor | None = None  # [B], sum of CE / t': minus one draw of the ELBO of log p(answer)
    cross_entropy: torch.Tensor | None = None  # [M], of each masked token, row after row of the batch


# -- 1. diffusion times ------------------------------------------------------------------------------------------------


def training_times(
    random: np.random.Generator, num_samples: int, update_size: int, time_sampling: str = "uniform"
) -> np.ndarray:
    """The diffusion time t of each sample of an epoch, float64 [num_samples] in (0, 1); each is uniform.

    Args:
        num_samples: a multiple of `update_size`, the samples of one optimizer step.
        time_sampling: "uniform": each t on its own; "stratified": those of an update lie evenly over (0, 1), shifted
            by one random offset and shuffled. The second takes away what t itself adds to the variance of an update's
            loss: 1 to 6 % on the miniature, where the rest is which tokens are masked.

    Raises ValueError for another way of sampling.
    """
    if time_sampling not in TIME_SAMPLING:
        raise ValueError(f"time_sampling is {time_sampling!r}; expected one of {', '.join(TIME_SAMPLING)}")
    if time_sampling == "uniform":
        return random.random(num_samples)
    strata = np.tile(np.arange(update_size), (num_samples // update_size, 1))  # [updates, update_size]
    offsets = random.random((len(strata), 1))
    return ((random.permuted(strata, axis=1) + offsets) / update_size).ravel()


def validation_maskings(num_samples: int) -> list[Masking]:
    """The same for every evaluation: times on an even grid over (0, 1), and each sample's own masks."""
    strata = np.random.default_rng(0).permutation(num_samples)  # so that t has nothing to do with the order
    return [Masking((stratum + 0.5) / num_samples, seed) for seed, stratum in enumerate(strata.tolist())]


# -- 2. and 3. masking rates and masks (the forward process; LLaDA, algorithm 1) --------------------------------------


def mask_answers(
    clean_ids: torch.Tensor,  # int64 [B, L]
    answer: torch.Tensor,  # bool [B, L], the answer region
    mask_id: int,
    maskings: Sequence[Masking],  # B
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mask each token of the answer region with its sample's rate t'.

    Returns:
        `input_ids`, masks applied, and `labels`, the clean id where masked, else -100: both int64 [B, L]; and the
        masking rates t', float32 [B].
    """
    # 2. masking rates, never so low that 1 / t' is unbounded
    times = torch.tensor([masking.time for masking in maskings])  # [B]
    rates = (1 - MIN_MASK_RATE) * times + MIN_MASK_RATE  # [B]
    # 3. masks, each sample's from its own generator
    generators = [torch.Generator().manual_seed(masking.seed) for masking in maskings]
    noise = torch.stack([torch.rand(clean_ids.shape[1], generator=generator) for generator in generators])  # [B, L]
    masked = (noise < rates[:, None]) & answer  # [B, L]
    return *apply_masks(clean_ids, masked, mask_id), rates


def apply_masks(clean_ids: torch.Tensor, masked: torch.Tensor, mask_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids with the mask token where `masked`, and labels, the clean ids there, else -100: both int64, broadcast."""
    return clean_ids.masked_fill(masked, mask_id), clean_ids.masked_fill(~masked, IGNORE_INDEX)


# -- 4. to 7. prediction and loss -------------------------------------------------------------------------------------


def diffusion_loss(
    llm: nn.Module,  # frozen; reached through its forward pass and `output_weight` alone
    spliced: Spliced,  # the embeddings of `input_ids`, masks applied, with the audio's N embeddings put in
    labels: torch.Tensor,  # int64 [B, L], the clean id where masked, else -100
    rates: torch.Tensor,  # float32 [B], t'
    num_answer_tokens: torch.Tensor | int,  # scalar, of the batch (or its share of the update's)
) -> DiffusionOutput:
    """The sum of CE / t' over the masked tokens of a batch, by the tokens of its answer regions; and its parts."""
    row, column = (labels != IGNORE_INDEX).nonzero(as_tuple=True)  # [M], [M]: the masked tokens
    # 4. prediction, by one bidirectional pass; its last layer computes only what follows the first mask
    mask, position = spliced.attention_mask, spliced.text_columns[row, column]  # [B, L + N], [M]
    first = int(position.min()) if len(position) else 0
    hidden_states = llm(  # [B, L + N - first, d]
        spliced.inputs_embeds, None if bool(mask.all()) else mask, position_ids_of(mask), slice(first, None)
    )
    masked = hidden_states[row, position - first]  # [M, d]
    # 5. cross entropy; projecting every position onto the vocabulary would be the largest cost of a step
    cross_entropy = projected_cross_entropy(masked, llm.output_weight, labels[row, column])  # [M]
    # 6. weights: a low rate masks few tokens, and 1 / t' makes up for it
    weighted = cross_entropy / rates[row]  # [M]
    sample_losses = weighted.new_zeros(len(rates)).index_add(0, row, weighted)  # [B]
    # 7. denominator: all tokens that could have been masked
    return DiffusionOutput(weighted.sum() / num_answer_tokens, sample_losses, cross_entropy)


def share_denominator(answer_tokens: int, num_batches: int) -> float:
    """What each batch of an update divides by, so that the mean of their losses is that of all as one batch.

    Trainer and DeepSpeed take that mean, over gradient accumulation and processes. With each batch's own tokens, as
    published, it is a mean of means, in which a batch of short answers weighs as much as one of long ones.

    Args:
        answer_tokens: of the answer regions of the whole update, on all processes.
        num_batches: that the update consists of, on all processes.
    """
    return answer_tokens / num_batches


def validation_loss(sums: Collection[tuple[float, int]]) -> float:
    """The loss of a whole set, from each sample's sum of CE / t' and number of answer tokens.

    A quotient of sums: the same for any batch size and number of processes, where a mean of batches' means is not.
    Infinite, so that it is never the best, where there is no sample.
    """
    if not sums:
        return math.inf
    return math.fsum(loss for loss, _ in sums) / sum(tokens for _, tokens in sums)


# -- 5. cross entropy in bounded memory: logits of few rows at a time --------------------------------------------------


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
