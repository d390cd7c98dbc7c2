"""The sampler: an answer starts as mask tokens and is unmasked block by block, the most confident positions first.

This is LLaDA's semi-autoregressive decoding (arXiv 2502.09992, section 2.4) as DIFFA publishes it, and what
Fast-dLLM (arXiv 2505.22618) adds: keys and values kept between steps, and several tokens fixed in one.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from src.configuration_DIFFA import SEEDS
from src.cuda_graphs import PassGraphs
from src.generation_options import GenerationOptions
from src.modeling_llada import KeyValueCache, LLaDAModel
from src.splice import position_ids_of

ROWS_AT_ONCE = 16  # of logits in float64: 16 MB with LLaDA's vocabulary


@dataclass(frozen=True)
class Prompt:
    """What stands before the answers, left-padded so that the answers of a batch line up."""

    inputs_embeds: torch.Tensor  # [B, P, d], the audio spliced in
    attention_mask: torch.Tensor  # [B, P], nonzero where real
    unconditional_embeds: torch.Tensor | None = None  # [B, P, d], its text masked; needed for guidance alone


@dataclass(frozen=True)
class Progress:
    """How far the answers of a batch are."""

    answer_ids: torch.Tensor  # int64 [B, max_new_tokens]; the mask token where nothing is fixed
    confidence: torch.Tensor  # float64 [B, max_new_tokens], in each token when it was fixed; 0 where none was computed
    forward_passes: torch.Tensor  # int64 [B], that each answer took so far: as many as it takes alone

    def clone(self) -> "Progress":
        return Progress(self.answer_ids.clone(), self.confidence.clone(), self.forward_passes.clone())


def generate(llm: LLaDAModel, prompt: Prompt, options: GenerationOptions) -> Progress:
    """Answer a batch: where `decode` ends."""
    return deque(decode(llm, prompt, options), maxlen=1).pop()


@torch.inference_mode()
def decode(llm: LLaDAModel, prompt: Prompt, options: GenerationOptions) -> Iterator[Progress]:
    """Answer a batch step by step; yields after every forward pass, and when answers stop early.

    A position that the mask token itself wins stays masked, as published: it uses up a place in the step's quota, and
    may be filled later. Parallel decoding leaves the block when nothing else is to be had.
    """
    mask_id, eos_id = llm.config.mask_token_id, llm.config.eos_token_id
    shape, device = (len(prompt.inputs_embeds), options.max_new_tokens), prompt.inputs_embeds.device
    progress = Progress(
        torch.full(shape, mask_id, dtype=torch.int64, device=device),
        torch.zeros(shape, dtype=torch.float64, device=device),
        torch.zeros(shape[0], dtype=torch.int64, device=device),
    )
    batch = Batch.of(llm, prompt, options)
    for start in range(0, options.max_new_tokens, options.block_length):
        block = slice(start, start + options.block_length)
        batch.graphs.forget()
        busy = torch.ones_like(batch.rows, dtype=torch.bool)  # [R], the answers with work left in this block
        for step, quota in enumerate(options.quotas()):
            # 1. where the masks are; those that earlier blocks left compete for the quota, as published, whenever they
            #    are computed at all
            everything = options.computes_everything(step)
            window = slice(0, block.stop) if everything else block
            ids = progress.answer_ids[batch.rows]  # [R, max_new_tokens]
            masked = (ids[:, window] == mask_id) & busy[:, None]  # [R, W]
            row, column = masked.nonzero(as_tuple=True)  # of M positions: a step's one wait for the GPU
            if len(row) == 0:
                break
            # 2. a candidate for each, and the confidence in it
            hidden_states = batch.forward(llm, ids, block, everything)  # [R or 2 R, W, d]
            logits = logits_at(llm, hidden_states, row, column, options.cfg_scale)  # [M, V]
            candidates, scores = pick(logits, masked, batch.generators, options)  # [M], [M]
            confidence = torch.full_like(masked, -torch.inf, dtype=torch.float64)
            confidence[row, column] = scores
            # 3. which to fix
            won_by_mask = torch.zeros_like(masked)
            won_by_mask[row, column] = candidates == mask_id
            chosen = choose(confidence, won_by_mask, quota, options)  # [R, W]
            # 4. fix them
            ids[:, window][row, column] = torch.where(chosen[row, column], candidates, mask_id)
            fixed = chosen & ~won_by_mask  # [R, W]
            progress.confidence[batch.rows, window] += confidence.where(fixed, 0)
            progress.forward_passes[batch.rows] += masked.any(dim=1)
            if options.parallel:
                busy = fixed.any(dim=1)
            # 5. as published, an answer may end here, within its block
            if options.stop_in_block:
                ended, overwritten = end_in_block(ids[:, block], mask_id, eos_id)  # [R], [R, block_length]
                progress.confidence[batch.rows, block] *= ~overwritten
                busy = busy & ~ended
            progress.answer_ids[batch.rows] = ids
            yield progress.clone()
        # 6. answers with an end token in the finished block leave the batch
        if options.stop_at_eos and block.stop < options.max_new_tokens:
            ended = (progress.answer_ids[batch.rows, block] == eos_id).any(dim=1)  # [R]
            if ended.any():
                if not options.stop_in_block:  # which leaves later blocks as masks
                    progress.answer_ids[batch.rows[ended], block.stop :] = eos_id
                    yield progress.clone()
                if ended.all():
                    return
                batch = batch.select(~ended)


@dataclass(frozen=True)
class Batch:
    """The answers that are not finished yet, and what the forward passes over them need, allocated once.

    With guidance there are two sequences an answer, the unconditional ones last.
    """

    rows: torch.Tensor  # int64 [R], which answers
    inputs_embeds: torch.Tensor  # [R or 2 R, T, d], T = P + max_new_tokens; passes fill in what they compute of answers
    attention_mask: torch.Tensor | None  # [R or 2 R, T]; None when nothing is padded
    position_ids: torch.Tensor  # same shape
    generators: Sequence[torch.Generator]  # one an answer
    caches: Sequence[KeyValueCache] | None  # one a layer
    keeps_suffix: bool  # whether the caches serve what comes after the block, too
    graphs: PassGraphs

    @classmethod
    def of(cls, llm: LLaDAModel, prompt: Prompt, options: GenerationOptions) -> "Batch":
        embeds, device = prompt.inputs_embeds, prompt.inputs_embeds.device
        num_rows = len(embeds)
        mask = torch.nn.functional.pad(prompt.attention_mask, (0, options.max_new_tokens), value=1)
        if options.cfg_scale > 0:
            if prompt.unconditional_embeds is None:
                raise ValueError("cfg_scale > 0 needs the prompt's unconditional_embeds")
            embeds, mask = torch.cat((embeds, prompt.unconditional_embeds)), mask.repeat(2, 1)
        embeds = torch.nn.functional.pad(embeds, (0, 0, 0, options.max_new_tokens))
        seed = options.seed if options.seed is not None else int(torch.randint(SEEDS, ()))
        return cls(
            rows=torch.arange(num_rows, device=device),
            inputs_embeds=embeds,
            attention_mask=None if bool(mask.all()) else mask,
            position_ids=position_ids_of(mask),
            generators=[torch.Generator(device).manual_seed(seed) for _ in range(num_rows)],
            caches=None if options.cache == "none" else llm.new_caches(embeds),
            keeps_suffix=options.cache == "dual",
            graphs=PassGraphs.of(device, 0 if options.parallel else len(options.quotas())),
        )

    def select(self, wanted: torch.Tensor) -> "Batch":
        """The batch without the answers where `wanted` [R] is False. The caches' content is lost, not their memory."""
        sequences = wanted.repeat(len(self.inputs_embeds) // len(self.rows))
        inputs_embeds = self.inputs_embeds[sequences]
        return replace(
            self,
            rows=self.rows[wanted],
            inputs_embeds=inputs_embeds,
            attention_mask=None if self.attention_mask is None else self.attention_mask[sequences],
            position_ids=self.position_ids[sequences],
            generators=[self.generators[row] for row in wanted.nonzero()[:, 0].tolist()],
            caches=None if self.caches is None else [cache.rows(len(inputs_embeds)) for cache in self.caches],
            graphs=PassGraphs(self.graphs.enabled),
        )

    def forward(self, llm: LLaDAModel, ids: torch.Tensor, block: slice, everything: bool) -> torch.Tensor:
        """Hidden states [R or 2 R, W, d] of the answers `ids` [R, max_new_tokens].

        With `everything`, one pass over the whole sequences, for the answers' columns up to the block's end; else, with
        caches that such a pass filled, over the block (and what follows it, if that is not kept), for the block alone.
        """
        branches, length = len(self.inputs_embeds) // len(ids), ids.shape[1]
        prompt_length = self.inputs_embeds.shape[1] - length
        columns = slice(0, length) if everything else block if self.keeps_suffix else slice(block.start, length)
        start, stop = prompt_length + columns.start, prompt_length + columns.stop
        self.inputs_embeds[:, start:stop] = llm.embed(ids[:, columns]).repeat(branches, 1, 1)
        wanted = slice(0, block.stop - block.start)
        if everything:
            start, wanted = 0, slice(prompt_length, prompt_length + block.stop)
        inputs_embeds, position_ids = self.inputs_embeds[:, start:stop], self.position_ids[:, start:stop]
        call = partial(llm, inputs_embeds, self.attention_mask, position_ids, wanted, self.caches, start)
        return self.graphs.run((start, wanted.stop), inputs_embeds.shape[:2].numel(), call)


def logits_at(
    llm: LLaDAModel, hidden_states: torch.Tensor, row: torch.Tensor, column: torch.Tensor, cfg_scale: float
) -> torch.Tensor:
    """Logits [M, V] at M positions of `hidden_states`, guided where they bring a second branch."""
    if cfg_scale == 0:
        return llm.project(hidden_states[row, column])
    branches = [branch[row, column] for branch in hidden_states.chunk(2)]
    conditional, unconditional = llm.project(torch.cat(branches)).chunk(2)
    return unconditional + (cfg_scale + 1) * (conditional - unconditional)


def pick(
    logits: torch.Tensor, masked: torch.Tensor, generators: Sequence[torch.Generator], options: GenerationOptions
) -> tuple[torch.Tensor, torch.Tensor]:
    """A candidate token for each masked position, and the confidence in it (float64), both [M].

    Random numbers are drawn for the positions that are masked, True in `masked` [R, W], and for no others.
    """
    per_row = None
    if options.temperature > 0 or options.remasking == "random":
        per_row = list(zip(masked.sum(dim=1).tolist(), generators, strict=True))
    if options.temperature > 0:
        rows = logits.split([count for count, _ in per_row])
        samples = [gumbel_max(x, options.temperature, g) for x, (_, g) in zip(rows, per_row, strict=True)]
        candidates = torch.cat(samples)
    else:
        candidates = logits.max(dim=-1).indices  # the first of equals, as argmax, and on CPUs much faster
    if options.remasking == "random":
        return candidates, torch.cat([uniform(g, (count,)) for count, g in per_row])
    return candidates, probabilities(logits, candidates)


def gumbel_max(logits: torch.Tensor, temperature: float, generator: torch.Generator) -> torch.Tensor:
    """A sample from each row of logits [M, V]: the argmax of exp(logits) / (-log u)^T, u uniform.

    In float64, because lower precision changes which tokens win (arXiv 2409.02908).
    """
    noise = -uniform(generator, logits.shape).log()
    return (logits.double().exp() / noise**temperature).argmax(dim=-1)


def uniform(generator: torch.Generator, size: Sequence[int]) -> torch.Tensor:
    """float64 in [0, 1)."""
    return torch.rand(size, dtype=torch.float64, device=generator.device, generator=generator)


def probabilities(logits: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
    """The float64 softmax of logits [M, V] at one candidate a row: [M]. Only its denominator takes a whole row."""
    highest = logits.amax(dim=-1, keepdim=True).double()  # [M, 1]
    sums = [
        rows.to(torch.float64, copy=True).sub_(top).exp_().sum(dim=-1, keepdim=True)
        for rows, top in zip(logits.split(ROWS_AT_ONCE), highest.split(ROWS_AT_ONCE), strict=True)
    ]
    return ((logits.gather(-1, candidates[:, None]) - highest).exp() / torch.cat(sums))[:, 0]


def choose(confidence: torch.Tensor, won_by_mask: torch.Tensor, quota: int, options: GenerationOptions) -> torch.Tensor:
    """Boolean [R, W]: the positions to fix in this step, by `confidence` [R, W] (float64, -inf where nothing is open).

    Parallel decoding passes over positions that the mask token wins. The published decoder of DIFFA-2 (`last_rank`)
    gives them ranks as well, which is why it may go on for ever; here, a row that would fix nothing passes them over.
    """
    if not options.parallel:
        return select(confidence, quota, options)
    passing_over = select(confidence.masked_fill(won_by_mask, -torch.inf), quota, options)
    if not options.last_rank:
        return passing_over
    chosen = select(confidence, quota, options)
    fixes_some = (chosen & ~won_by_mask).any(dim=1, keepdim=True)  # [R, 1]
    return torch.where(fixes_some, chosen, passing_over)


def select(confidence: torch.Tensor, quota: int, options: GenerationOptions) -> torch.Tensor:
    """Boolean [R, W]: the positions to fix, by `confidence` [R, W] (float64, -inf where there is no candidate).

    They are the `quota` most confident of each row, and in parallel decoding all that its rule allows besides. Of
    equals the first is taken, so that the choice depends neither on the batch nor on the sorting algorithm.
    """
    ranked, order = confidence.sort(dim=-1, descending=True, stable=True)  # c_1 >= c_2 >= ...
    rank = torch.arange(1, ranked.shape[1] + 1, device=ranked.device)
    chosen = rank <= quota
    if options.threshold is not None:
        chosen = chosen | (ranked >= options.threshold)
    elif options.factor is not None:
        chosen = chosen | ((rank + 1) * (1 - ranked) <= options.factor)  # true up to some rank: the left side grows
    if options.last_rank:
        is_last = rank == (ranked > -torch.inf).sum(dim=-1, keepdim=True)
        chosen = chosen | (is_last & chosen.roll(1, dims=-1))  # rolled: whether the rank before is chosen
    chosen = chosen & (ranked > -torch.inf)
    return torch.zeros_like(chosen).scatter(-1, order, chosen)


def end_in_block(block_ids: torch.Tensor, mask_id: int, eos_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Write end tokens from the first one on in each row of `block_ids` [R, block_length] where no mask stands before.

    Returns which rows ended there [R], and what was overwritten [R, block_length].
    """
    from_end_on = (block_ids == eos_id).cumsum(dim=1) > 0
    ended = from_end_on[:, -1] & ~((block_ids == mask_id) & ~from_end_on).any(dim=1)
    overwritten = ended[:, None] & from_end_on & (block_ids != eos_id)
    block_ids.masked_fill_(overwritten, eos_id)
    return ended, overwritten
