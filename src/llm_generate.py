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
from src.cuda_graphs import MIN_PASSES, PassGraphs
from src.generation_options import GenerationOptions
from src.modeling_llada import TOKENS_AT_ONCE, KeyValueCache, LLaDAModel, by_cache
from src.precision import WITHOUT_FLOAT64
from src.splice import position_ids_of

# Rows of logits in float64 at once, a megabyte each with LLaDA's vocabulary: a CPU's cache holds a few; elsewhere, few
# operations are what counts.
ROWS_AT_ONCE_ON_CPU, ROWS_AT_ONCE = 4, 256


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

    @classmethod
    def start(cls, llm: LLaDAModel, prompt: Prompt, options: GenerationOptions) -> "Progress":
        shape, device = (len(prompt.inputs_embeds), options.max_new_tokens), prompt.inputs_embeds.device
        return cls(
            torch.full(shape, llm.config.mask_token_id, dtype=torch.int64, device=device),
            torch.zeros(shape, dtype=WITHOUT_FLOAT64.get(device.type, torch.float64), device=device),
            torch.zeros(shape[0], dtype=torch.int64, device=device),
        )

    def clone(self) -> "Progress":
        return Progress(self.answer_ids.clone(), self.confidence.clone(), self.forward_passes.clone())

    def select(self, rows: torch.Tensor) -> "Progress":
        """A copy of some answers, `rows` int64 [R]."""
        return Progress(self.answer_ids[rows], self.confidence[rows], self.forward_passes[rows])

    def put(self, rows: torch.Tensor, answers: "Progress") -> None:
        """Write over some answers, `rows` int64 [R]; where these are its own, nothing is to be done."""
        if answers is self:
            return
        self.answer_ids[rows] = answers.answer_ids
        self.confidence[rows] = answers.confidence
        self.forward_passes[rows] = answers.forward_passes


def generate(llm: LLaDAModel, prompt: Prompt, options: GenerationOptions) -> Progress:
    """Answer a batch: where `decode` ends."""
    return deque(decode(llm, prompt, options), maxlen=1).pop()


@torch.inference_mode()
def decode(llm: LLaDAModel, prompt: Prompt, options: GenerationOptions) -> Iterator[Progress]:
    """Answer a batch step by step; yields after every forward pass, and when answers stop early.

    What is yielded is one object whose tensors every step changes: `clone` it to keep it.

    A position that the mask token itself wins stays masked, as published: it uses up a place in the step's quota, and
    may be filled later. Parallel decoding leaves the block when nothing else is to be had.
    """
    mask_id, eos_id = llm.config.mask_token_id, llm.config.eos_token_id
    batch, progress = Batch.of(llm, prompt, options), Progress.start(llm, prompt, options)
    answers = progress  # the batch's; a copy of them, once others have left it
    for start in range(0, options.max_new_tokens, options.block_length):
        block = slice(start, start + options.block_length)
        if batch.graphs is not None:
            batch.graphs.forget()
        busy = torch.ones_like(batch.rows, dtype=torch.bool)  # [R], the answers with work left in this block
        for step, quota in enumerate(options.quotas()):
            # 1. where the masks are; those that earlier blocks left compete for the quota, as published, whenever they
            #    are computed at all
            everything = options.computes_everything(step)
            window = slice(0, block.stop) if everything else block
            ids, known_confidence = answers.answer_ids[:, window], answers.confidence[:, window]  # [R, W], written to
            masked = (ids == mask_id) & busy[:, None]  # [R, W]
            row, column = masked.nonzero(as_tuple=True)  # of M positions: a step's one wait for the GPU
            if len(row) == 0:
                break
            counts = masked_counts(masked, row) if options.draws else None  # before the pass, which is not waited for
            # 2. a candidate for each, and the confidence in it
            hidden_states = batch.forward(llm, answers.answer_ids, block, everything)  # [R or 2 R, W, d]
            logits = logits_at(llm, hidden_states, row, column, options.cfg_scale)  # [M, V]
            candidates, scores = pick(logits, counts, batch.generators, options)  # [M], [M]
            candidate_ids = ids.index_put((row, column), candidates)  # [R, W]
            confidence = torch.full_like(known_confidence, -torch.inf).index_put_((row, column), scores)  # [R, W]
            # 3. which to fix
            is_token = candidate_ids != mask_id  # [R, W]
            chosen = choose(confidence, is_token, quota, options)  # [R, W]
            # 4. fix them
            fixed = chosen & is_token  # [R, W]
            torch.where(chosen, candidate_ids, ids, out=ids)
            torch.where(fixed, confidence, known_confidence, out=known_confidence)
            answers.forward_passes.add_(masked.any(dim=1))
            if options.parallel:
                busy = fixed.any(dim=1)
            # 5. as published, an answer may end here, within its block
            if options.stop_in_block:
                ended, overwritten = end_in_block(answers.answer_ids[:, block], mask_id, eos_id)  # [R], [R, n]
                answers.confidence[:, block].masked_fill_(overwritten, 0)
                busy = busy & ~ended
            progress.put(batch.rows, answers)
            yield progress
        # 6. answers with an end token in the finished block leave the batch
        if options.stop_at_eos and block.stop < options.max_new_tokens:
            ended = (answers.answer_ids[:, block] == eos_id).any(dim=1)  # [R]
            staying = (~ended).nonzero()[:, 0]  # [S], of R
            if len(staying) == len(ended):
                continue
            if not options.stop_in_block:  # which leaves later blocks as masks
                answers.answer_ids[:, block.stop :].masked_fill_(ended[:, None], eos_id)
                progress.put(batch.rows, answers)
                yield progress
            if len(staying) == 0:
                return
            batch, answers = batch.select(staying), answers.select(staying)


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
    graphs: PassGraphs | None  # None where passes are few, or not a GPU's

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
            graphs=graphs_for(device, options),
        )

    def select(self, staying: torch.Tensor) -> "Batch":
        """The batch of the answers `staying` (int64 [S], of R). The caches' content is lost, not their memory."""
        branches = len(self.inputs_embeds) // len(self.rows)
        sequences = torch.cat([staying + branch * len(self.rows) for branch in range(branches)])
        return replace(
            self,
            rows=self.rows[staying],
            inputs_embeds=self.inputs_embeds[sequences],
            attention_mask=None if self.attention_mask is None else self.attention_mask[sequences],
            position_ids=self.position_ids[sequences],
            generators=[self.generators[row] for row in staying.tolist()],
            caches=None if self.caches is None else [cache.rows(len(sequences)) for cache in self.caches],
            graphs=None if self.graphs is None else PassGraphs(),
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
        self.inputs_embeds.unflatten(0, (branches, -1))[:, :, start:stop] = llm.embed(ids[:, columns])
        wanted = slice(0, block.stop - block.start)
        if everything:
            start, wanted = 0, slice(prompt_length, prompt_length + block.stop)
        inputs_embeds, position_ids = self.inputs_embeds[:, start:stop], self.position_ids[:, start:stop]
        call = partial(llm, inputs_embeds, self.attention_mask, position_ids, wanted, self.caches, start)
        if self.graphs is None:
            return call()
        return self.graphs.run((start, wanted.stop), inputs_embeds.shape[:2].numel(), call)


def graphs_for(device: torch.device, options: GenerationOptions) -> PassGraphs | None:
    """Where to keep the graphs of passes that repeat; None where none are worthwhile."""
    worthwhile = device.type == "cuda" and not options.parallel and len(options.quotas()) >= MIN_PASSES
    return PassGraphs() if worthwhile else None


def masked_counts(masked: torch.Tensor, row: torch.Tensor) -> list[int]:
    """How many positions of each row are masked: True in `masked` [R, W], whose places are in the rows `row` [M]."""
    return [len(row)] if len(masked) == 1 else masked.sum(dim=1).tolist()


def logits_at(
    llm: LLaDAModel, hidden_states: torch.Tensor, row: torch.Tensor, column: torch.Tensor, cfg_scale: float
) -> torch.Tensor:
    """Logits [M, V] at M positions of `hidden_states` [R or 2 R, W, d], guided where they bring a second branch."""
    branches = hidden_states.unflatten(0, (2 if cfg_scale > 0 else 1, -1))  # [1 or 2, R, W, d]
    logits = llm.project(branches[:, row, column].flatten(0, 1))  # [M or 2 M, V]
    if cfg_scale == 0:
        return logits
    conditional, unconditional = logits.chunk(2)
    return unconditional + (cfg_scale + 1) * (conditional - unconditional)


def pick(
    logits: torch.Tensor,
    counts: Sequence[int] | None,
    generators: Sequence[torch.Generator],
    options: GenerationOptions,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A candidate token for each masked position, and the confidence in it (float64), both [M], from logits [M, V].

    Random numbers are drawn for the positions that are masked, `counts` in each row, and for no others.
    """
    highest, candidates = likeliest(logits)
    if options.temperature > 0:
        rows = zip(logits.split(counts), generators, strict=True)
        candidates = torch.cat([gumbel_max(x, options.temperature, generator) for x, generator in rows])
    if options.remasking == "random":
        return candidates, torch.cat([uniform(g, (count,)) for count, g in zip(counts, generators, strict=True)])
    sums = sums_of_exponentials(logits, highest)
    if options.temperature == 0:
        return candidates, sums.reciprocal()  # the highest logit's own exponential is 1
    return candidates, (logits.gather(-1, candidates[:, None])[:, 0] - highest.to(sums.dtype)).exp() / sums


def likeliest(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The highest of each row of logits [M, V] and its token, both [M]; of equals the first."""
    num_groups = logits.shape[1] // TOKENS_AT_ONCE
    if not by_cache(logits) or num_groups * TOKENS_AT_ONCE < logits.shape[1] or num_groups < 2:
        return logits.max(dim=1)
    # without indices a CPU finds it ten times as fast: so first the group that it is in
    groups = logits.unflatten(1, (num_groups, TOKENS_AT_ONCE))  # [M, G, 64]
    highest, group = groups.amax(dim=2).max(dim=1)  # [M], [M]
    within = groups[torch.arange(len(logits), device=logits.device), group].argmax(dim=1)  # [M]
    return highest, group * TOKENS_AT_ONCE + within


def gumbel_max(logits: torch.Tensor, temperature: float, generator: torch.Generator) -> torch.Tensor:
    """A sample from each row of logits [M, V]: the argmax of exp(logits) / (-log u)^T, u uniform; of its logarithm,
    since the exponentials of logits that guidance enlarges overflow.

    In float64, because lower precision changes which tokens win (arXiv 2409.02908).
    """
    noise = -uniform(generator, logits.shape).log()
    return (logits.to(noise.dtype) - temperature * noise.log()).argmax(dim=-1)


def uniform(generator: torch.Generator, size: Sequence[int]) -> torch.Tensor:
    """float64 in [0, 1)."""
    dtype = WITHOUT_FLOAT64.get(generator.device.type, torch.float64)
    return torch.rand(size, dtype=dtype, device=generator.device, generator=generator)


def sums_of_exponentials(logits: torch.Tensor, highest: torch.Tensor) -> torch.Tensor:
    """The denominator of a float64 softmax, [M]: sums of exp(x - `highest` [M]) over each row of `logits` [M, V]."""
    at_once = ROWS_AT_ONCE_ON_CPU if by_cache(logits) else ROWS_AT_ONCE
    sums = torch.empty_like(highest, dtype=WITHOUT_FLOAT64.get(logits.device.type, torch.float64))
    for rows, top, out in zip(logits.split(at_once), highest[:, None].split(at_once), sums.split(at_once), strict=True):
        torch.sum(rows.to(sums.dtype, copy=True).sub_(top).exp_(), dim=-1, out=out)
    return sums


def choose(confidence: torch.Tensor, is_token: torch.Tensor, quota: int, options: GenerationOptions) -> torch.Tensor:
    """Boolean [R, W]: the positions to fix in this step, by `confidence` [R, W] (float64, -inf where nothing is open).

    Parallel decoding passes over positions that the mask token wins, where `is_token` [R, W] is False. The published
    decoder of DIFFA-2 (`last_rank`) gives them ranks as well, which is why it may go on for ever; here, a row that
    would fix nothing passes them over.
    """
    if not options.parallel:
        return select(confidence, quota, options)
    of_tokens = confidence.where(is_token, -torch.inf)
    if not options.last_rank:
        return select(of_tokens, quota, options)
    chosen, passing_over = select(torch.cat((confidence, of_tokens)), quota, options).chunk(2)
    fixes_some = (chosen & is_token).any(dim=1, keepdim=True)  # [R, 1]
    return torch.where(fixes_some, chosen, passing_over)


def select(confidence: torch.Tensor, quota: int, options: GenerationOptions) -> torch.Tensor:
    """Boolean [R, W]: the positions to fix, by `confidence` [R, W] (float64, -inf where there is no candidate).

    They are the `quota` most confident of each row, and in parallel decoding all that its rule allows besides. Of
    equals the first is taken, so that the choice depends neither on the batch nor on the sorting algorithm.
    """
    ranked, order = confidence.sort(dim=-1, descending=True, stable=True)  # c_1 >= c_2 >= ...
    if options.threshold is not None:
        chosen = ranked >= options.threshold
    elif options.factor is not None:
        rank = torch.arange(1, ranked.shape[1] + 1, device=ranked.device)
        chosen = (rank + 1) * (1 - ranked) <= options.factor  # true up to some rank: the left side grows
    else:
        chosen = torch.zeros_like(ranked, dtype=torch.bool)
    chosen[:, :quota] = True
    is_candidate = ranked > -torch.inf
    if options.last_rank:
        is_last = rank == is_candidate.sum(dim=-1, keepdim=True)
        chosen |= is_last & chosen.roll(1, dims=-1)  # rolled: whether the rank before is chosen
    chosen &= is_candidate
    return torch.empty_like(chosen).scatter_(-1, order, chosen)


def end_in_block(block_ids: torch.Tensor, mask_id: int, eos_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Write end tokens from the first one on in each row of `block_ids` [R, block_length] where no mask stands before.

    Returns which rows ended there [R], and what was overwritten [R, block_length].
    """
    from_end_on = (block_ids == eos_id).cumsum(dim=1) > 0
    ended = from_end_on[:, -1] & ~((block_ids == mask_id) & ~from_end_on).any(dim=1)
    overwritten = ended[:, None] & from_end_on & (block_ids != eos_id)
    block_ids.masked_fill_(overwritten, eos_id)
    return ended, overwritten
