import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from src import masked_diffusion
from src.masked_diffusion import (
    Masking,
    diffusion_loss,
    mask_answers,
    projected_cross_entropy,
    training_times,
    validation_loss,
    validation_maskings,
)
from src.splice import Spliced

MASK_ID = 402


def times(num_samples: int, update_size: int = 8, time_sampling: str = "stratified", seed: int = 0) -> np.ndarray:
    return training_times(np.random.default_rng(seed), num_samples, update_size, time_sampling)


# -- times ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("time_sampling", ["uniform", "stratified"])
def test_every_place_of_an_update_has_a_uniform_time(time_sampling):
    by_place = times(32_000, 16, time_sampling).reshape(-1, 16)
    assert 0 <= by_place.min() < 0.001 and 0.999 < by_place.max() < 1
    np.testing.assert_allclose(by_place.mean(axis=0), 0.5, atol=0.03)
    np.testing.assert_allclose(by_place.var(axis=0), 1 / 12, atol=0.006)


def test_stratified_times_lie_evenly_in_each_update():
    by_update = times(104).reshape(13, 8)
    ordered = np.sort(by_update, axis=1)
    np.testing.assert_allclose(np.diff(ordered, axis=1), 1 / 8)
    assert ((ordered[:, 0] >= 0) & (ordered[:, 0] < 1 / 8)).all() and len(set(ordered[:, 0])) == 13
    assert not np.array_equal(by_update, ordered)  # shuffled: a place says nothing about t
    # the mean of an update varies only by the offset: 1 / 8 of the variance of eight times that are drawn alone
    assert times(4000).reshape(-1, 8).mean(axis=1).var() == pytest.approx(1 / 12 / 8**2, rel=0.2)


def test_an_unknown_way_of_sampling_is_named():
    with pytest.raises(ValueError, match="time_sampling is 'even'; expected one of uniform, stratified"):
        times(8, time_sampling="even")


def test_validation_times_are_an_even_grid_in_no_order_and_each_sample_has_its_own_masks():
    maskings = validation_maskings(10)
    assert maskings == validation_maskings(10)
    grid = [masking.time for masking in maskings]
    assert sorted(grid) == pytest.approx([0.05 + 0.1 * k for k in range(10)]) and grid != sorted(grid)
    assert len({masking.seed for masking in maskings}) == 10


def test_a_random_masking_is_in_range():
    maskings = [Masking.random() for _ in range(100)]
    assert all(0 <= m.time < 1 and 0 <= m.seed < 2**62 for m in maskings) and len({m.seed for m in maskings}) == 100


def test_the_random_numbers_of_a_run_never_change():
    """Runs of any version go on, and figures compare: what a seed gives stays."""
    assert times(4, 2, "uniform").tolist() == [
        0.6369616873214543, 0.2697867137638703, 0.04097352393619469, 0.016527635528529094
    ]  # fmt: skip
    assert times(4, 2).tolist() == [0.8184808436607272, 0.31848084366072715, 0.13489335688193516, 0.6348933568819352]
    assert validation_maskings(4) == [Masking(0.625, 0), Masking(0.125, 1), Masking(0.375, 2), Masking(0.875, 3)]
    clean, answer = torch.arange(12)[None].repeat(2, 1), torch.ones(2, 12, dtype=torch.bool)
    labels = mask_answers(clean, answer, MASK_ID, [Masking(0.3, 5), Masking(0.7, 2**61 + 1)])[1]
    assert [row[row != -100].tolist() for row in labels] == [[1, 5, 6, 8], [1, 2, 4, 6, 8, 9, 10, 11]]


# -- rates and masks --------------------------------------------------------------------------------------------------


def test_masking_rates_are_obeyed_and_prompts_left_alone():
    clean = torch.zeros(4000, 50, dtype=torch.int64)
    answer = torch.ones_like(clean, dtype=torch.bool)
    answer[:, :10] = False
    drawn = np.random.default_rng(0).random(4000).tolist()
    input_ids, labels, rates = mask_answers(clean, answer, MASK_ID, [Masking(t, i) for i, t in enumerate(drawn)])
    assert torch.allclose(rates, 0.999 * torch.tensor(drawn) + 0.001)
    masked = input_ids == MASK_ID
    assert not masked[:, :10].any() and torch.equal(labels != -100, masked)
    share = masked[:, 10:].float().mean(dim=1)
    for low in (0.0, 0.25, 0.5, 0.75):
        rows = (rates >= low) & (rates < low + 0.25)
        assert share[rows].mean().item() == pytest.approx(rates[rows].mean().item(), abs=0.01)


def test_masks_are_drawn_at_the_very_rate_that_weighs_them():
    """t' and not t, which is up to 0.001 less: of 4 million tokens at t = 0, about 4000 are masked, not none."""
    clean = torch.zeros(4, 1_000_000, dtype=torch.int64)
    maskings = [Masking(0.0, seed) for seed in range(4)]
    input_ids, _, rates = mask_answers(clean, torch.ones_like(clean, dtype=torch.bool), MASK_ID, maskings)
    assert rates.tolist() == [pytest.approx(1e-3)] * 4
    assert (input_ids == MASK_ID).sum().item() == pytest.approx(4000, rel=0.1)  # 6 standard deviations


# -- the loss ---------------------------------------------------------------------------------------------------------


class Table(torch.nn.Module):
    """An LLM whose hidden states are its inputs."""

    def __init__(self, output_weight: torch.Tensor) -> None:
        super().__init__()
        self.output_weight = output_weight

    def forward(self, inputs_embeds, attention_mask, position_ids, wanted):
        return inputs_embeds[:, wanted]


def spliced(inputs_embeds: torch.Tensor, audio: int) -> Spliced:
    """Text of two columns before the audio, the rest after."""
    rows, columns = inputs_embeds.shape[:2]
    text_columns = torch.tensor([column + audio * (column >= 2) for column in range(columns - audio)])
    return Spliced(inputs_embeds, torch.ones(rows, columns, dtype=torch.int64), text_columns.expand(rows, -1))


def test_the_loss_by_hand():
    """Logits are the inputs themselves; the second row is masked nowhere."""
    embeds = torch.log(torch.tensor([[[1, 1], [1, 1], [5, 5], [1, 3], [1, 4]], [[1, 1]] * 5], dtype=torch.float32))
    labels = torch.tensor([[-100, -100, 1, 0], [-100] * 4])  # the audio is one column, the third
    output = diffusion_loss(Table(torch.eye(2)), spliced(embeds, audio=1), labels, torch.tensor([0.5, 0.1]), 4)
    cross_entropy = [-math.log(3 / 4), -math.log(1 / 5)]
    assert output.cross_entropy.tolist() == pytest.approx(cross_entropy)
    assert output.sample_losses.tolist() == pytest.approx([sum(cross_entropy) / 0.5, 0.0])
    assert output.loss.item() == pytest.approx(sum(cross_entropy) / 0.5 / 4)


def test_each_part_of_the_loss_can_be_learned_from():
    torch.manual_seed(0)
    embeds = torch.randn(2, 7, 3, requires_grad=True)
    labels = torch.tensor([[-100, -100, 1, 0, -100], [-100, -100, -100, 2, 2]])
    rates = torch.tensor([0.4, 0.8])
    output = diffusion_loss(Table(torch.randn(5, 3)), spliced(embeds, audio=2), labels, rates, 6)

    def gradient(of: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(of, embeds, retain_graph=True)[0]

    assert torch.allclose(gradient(output.loss), gradient(output.sample_losses.sum()) / 6)
    first = gradient(output.sample_losses[0])
    assert first[0].any() and not first[1].any()
    tokens = gradient(output.cross_entropy[0]) + gradient(output.cross_entropy[1])
    assert torch.allclose(first, tokens / 0.4)


def test_a_batch_without_masks_has_no_loss():
    embeds = torch.randn(1, 4, 3, requires_grad=True)
    labels = torch.full((1, 4), -100)
    output = diffusion_loss(Table(torch.randn(5, 3)), spliced(embeds, audio=0), labels, torch.tensor([0.1]), 2)
    output.loss.backward()
    assert output.loss == 0 and output.sample_losses.tolist() == [0] and not embeds.grad.any()


def test_the_loss_of_a_set_is_a_quotient_of_sums():
    assert validation_loss([(6.0, 2), (1.0, 1), (3.0, 7)]) == 1.0
    assert validation_loss([]) == math.inf


# -- cross entropy in bounded memory -----------------------------------------------------------------------------------


def projection_case(rows: int, vocabulary: int = 50, size: int = 12) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(rows)
    hidden_states = torch.randn(rows, size, generator=generator)
    weight = torch.randn(vocabulary, size, generator=generator)
    labels = torch.randint(vocabulary, (rows,), generator=generator)
    weights = torch.rand(rows, generator=generator) * 100  # as of 1 / t'
    return hidden_states, weight, labels, weights


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 20])  # of 8 at a time
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_losses_and_gradients_are_those_of_the_plain_way(monkeypatch, rows, dtype):
    monkeypatch.setattr(masked_diffusion, "ROWS_AT_A_TIME", 8)
    hidden_states, weight, labels, weights = projection_case(rows)
    one, other = (hidden_states.to(dtype).requires_grad_() for _ in range(2))
    weight = weight.to(dtype)
    plain = F.cross_entropy(F.linear(one, weight).float(), labels, reduction="none")
    ours = projected_cross_entropy(other, weight, labels)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)
    for losses in (plain, ours):
        (losses * weights).sum().backward()
    scale = one.grad.abs().max().item() if rows else 0
    tolerance = 1e-6 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(other.grad, one.grad, rtol=tolerance, atol=tolerance * scale)


def test_gradients_are_right_by_finite_differences():
    hidden_states, weight, labels, weights = projection_case(3)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return (projected_cross_entropy(x, weight, labels) * weights).sum()

    x = hidden_states.clone().requires_grad_()
    loss(x).backward()
    direction = torch.randn_like(x)
    step = 1e-2
    numeric = (loss(hidden_states + step * direction) - loss(hidden_states - step * direction)) / (2 * step)
    assert (x.grad * direction).sum().item() == pytest.approx(numeric.item(), rel=1e-3)


class Largest(TorchDispatchMode):
    """Remembers how many elements the largest result had, and counts matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = self.products = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.elements = max(self.elements, result.numel())
        self.products += function in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
        return result


@pytest.mark.parametrize("gradient", [True, False])
def test_memory_is_bounded_and_without_gradient_nothing_is_computed_for_it(monkeypatch, gradient):
    monkeypatch.setattr(masked_diffusion, "ROWS_AT_A_TIME", 8)
    hidden_states, weight, labels, _ = projection_case(40, size=4)
    with Largest() as largest:
        losses = projected_cross_entropy(hidden_states.requires_grad_(gradient), weight, labels)
        if gradient:
            losses.sum().backward()
    assert largest.elements == 8 * 50  # logits; all of them would be five times that
    assert largest.products == 5 * (1 + gradient)


def test_a_projection_that_is_not_frozen_is_refused():
    hidden_states, weight, labels, _ = projection_case(2)
    with pytest.raises(ValueError, match=r"the vocabulary projection requires a gradient.*freeze it"):
        projected_cross_entropy(hidden_states, weight.requires_grad_(), labels)
