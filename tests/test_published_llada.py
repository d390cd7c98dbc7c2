"""The baseline of the ratios computes what the model here computes, and does so as the public code does."""

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from src.configuration_DIFFA import LLaDAConfig
from src.modeling_llada import LLaDAModel
from tests.published_llada import published_llada

SHAPE = {
    "d_model": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 4, "mlp_hidden_size": 48, "embedding_size": 160,
    "rope_theta": 5e5, "rms_norm_eps": 1e-5, "max_sequence_length": 64, "weight_tying": False, "mask_token_id": 3,
    "eos_token_id": 1, "pad_token_id": 1,
}  # fmt: skip


def random_llada(**changes: int) -> LLaDAModel:
    torch.manual_seed(0)
    return LLaDAModel(LLaDAConfig(**SHAPE | changes))


@pytest.mark.parametrize("n_kv_heads", [4, 2])
def test_logits_and_gradients_are_the_same(n_kv_heads):
    llm = random_llada(n_kv_heads=n_kv_heads)
    published = published_llada(llm)
    embeds = torch.randn(2, 9, 32)
    mask = torch.tensor([[1] * 9, [1] * 6 + [0] * 3])
    for attention_mask in (mask, None):
        results = []
        for model in (llm, published):
            x = embeds.clone().requires_grad_()
            logits = model.project(model(x, attention_mask))
            logits[:, :6].square().sum().backward()
            results.append((logits[:, :6], x.grad))
        torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-5)


def test_weights_are_shared_and_the_model_stays_as_it_was():
    llm = random_llada()
    before = copy.deepcopy(llm.state_dict())
    published = published_llada(llm)
    assert all(a is b for a, b in zip(llm.parameters(), published.parameters(), strict=True))
    assert type(llm) is LLaDAModel and {type(m).__module__ for m in llm.modules()}.isdisjoint({published.__module__})
    assert list(published.state_dict()) == list(before)


class Operations(TorchDispatchMode):
    """Counts the operations of a forward pass by name."""

    def __init__(self) -> None:
        super().__init__()
        self.count: dict[str, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        self.count[name] = self.count.get(name, 0) + 1
        return func(*args, **kwargs or {})


@torch.inference_mode()
def test_each_operation_is_done_as_published():
    """One layer: three norms with the last one, two rotations, nothing written over what is there."""
    llm = random_llada(n_layers=1)
    with Operations() as operations:
        published = published_llada(llm)
        operations.count.clear()
        published(torch.randn(1, 9, 32))
    count = operations.count
    assert (count["pow"] - 1, count["rsqrt"], count["silu"]) == (3, 3, 1)  # less those of the angles' tables
    assert count["neg"] - 2 == count["cat"] - 2 == 2
    assert not [name for name in count if name.endswith("_") and not name.startswith("_")]
