"""The objective of preference optimisation, from two answers to the loss and its gradient (VRPO, arXiv 2505.19223).

B pairs of answers to one prompt about one clip, a better one (chosen) and a worse one (rejected); K draws of masks for
each; an answer region of l tokens. The policy is the model that is trained, the reference what it was at the start.

    1. masked tokens   k of each draw uniform in {1 ... l}                  [2, K, B]     exact_masks
    2. masks           k of the l positions, a uniformly random subset      [2, K, B, L]  exact_masks
    3. masking rate    p = k / l                                            [2, K, B]     exact_masks
    4. cross entropy   of the clean tokens at the masks, summed, by p;      scalar        elbo
                       the negative is one draw of ELBO(answer), an estimate that needs fewer draws than one with
                       independent masks (LLaDA, arXiv 2502.09992, equation 6)
    5. ELBO estimates  means over the draws, of policy and reference        [2, B], twice preference_loss
    6. gains           ELBO of the policy less that of the reference        [2, B]        margins_of
    7. margins         beta (gain of the chosen - gain of the rejected)     [B]           margins_of
    8. loss            -log sigmoid(margin), the mean over the pairs        scalar        losses_of
                       (DPO, arXiv 2305.18290, equation 7, with ELBOs in place of log likelihoods)

A collator takes steps 1 to 3, from each sample's own seed; `PreferenceModel.forward` takes the rest. Policy and
reference see the same masks: what these add to an ELBO falls out of the gain.

Of the loss's gradient, step 8 needs all draws, and steps 4 one draw each. Since the loss depends on the draws of an
answer through their mean alone, all have the same weight d loss / d ELBO: gradients of the ELBO are added up draw by
draw, and weighted once the pair's margin is known. So one pass's graph is in memory at a time, not those of 2 K passes
(a pass may take several draws, which is faster where one is little work), nothing is computed twice, and the gradient
is that of the plain sum. What comes out is a loss whose gradient is known, so that the caller's `backward` happens once
a step, as Trainer, DDP and DeepSpeed have it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from transformers.utils import ModelOutput

from src.configuration_DIFFA import IGNORE_INDEX
from src.lora import REFERENCE, factors_in_use
from src.masked_diffusion import diffusion_loss
from src.splice import splice

SIDES = CHOSEN, REJECTED = 0, 1  # of a pair: the first axis of what a batch holds


@dataclass(frozen=True)
class PreferenceObjective:
    """What the loss is."""

    beta: float = 0.2  # how much a gain of the policy over the reference counts; as published
    sft_weight: float = 0.0  # of the chosen answers' own loss, as stage 3 has it; published: none


@dataclass
class PreferenceOutput(ModelOutput):
    """The loss of a batch of pairs, and what it is made of: float32, without gradients but for the loss."""

    loss: torch.Tensor | None = None  # scalar
    losses: torch.Tensor | None = None  # [B], of each pair
    margins: torch.Tensor | None = None  # [B], above 0 where the policy prefers the chosen answer more than before
    policy_elbos: torch.Tensor | None = None  # [2, K, B], of chosen and rejected answers, by draw
    reference_elbos: torch.Tensor | None = None  # [2, K, B]

    def figures(self) -> dict[str, torch.Tensor]:
        """What is logged of each pair, float32 [B]; variances over the draws need two of them at least."""
        gains = self.policy_elbos - self.reference_elbos  # [2, K, B]
        figures = {"margin": self.margins, "chosen_wins": (self.margins > 0).float()}
        figures |= {"chosen_gain": gains[CHOSEN].mean(dim=0), "rejected_gain": gains[REJECTED].mean(dim=0)}
        if gains.shape[1] > 1:
            variances = gains.var(dim=1)  # [2, B], of one draw
            figures |= {"chosen_gain_variance": variances[CHOSEN], "rejected_gain_variance": variances[REJECTED]}
        return figures


# -- 1. to 3. masks ----------------------------------------------------------------------------------------------------


def exact_masks(
    answer: torch.Tensor,  # bool [L], the answer region
    num_draws: int,
    stratified: bool,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks of exactly k of an answer's l tokens, bool [K, L], and their rates k / l, float32 [K].

    k is uniform in {1 ... l} in every draw: on its own in each, or (`stratified`) with the draws spread evenly over
    the range, which leaves less to chance. What other answers a batch holds changes nothing.
    """
    length = int(answer.sum())  # l
    times = torch.rand(num_draws, generator=generator)  # [K]
    if stratified:
        times = (torch.randperm(num_draws, generator=generator) + times) / num_draws
    counts = (times * length).long().clamp(max=length - 1) + 1  # [K], k
    order = torch.rand(num_draws, length, generator=generator).argsort(dim=1).argsort(dim=1)  # [K, l]
    masks = torch.zeros(num_draws, len(answer), dtype=torch.bool)
    masks[:, answer] = order < counts[:, None]
    return masks, counts / length


# -- 4. cross entropy --------------------------------------------------------------------------------------------------


def elbo(
    llm: nn.Module,
    audio_embeds: torch.Tensor,  # [1, N, d]
    audio_position: torch.Tensor,  # [1]
    input_ids: torch.Tensor,  # int64 [k, L], masks applied, without padding
    labels: torch.Tensor,  # int64 [k, L], the clean id where masked, else -100
    rates: torch.Tensor,  # float32 [k], p
) -> torch.Tensor:
    """Some draws of the ELBO of an answer's log likelihood: minus the masked tokens' cross entropy by p, [k]."""
    num_draws = len(input_ids)
    audio_embeds, audio_position = audio_embeds.expand(num_draws, -1, -1), audio_position.expand(num_draws)
    lengths = torch.full_like(audio_position, audio_embeds.shape[1])
    text_embeds = llm.embed(input_ids)  # [k, L, d]
    spliced = splice(text_embeds, torch.ones_like(input_ids), audio_embeds, lengths, audio_position, "right")
    return -diffusion_loss(llm, spliced, labels, rates, num_answer_tokens=1).sample_losses


# -- 5. to 8. ELBOs, margins, loss -------------------------------------------------------------------------------------


def margins_of(policy_elbos: torch.Tensor, reference_elbos: torch.Tensor, beta: float) -> torch.Tensor:
    """Margins [B] of ELBO estimates [2, B]."""
    gains = policy_elbos - reference_elbos  # [2, B]
    return beta * (gains[CHOSEN] - gains[REJECTED])


def losses_of(
    margins: torch.Tensor,  # [B]
    policy_elbos: torch.Tensor,  # [2, B]
    num_chosen_tokens: torch.Tensor,  # [B], l of the chosen answers
    sft_weight: float,
) -> torch.Tensor:
    """The loss of each pair, [B]: its preference, and sft_weight times the chosen answer's loss for each token."""
    return -F.logsigmoid(margins) - sft_weight * policy_elbos[CHOSEN] / num_chosen_tokens


def preference_loss(
    llm: nn.Module,  # with LoRA factors, and those of the reference (`lora.REFERENCE`)
    policy_audio: torch.Tensor,  # [B, N, d], the policy's embeddings of the clips
    reference_audio: torch.Tensor,  # [B, N, d]
    audio_lengths: torch.Tensor,  # [B], of N
    audio_position: torch.Tensor,  # [B], the audio goes before this text token
    input_ids: torch.Tensor,  # int64 [2, K, B, L], masks applied
    labels: torch.Tensor,  # int64 [2, K, B, L], the clean id where masked, else -100
    rates: torch.Tensor,  # float32 [2, K, B], p
    text_lengths: torch.Tensor,  # int64 [2, B], of L
    objective: PreferenceObjective,
    draws_at_once: int = 1,  # in one pass; activations of so many are in memory
) -> PreferenceOutput:
    """The loss of a batch; where gradients are enabled, its gradient to `policy_audio` and the LLM's trained factors.

    Every text runs alone, or with its own other draws, which are as long: without padding, so that audio and text of
    others are neither attended to nor counted.
    """
    trained = [parameter for parameter in llm.parameters() if parameter.requires_grad]
    gradient = _Gradient(trained, policy_audio) if torch.is_grad_enabled() else None
    batch_size, audio_columns = len(audio_lengths), audio_lengths.tolist()
    text_columns = text_lengths.tolist()  # [2][B]
    losses, margins, elbos = [], [], rates.new_empty(2, *rates.shape)  # policy's and reference's, [2, 2, K, B]
    for row in range(batch_size):
        clip = (slice(row, row + 1), slice(audio_columns[row]))
        heard = policy_audio[clip].detach().requires_grad_(gradient is not None)  # [1, N, d]
        position = audio_position[row : row + 1]
        sums: list[list[torch.Tensor]] = [[], []]  # of the gradients of both answers' ELBOs, over the draws
        for side in SIDES:
            text = slice(text_columns[side][row])
            for first in range(0, rates.shape[1], draws_at_once):
                place = (side, slice(first, first + draws_at_once), row)
                masked = (position, input_ids[place][:, text], labels[place][:, text], rates[place])
                with torch.no_grad(), factors_in_use(llm, REFERENCE):
                    elbos[(1, *place)] = elbo(llm, reference_audio[clip], *masked)
                drawn = elbo(llm, heard, *masked)  # [k]
                elbos[(0, *place)] = drawn.detach()
                if gradient is not None:
                    add_gradients(sums[side], drawn.sum(), [heard, *trained])
        with torch.enable_grad():  # of one pair's loss, to the means over its draws
            means = elbos[..., row : row + 1].mean(dim=2)  # [2, 2, 1]
            policy = means[0].requires_grad_()  # [2, 1]
            num_chosen_tokens = (labels[CHOSEN, 0, row] != IGNORE_INDEX).sum() / rates[CHOSEN, 0, row]
            margin = margins_of(policy, means[1], objective.beta)
            loss = losses_of(margin, policy, num_chosen_tokens, objective.sft_weight)  # [1]
            weights = torch.autograd.grad(loss, policy)[0][:, 0]  # [2]
        losses.append(loss.detach())
        margins.append(margin.detach())
        if gradient is not None:
            gradient.add(clip, sums, weights / (batch_size * rates.shape[1]))
    pair_losses = torch.cat(losses)
    loss = pair_losses.mean()
    if gradient is not None:
        loss = gradient.give(loss)
    return PreferenceOutput(loss, pair_losses, torch.cat(margins), *elbos)


# -- a loss whose gradient is known ------------------------------------------------------------------------------------


def add_gradients(sums: list[torch.Tensor], value: torch.Tensor, inputs: Sequence[torch.Tensor]) -> None:
    """Add the gradients of a scalar to `sums`, float32, which are empty before the first; its graph goes."""
    with torch.autocast(value.device.type, enabled=False):  # backward is no place for it
        gradients = torch.autograd.grad(value, inputs)
    if not sums:
        sums += [gradient.float() for gradient in gradients]
    else:
        for total, gradient in zip(sums, gradients, strict=True):
            total.add_(gradient)


class _Gradient:
    """The gradient of a batch's loss to the LLM's trained factors and to the embeddings of the clips, float32."""

    def __init__(self, trained: Sequence[nn.Parameter], audio: torch.Tensor) -> None:
        self.inputs = [audio, *trained]
        self.audio = torch.zeros_like(audio, dtype=torch.float32)  # [B, N, d]
        self.factors: list[torch.Tensor] = []

    def add(self, clip: tuple[slice, slice], sums: Sequence[Sequence[torch.Tensor]], weights: torch.Tensor) -> None:
        """Add a pair's, whose answers' `sums` of gradients count with `weights` [2]."""
        for (audio, *factors), weight in zip(sums, weights, strict=True):
            self.audio[clip] += weight * audio
            if not self.factors:
                self.factors = [weight * factor for factor in factors]
            else:
                for total, factor in zip(self.factors, factors, strict=True):
                    total.addcmul_(factor, weight)

    def give(self, loss: torch.Tensor) -> torch.Tensor:
        return _WithKnownGradient.apply(loss, [self.audio, *self.factors], *self.inputs)


class _WithKnownGradient(torch.autograd.Function):
    """A scalar whose gradients to some inputs have been computed."""

    @staticmethod
    def forward(ctx, value: torch.Tensor, gradients: Sequence[torch.Tensor], *inputs: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(*gradients)
        ctx.dtypes = [tensor.dtype for tensor in inputs]
        ctx.shared_out = [tensor for tensor in inputs if hasattr(tensor, "ds_status")]
        return value.clone()

    @staticmethod
    def backward(ctx, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        if ctx.shared_out:  # by DeepSpeed ZeRO-3, over processes; gradients are taken by parameters that are whole
            ctx.shared_out[0].all_gather(ctx.shared_out)
        pairs = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return None, None, *((upstream * gradient).to(dtype) for gradient, dtype in pairs)
