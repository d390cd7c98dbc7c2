import random
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from src import llm_generate
from src.configuration_DIFFA import LLaDAConfig
from src.llm_generate import (
    GenerationOptions,
    Prompt,
    choose,
    decode,
    generate,
    likeliest,
    pick,
    select,
    sums_of_exponentials,
)
from src.modeling_llada import LLaDAModel
from tests import reference
from tests.src.decoding_oracles import plain_fast_dllm, plain_parallel, stale_answer

MASK, EOS, D = 29, 25, 16  # token 25 is one that the random models below choose often


# --- random models and cases ---------------------------------------------------------------------------------------


def random_llm(mask_wins: bool, num_tokens: int = 30) -> LLaDAModel:
    torch.manual_seed(0)
    config = LLaDAConfig(
        d_model=D, n_layers=2, n_heads=2, n_kv_heads=2, mlp_hidden_size=24, embedding_size=num_tokens, rope_theta=1e4,
        rms_norm_eps=1e-5, max_sequence_length=128, weight_tying=False, mask_token_id=MASK, eos_token_id=EOS,
        pad_token_id=EOS,
    )  # fmt: skip
    model = LLaDAModel(config).requires_grad_(False).eval()
    for block in model.blocks:
        for linear in (block.q_proj, block.k_proj, block.v_proj, block.attn_out):
            linear.weight.mul_(2.5)  # what stands elsewhere matters, so that stale keys and values show
    weight = model.output_weight
    weight.mul_(6)  # confident enough for the order of positions to matter
    weight[MASK] *= 1.5 if mask_wins else 0
    return model


@pytest.fixture(scope="module")
def llm() -> LLaDAModel:
    """A model whose mask token wins a position now and then."""
    return random_llm(mask_wins=True)


@pytest.fixture(scope="module")
def decided_llm() -> LLaDAModel:
    """One whose mask token wins none."""
    return random_llm(mask_wins=False)


def random_options(rng: random.Random, **settings) -> GenerationOptions:
    """Options of the published algorithm, of every kind."""
    block_length, num_blocks = rng.choice([1, 2, 3, 4, 6, 8]), rng.choice([1, 2, 3])
    choices = {
        "steps": num_blocks * rng.randint(1, block_length + 1),
        "temperature": rng.choice([0.0, 0.0, 0.7, 1.5]),
        "cfg_scale": rng.choice([0.0, 0.0, 0.5, 2.0]),
        "remasking": rng.choice(["low_confidence", "low_confidence", "random"]),
        "seed": rng.randint(0, 1000),
    }
    return GenerationOptions(block_length=block_length, max_new_tokens=block_length * num_blocks, **choices | settings)


def parallel_options(rng: random.Random, **settings) -> GenerationOptions:
    rule = rng.choice([{"threshold": rng.choice([0.3, 0.5, 0.8])}, {"factor": rng.choice([0.5, 1.0, 2.5])}])
    return random_options(rng, remasking="low_confidence", **rule, **settings)


def random_prompts(rng: random.Random, count: int | None = None) -> list[Prompt]:
    """Prompts of one sample each, of different lengths."""
    torch.manual_seed(rng.randint(0, 10**6))
    lengths = [rng.randint(1, 12) for _ in range(count or rng.choice([1, 2, 4]))]
    return [Prompt(torch.randn(1, n, D), torch.ones(1, n), torch.randn(1, n, D)) for n in lengths]


def together(prompts: list[Prompt]) -> Prompt:
    """One batch of them, left-padded with rubbish."""
    longest = max(prompt.inputs_embeds.shape[1] for prompt in prompts)

    def pad(x: torch.Tensor, value: float) -> torch.Tensor:
        return torch.cat((torch.full((1, longest - x.shape[1], *x.shape[2:]), value), x), dim=1)

    return Prompt(
        torch.cat([pad(prompt.inputs_embeds, 7.0) for prompt in prompts]),
        torch.cat([pad(prompt.attention_mask, 0) for prompt in prompts]),
        torch.cat([pad(prompt.unconditional_embeds, 7.0) for prompt in prompts]),
    )


def one_prompt(length: int = 3) -> Prompt:
    return Prompt(torch.ones(1, length, D), torch.ones(1, length))


@pytest.mark.parametrize("seed", range(200))
def test_a_padded_batch_equals_the_plain_algorithm_one_by_one(llm, seed):
    """And so do the cached modes, if they compute everything at every step."""
    rng = random.Random(seed)
    options, prompts = random_options(rng), random_prompts(rng)
    expected = torch.stack(
        [reference.generate(llm, p.inputs_embeds[0], options, p.unconditional_embeds[0]) for p in prompts]
    )
    assert torch.equal(generate(llm, together(prompts), options).answer_ids, expected), options
    for cache in ("prefix", "dual"):
        refreshed = replace(options, cache=cache, refresh_interval=1)
        assert torch.equal(generate(llm, together(prompts), refreshed).answer_ids, expected), refreshed


@pytest.mark.parametrize("seed", range(20))
def test_with_a_larger_vocabulary_too(seed):
    """One that is projected in slices, the last of them smaller."""
    llm, rng = random_llm(seed % 2 == 0, num_tokens=64 * (seed % 3 + 1) + seed % 4), random.Random(seed)
    options, prompts = random_options(rng), random_prompts(rng)
    expected = [reference.generate(llm, p.inputs_embeds[0], options, p.unconditional_embeds[0]) for p in prompts]
    assert torch.equal(generate(llm, together(prompts), options).answer_ids, torch.stack(expected)), options


@pytest.mark.parametrize("seed", range(20))
def test_the_plain_algorithm_may_leave_out_the_audios_logits(llm, seed):
    """As the published decoder does, which saves it work and changes no token."""
    rng = random.Random(seed)
    options, [prompt, *_] = random_options(rng), random_prompts(rng)
    embeds, unconditional = prompt.inputs_embeds[0], prompt.unconditional_embeds[0]
    start = rng.randrange(len(embeds))
    audio = slice(start, rng.randint(start, len(embeds)))
    expected = reference.generate(llm, embeds, options, unconditional)
    assert torch.equal(reference.generate(llm, embeds, options, unconditional, audio), expected)


@pytest.mark.parametrize("seed", range(60))
def test_a_batch_equals_its_members_in_every_mode(llm, seed):
    rng = random.Random(seed)
    settings = {
        "cache": rng.choice(["none", "prefix", "dual"]),
        "stop_at_eos": rng.choice([True, True, False]),
    }
    if settings["cache"] != "none":
        settings["refresh_interval"] = rng.choice([None, None, 2])
    if settings["stop_at_eos"]:
        settings["stop_in_block"] = rng.choice([True, False])
    options = rng.choice([random_options, parallel_options, parallel_options])(rng, **settings)
    if options.factor is not None:
        options = replace(options, last_rank=rng.choice([True, False]))
    prompts = random_prompts(rng, 4)
    batch, alone = generate(llm, together(prompts), options), [generate(llm, prompt, options) for prompt in prompts]
    assert torch.equal(batch.answer_ids, torch.cat([one.answer_ids for one in alone])), options
    assert torch.equal(batch.forward_passes, torch.cat([one.forward_passes for one in alone])), options
    torch.testing.assert_close(batch.confidence, torch.cat([one.confidence for one in alone]), rtol=1e-4, atol=1e-5)


# --- caches --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cache", ["prefix", "dual"])
def test_a_cache_keeps_what_it_should_and_no_more(decided_llm, cache):
    differing = 0
    for seed in range(60):
        rng = random.Random(seed)
        plain = {"temperature": 0.0, "cfg_scale": 0.0, "remasking": "low_confidence"}
        options, (prompt,) = random_options(rng, cache=cache, **plain), random_prompts(rng, 1)
        answer = generate(decided_llm, prompt, options).answer_ids
        assert torch.equal(answer, stale_answer(decided_llm, prompt, options)), options
        differing += not torch.equal(answer, generate(decided_llm, prompt, replace(options, cache="none")).answer_ids)
    assert differing > 5  # staleness shows: the reference is not simply the exact mode


@pytest.fixture
def watched(decided_llm, monkeypatch):
    """The model, and lists of what its calls work on: columns of a pass, rows of a projection."""
    passes, projections = [], []
    forward, project = decided_llm.forward, decided_llm.project

    def watched_forward(inputs_embeds, *arguments):
        passes.append(inputs_embeds.shape[:2])
        return forward(inputs_embeds, *arguments)

    def watched_project(hidden_states):
        projections.append(len(hidden_states))
        return project(hidden_states)

    monkeypatch.setattr(decided_llm, "forward", watched_forward)
    monkeypatch.setattr(decided_llm, "project", watched_project)
    return decided_llm, passes, projections


@pytest.mark.parametrize(
    ("cache", "columns"),
    [("none", [15] * 6), ("prefix", [15, 12, 12, 15, 8, 8]), ("dual", [15, 4, 4, 15, 4, 4])],
)
def test_nothing_needless_is_computed(watched, cache, columns):
    llm, passes, projections = watched
    options = GenerationOptions(steps=9, block_length=4, max_new_tokens=12, cache=cache)
    generate(llm, one_prompt(3), options)
    assert passes[:6] == [(1, n) for n in columns] and len(passes) == 9
    assert projections == [4, 2, 1] * 3  # quotas 2, 1, 1


# --- parallel decoding ---------------------------------------------------------------------------------------------


def chosen(confidence: list[list[float]], quota: int = 1, **rule) -> list[list[int]]:
    rows = select(torch.tensor(confidence, dtype=torch.float64), quota, GenerationOptions(**rule))
    return [row.nonzero()[:, 0].tolist() for row in rows]


NONE = -torch.inf


def test_quota_takes_the_most_confident_and_the_first_of_equals():
    assert chosen([[0.1, 0.5, NONE, 0.4], [0.7, 0.2, 0.9, 0.3]], quota=2) == [[1, 3], [0, 2]]
    assert chosen([[0.5, 1.0, 1.0, 1.0] * 8] * 2, quota=2) == [[1, 2]] * 2
    assert chosen([[NONE, 0.5, NONE, NONE]], quota=2) == [[1]]


def test_threshold_is_per_row_and_takes_one_at_least():
    rows = [[0.95, 0.2, 0.9, 0.89], [0.3, 0.5, 0.1, 0.2], [NONE, NONE, NONE, NONE], [NONE, 0.1, NONE, NONE]]
    assert chosen(rows, threshold=0.9) == [[0, 2], [1], [], [1]]


def test_factor_takes_the_largest_number_that_its_rule_allows():
    # (n + 1)(1 - c_n) for 0.9, 0.8, 0.7, 0.2: 0.2, 0.6, 1.2, 4.0
    row = [0.7, 0.9, 0.2, 0.8]
    assert chosen([row], factor=0.1) == [[1]]  # one at least
    assert chosen([row], factor=0.59) == [[1]]
    assert chosen([row], factor=0.61) == [[1, 3]]
    assert chosen([row], factor=1.3) == [[0, 1, 3]]  # the last rank is not accepted for being the last
    assert chosen([row], factor=4.1) == [[0, 1, 2, 3]]
    assert chosen([[NONE, 1.0, 1.0, NONE], row, [NONE] * 4], factor=0.5) == [[1, 2], [1], []]


def test_the_last_rank_goes_with_all_others():
    row = [0.7, 0.9, 0.2, 0.8]
    assert chosen([row], factor=1.3, last_rank=True) == [[0, 1, 2, 3]]  # three pass, and the fourth comes along
    assert chosen([row], factor=0.61, last_rank=True) == [[1, 3]]  # the third does not pass, so the fourth does not
    assert chosen([[0.1, NONE, 0.2, NONE]], factor=1e-9, last_rank=True) == [[0, 2]]  # two always go together
    assert chosen([[NONE] * 4, [NONE, NONE, 0.1, NONE]], factor=1e-9, last_rank=True) == [[], [2]]
    assert chosen([[0.1, 0.2, 0.3]], factor=1e-9, last_rank=True) == [[2]]


def test_the_mask_token_holds_the_ranks_of_what_it_wins_unless_nothing_else_is_fixed():
    def fixed(confidence: list[float], won: list[bool], **rule) -> list[int]:
        options = GenerationOptions(factor=0.61, **rule)
        rows = choose(torch.tensor([confidence], dtype=torch.float64), ~torch.tensor([won]), 1, options)
        return (rows[0] & ~torch.tensor(won)).nonzero()[:, 0].tolist()

    won = [False, True, False, False]
    assert fixed([0.85, 0.9, 0.2, 0.8], won) == [0, 3]  # ranks 1 and 2 of three: 3 (1 - 0.8) fits
    assert fixed([0.85, 0.9, 0.2, 0.8], won, last_rank=True) == [0]  # ranks 2 and 3 of four: 4 (1 - 0.8) does not
    assert fixed([0.75, 0.9, 0.2, 0.7], won, last_rank=True) == [0]  # rank 1 alone would fix nothing


@pytest.mark.parametrize("seed", range(40))
def test_parallel_decoding_equals_its_plain_form(decided_llm, seed):
    rng = random.Random(seed)
    options, prompts = parallel_options(rng, temperature=0.0, cfg_scale=0.0), random_prompts(rng)
    result = generate(decided_llm, together(prompts), options)
    expected = [plain_parallel(decided_llm, prompt, options) for prompt in prompts]
    assert list(zip(result.answer_ids.tolist(), result.forward_passes.tolist(), strict=True)) == expected, options


@pytest.mark.parametrize("mask_wins", [True, False])
def test_the_published_fast_mode_token_for_token_and_pass_for_pass(llm, decided_llm, mask_wins):
    """Its last rank, its end within a block, its ranks for the mask token; in batches. Ours ends where it does not."""
    model = llm if mask_wins else decided_llm
    endless = quirks = stopped = 0
    for seed in range(60):
        rng = random.Random(seed)
        options = parallel_options(rng, temperature=0.0, cfg_scale=0.0, stop_at_eos=True, stop_in_block=True)
        options = replace(options, last_rank=options.factor is not None)
        prompts = random_prompts(rng)
        result = generate(model, together(prompts), options)
        for row, prompt in enumerate(prompts):
            expected = plain_fast_dllm(model, prompt, options)
            ids, passes = result.answer_ids[row].tolist(), result.forward_passes[row].item()
            assert expected is None or (ids, passes) == expected, (seed, options)
            assert passes <= options.max_new_tokens
            endless += expected is None
            stopped += MASK in ids and EOS in ids
        own = replace(options, last_rank=False)
        quirks += not torch.equal(generate(model, together(prompts), own).answer_ids, result.answer_ids)
    assert (endless > 0) == mask_wins and quirks > 5 and stopped > 5


def test_parallel_decoding_takes_fewer_passes_than_tokens_and_a_sure_model_one_a_block(decided_llm):
    options = GenerationOptions(block_length=8, max_new_tokens=16, steps=16, threshold=0.3)
    assert generate(decided_llm, one_prompt(), options).forward_passes.item() < 16
    assert generate(decided_llm, one_prompt(), replace(options, threshold=1e-9)).forward_passes.item() == 2
    # a factor that none but perfect confidence meets is the published rule with one token a step
    exact = generate(decided_llm, one_prompt(), replace(options, threshold=None))
    single = generate(decided_llm, one_prompt(), replace(options, threshold=None, factor=1e-12))
    assert torch.equal(exact.answer_ids, single.answer_ids) and single.forward_passes.item() == 16


class MaskWins(LLaDAModel):
    """The mask token wins everywhere, or only where the hidden state's first number is positive."""

    everywhere = True

    def project(self, hidden_states):
        logits = super().project(hidden_states)
        logits[..., MASK] = torch.where((hidden_states[..., 0] > 0) | self.everywhere, 1e4, -1e4)
        return logits


PARALLEL = [{"threshold": 0.9}, {"factor": 1.0}, {"factor": 1.0, "last_rank": True}]


@pytest.mark.parametrize("settings", [{}, {"cache": "dual"}, *PARALLEL, {"cache": "prefix", "threshold": 0.9}])
def test_the_mask_token_may_win_everywhere(llm, settings):
    """Positions stay masked then, and decoding still ends; parallel decoding sees at once that nothing can be done."""
    options = GenerationOptions(block_length=8, **settings)
    result = generate(MaskWins(llm.config).eval(), one_prompt(), options)
    assert result.answer_ids.tolist() == [[MASK] * 16] and result.confidence.abs().sum() == 0
    assert result.forward_passes.item() == (2 if options.parallel else 16)


@pytest.mark.parametrize("settings", PARALLEL)
def test_parallel_decoding_passes_over_what_the_mask_token_wins(llm, settings):
    """What is masked at the end is what the mask token wins, and each pass but the last fixed something."""
    stubborn = MaskWins(llm.config).eval().requires_grad_(False)
    stubborn.load_state_dict(llm.state_dict())
    stubborn.everywhere = False
    left_over = 0
    for prompt in random_prompts(random.Random(0), 8):
        result = generate(stubborn, prompt, GenerationOptions(**settings))
        masked = result.answer_ids[0] == MASK
        logits = reference.all_logits(stubborn, prompt.inputs_embeds[0], result.answer_ids[0])[-16:]
        assert (logits[masked].argmax(dim=-1) == MASK).all()
        assert result.forward_passes.item() <= (~masked).sum() + 1
        left_over += 0 < masked.sum() < 16
    assert left_over > 2


# --- early stop ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_after_a_block_with_an_end_token_all_are_end_tokens(decided_llm, seed):
    rng = random.Random(seed)
    options = rng.choice([random_options, parallel_options])(rng, cache=rng.choice(["none", "prefix", "dual"]))
    prompts = random_prompts(rng, 4)
    whole = generate(decided_llm, together(prompts), options)
    stopped = generate(decided_llm, together(prompts), replace(options, stop_at_eos=True))
    length = options.block_length
    for row, (ids, passes) in enumerate(zip(whole.answer_ids.tolist(), whole.forward_passes.tolist(), strict=True)):
        ends = [i // length * length + length for i, token in enumerate(ids) if token == EOS]
        end = ends[0] if ends else len(ids)
        assert stopped.answer_ids[row].tolist() == ids[:end] + [EOS] * (len(ids) - end), options
        assert not stopped.confidence[row, end:].any()
        if not options.parallel:
            assert stopped.forward_passes[row] == passes * end / len(ids)


@pytest.mark.parametrize("seed", range(40))
def test_an_answer_may_end_within_its_block(decided_llm, seed):
    """It is the answer without an end up to the block's first end token; end tokens follow, then masks."""
    rng = random.Random(seed)
    options = rng.choice([random_options, parallel_options])(rng, cache=rng.choice(["none", "prefix", "dual"]))
    prompts = random_prompts(rng, 4)
    whole = generate(decided_llm, together(prompts), options)
    stopped = generate(decided_llm, together(prompts), replace(options, stop_at_eos=True, stop_in_block=True))
    length = options.block_length
    for row, ids in enumerate(whole.answer_ids.tolist()):
        found, confidence = stopped.answer_ids[row].tolist(), stopped.confidence[row]
        end = found.index(EOS) if EOS in found else len(ids)
        block_end = end // length * length + length if end < len(ids) else end
        # what stood behind the end, had it been fixed, would not be the same: nothing is compared after it
        assert MASK not in found[:end] and found[end:] == [EOS] * (block_end - end) + [MASK] * (len(ids) - block_end)
        assert found[: end // length * length] == ids[: end // length * length], options
        assert stopped.forward_passes[row] <= whole.forward_passes[row]
        assert (confidence[:end] > 0).all() and not confidence[block_end:].any()


def test_what_an_end_overwrites_is_no_longer_sure_of_itself(decided_llm):
    overwritten = 0
    for seed in range(40):
        rng = random.Random(seed)
        options = parallel_options(rng, temperature=0.0, cfg_scale=0.0, stop_at_eos=True, stop_in_block=True)
        (prompt,) = random_prompts(rng, 1)
        *_, before, last = [None, *(progress.clone() for progress in decode(decided_llm, prompt, options))]
        if before is not None:
            changed = (before.answer_ids != last.answer_ids) & (before.answer_ids != MASK)
            assert (last.answer_ids[changed] == EOS).all() and not last.confidence[changed].any()
            overwritten += int(changed.sum())
    assert overwritten > 0


def test_answers_that_stopped_cost_nothing(watched):
    """Finished samples leave the batch, and when the last has stopped, so does decoding."""
    llm, passes, _ = watched
    options = GenerationOptions(steps=24, block_length=4, max_new_tokens=24, stop_at_eos=True, cfg_scale=0.5)
    prompts = random_prompts(random.Random(3), 6)
    result = generate(llm, together(prompts), options)
    taken = result.forward_passes.tolist()
    assert len(set(taken)) > 2 and max(taken) == len(passes)
    assert [rows for rows, _ in passes] == [2 * sum(n > step for n in taken) for step in range(len(passes))]


# --- steps, seeds, positions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"cache": "dual", "threshold": 0.5, "stop_at_eos": True}])
def test_decoding_can_be_watched(llm, settings):
    rng = random.Random(1)
    options, prompt = GenerationOptions(block_length=4, **settings), together(random_prompts(rng, 4))
    steps = [progress.clone() for progress in decode(llm, prompt, options)]
    assert torch.equal(steps[-1].answer_ids, generate(llm, prompt, options).answer_ids)
    assert steps[-1].forward_passes.max() <= len(steps)
    for before, after in pairwise(steps):
        fixed = before.answer_ids != MASK
        assert torch.equal(after.answer_ids[fixed], before.answer_ids[fixed])  # what is fixed stays
        assert torch.equal(after.confidence[fixed], before.confidence[fixed])
        assert (after.answer_ids != MASK).sum() >= fixed.sum()
    known = steps[-1].confidence > 0
    assert (steps[-1].answer_ids[~known] == EOS).logical_or(steps[-1].answer_ids[~known] == MASK).all()
    assert (steps[-1].confidence <= 1).all() and known.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("num_tokens", [1, 64, 128, 640, 1000])
def test_the_likeliest_is_the_first_of_equals(num_tokens, dtype):
    torch.manual_seed(0)
    logits = torch.randint(-3, 3, (300, num_tokens)).to(dtype)  # every row has equals, in its group and in others
    highest, token = likeliest(logits)
    assert torch.equal(highest, logits.max(dim=1).values)
    first = (logits == highest[:, None]).long().argmax(dim=1)
    assert torch.equal(token, first)


@pytest.mark.parametrize("place", [0, 63, 64, 127, 128, 639])
def test_the_likeliest_is_found_wherever_it_stands(place):
    logits = torch.zeros(2, 640)
    logits[1, place] = 1
    assert likeliest(logits)[1].tolist() == [0, place]
    logits[1, place] = torch.nan
    assert likeliest(logits)[0].isnan().tolist() == [False, True]


@pytest.mark.parametrize("num_rows", [1, 3, 4, 5, 9])
def test_the_sums_are_a_float64_softmaxs(num_rows):
    torch.manual_seed(0)
    logits = torch.randn(num_rows, 1000) * 5
    highest = logits.max(dim=1).values
    expected = (logits.double() - highest.double()[:, None]).exp().sum(dim=1)
    torch.testing.assert_close(sums_of_exponentials(logits, highest), expected, rtol=1e-14, atol=0)


def test_confidence_is_the_softmax_in_float64():
    torch.manual_seed(0)
    logits = (torch.randn(40, 1000) * 5).bfloat16()
    candidates, confidence = pick(logits, None, [], GenerationOptions())
    best, expected = logits.double().softmax(dim=-1).max(dim=-1)
    assert torch.equal(candidates, logits.argmax(dim=-1)) and torch.equal(candidates, expected)
    torch.testing.assert_close(confidence, best, rtol=1e-14, atol=0)
    sure = torch.tensor([[0.0, 50.0], [0.0, 60.0]])  # as certain as float64 can tell: equals
    assert pick(sure, None, [], GenerationOptions())[1].tolist() == [1.0, 1.0]


def test_a_seed_repeats_and_another_differs(llm):
    options = [GenerationOptions(temperature=3.0, seed=seed) for seed in (5, 5, 6)]
    first, again, other = (generate(llm, one_prompt(), o).answer_ids for o in options)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_without_a_seed_the_global_generator_decides(llm):
    answers = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        answers.append(generate(llm, one_prompt(), GenerationOptions(temperature=3.0)).answer_ids)
    assert torch.equal(answers[0], answers[1]) and not torch.equal(answers[0], answers[2])


def test_guidance_needs_its_branch(llm):
    with pytest.raises(ValueError, match="needs the prompt's unconditional_embeds"):
        generate(llm, one_prompt(), GenerationOptions(cfg_scale=1.0))


def test_gumbel_noise_is_float64_throughout(monkeypatch):
    """In float32 the first two logits would be infinite, and so would those of the two smallest noises."""
    generator = torch.Generator().manual_seed(0)
    drawn = llm_generate.uniform(generator, (1000,))
    assert drawn.dtype == torch.float64 and (drawn != drawn.float()).any()
    monkeypatch.setattr(llm_generate, "uniform", lambda generator, size: torch.full(size, 0.5, dtype=torch.float64))
    assert llm_generate.gumbel_max(torch.tensor([[200.0, 201.0, 3.0]]), 1.0, generator).tolist() == [1]
    for temperature in (1.0, 500.0):  # exponentials in float64 end at 709, powers of 0.5 at 1e-308
        assert llm_generate.gumbel_max(torch.tensor([[3.0, 1999.0, 2000.0]]), temperature, generator).tolist() == [2]
    near_one = torch.tensor([[1 - 2e-10, 1 - 1e-10, 0.5]], dtype=torch.float64)
    monkeypatch.setattr(llm_generate, "uniform", lambda generator, size: near_one)
    assert llm_generate.gumbel_max(torch.zeros(1, 3), 1.0, generator).tolist() == [1]
