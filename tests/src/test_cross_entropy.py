import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from src import cross_entropy
from src.cross_entropy import projected_cross_entropy


def case(rows: int, vocabulary: int = 50, size: int = 12) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(rows)
    hidden_states = torch.randn(rows, size, generator=generator)
    weight = torch.randn(vocabulary, size, generator=generator)
    labels = torch.randint(vocabulary, (rows,), generator=generator)
    weights = torch.rand(rows, generator=generator) * 100  # as of 1 / t'
    return hidden_states, weight, labels, weights


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 20])  # of 8 at a time
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_losses_and_gradients_are_those_of_the_plain_way(monkeypatch, rows, dtype):
    monkeypatch.setattr(cross_entropy, "ROWS_AT_A_TIME", 8)
    hidden_states, weight, labels, weights = case(rows)
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
    hidden_states, weight, labels, weights = case(3)

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
    monkeypatch.setattr(cross_entropy, "ROWS_AT_A_TIME", 8)
    hidden_states, weight, labels, _ = case(40, size=4)
    with Largest() as largest:
        losses = projected_cross_entropy(hidden_states.requires_grad_(gradient), weight, labels)
        if gradient:
            losses.sum().backward()
    assert largest.elements == 8 * 50  # logits; all of them would be five times that
    assert largest.products == 5 * (1 + gradient)


def test_a_projection_that_is_not_frozen_is_refused():
    hidden_states, weight, labels, _ = case(2)
    with pytest.raises(ValueError, match=r"the vocabulary projection requires a gradient.*freeze it"):
        projected_cross_entropy(hidden_states, weight.requires_grad_(), labels)
