"""Cached and parallel decoding, plainly: one prompt at a time and greedily, nothing cached.

The published algorithm itself is in `tests/reference.py`.
"""

import torch

from src.llm_generate import GenerationOptions, Prompt
from src.modeling_llada import LLaDAModel, rotary_tables
from tests import reference


class StalePass:
    """The cached passes, plainly: columns that are not computed anew keep each layer's input from the last full pass.

    Nothing is cached: every layer works on the whole sequence, and gets its keys and values from it.
    """

    def __init__(self, llm: LLaDAModel) -> None:
        self.llm, self.layer_inputs = llm, []

    def __call__(self, embeds: torch.Tensor, columns: slice | None) -> torch.Tensor:
        """Logits [n, V] of the columns computed, those of `embeds` [1, T, d] in `columns`; None for all."""
        positions = torch.arange(embeds.shape[1])[None]
        rotary = rotary_tables(positions, self.llm.config.head_dim, self.llm.config.rope_theta)
        keep, columns = columns is None, columns or slice(None)
        if keep:
            self.layer_inputs = []
        h = embeds[:, columns]
        for index, block in enumerate(self.llm.blocks):
            if keep:
                self.layer_inputs.append(h)
            x = self.layer_inputs[index].clone()
            x[:, columns] = h
            h = block(x, rotary, None)[:, columns]
        return self.llm.project(self.llm.final_norm(h))[0]


def stale_answer(llm: LLaDAModel, prompt: Prompt, options: GenerationOptions) -> torch.Tensor:
    """What a cached mode answers to one prompt, greedily: int64 [1, max_new_tokens]."""
    mask_id, before = llm.config.mask_token_id, prompt.inputs_embeds.shape[1]
    answer = torch.full((1, options.max_new_tokens), mask_id)
    run = StalePass(llm)
    for start in range(0, options.max_new_tokens, options.block_length):
        end = start + options.block_length
        for step, quota in enumerate(options.quotas()):
            embeds = torch.cat((prompt.inputs_embeds, llm.embed(answer)), dim=1)
            if step == 0:
                logits, first = run(embeds, None)[before : before + end], 0
            else:
                last = end if options.cache == "dual" else options.max_new_tokens
                logits, first = run(embeds, slice(before + start, before + last))[: options.block_length], start
            best, candidates = logits.softmax(dim=-1).max(dim=-1)
            best[answer[0, first:end] != mask_id] = -1
            chosen = best.topk(quota).indices
            answer[0, first + chosen] = candidates[chosen]
    return answer


def plain_parallel(llm: LLaDAModel, prompt: Prompt, options: GenerationOptions) -> tuple[list[int], int]:
    """Parallel decoding of one prompt, greedily and without guidance: the answer and the number of passes."""
    mask_id = llm.config.mask_token_id
    answer, passes = [mask_id] * options.max_new_tokens, 0
    for start in range(0, options.max_new_tokens, options.block_length):
        end = start + options.block_length
        while any(token == mask_id for token in answer[start:end]):
            logits = reference.all_logits(llm, prompt.inputs_embeds[0], torch.tensor(answer))[-len(answer) :]
            best, candidates = logits.double().softmax(dim=-1).max(dim=-1)
            passes += 1
            ranked = sorted((i for i in range(start, end) if answer[i] == mask_id), key=lambda i: -best[i])
            if options.threshold is not None:
                allowed = [i for i in ranked if best[i] >= options.threshold]
            else:
                counts = [n for n, i in enumerate(ranked, 1) if (n + 1) * (1 - best[i]) <= options.factor]
                allowed = ranked[: max(counts, default=0)]
            for i in allowed or ranked[:1]:
                answer[i] = int(candidates[i])
    return answer, passes


def plain_fast_dllm(llm: LLaDAModel, prompt: Prompt, options: GenerationOptions) -> tuple[list[int], int] | None:
    """DIFFA-2's published fast mode for one prompt: the answer and the number of passes; None where it does not end."""
    mask_id, eos_id = llm.config.mask_token_id, llm.config.eos_token_id
    answer, passes = [mask_id] * options.max_new_tokens, 0
    for start in range(0, options.max_new_tokens, options.block_length):
        end = start + options.block_length
        while mask_id in answer[start:end]:
            logits = reference.all_logits(llm, prompt.inputs_embeds[0], torch.tensor(answer))[-len(answer) :]
            best, candidates = logits.double().softmax(dim=-1).max(dim=-1)
            passes, before = passes + 1, list(answer)
            ranked = sorted((i for i in range(start, end) if answer[i] == mask_id), key=lambda i: -best[i])
            if options.threshold is not None:
                accepted = [i for place, i in enumerate(ranked) if place == 0 or best[i] >= options.threshold]
            else:
                failing = [r for r, i in enumerate(ranked, 1) if r > 1 and best[i] < 1 - options.factor / (r + 1)]
                first = min(failing, default=len(ranked))
                accepted = ranked if first == len(ranked) else ranked[: first - 1]
            for i in accepted:
                answer[i] = int(candidates[i])
            if answer == before:
                return None
            block = answer[start:end]
            if eos_id in block and mask_id not in block[: block.index(eos_id)]:
                answer[start + block.index(eos_id) : end] = [eos_id] * (options.block_length - block.index(eos_id))
                return answer, passes
    return answer, passes
