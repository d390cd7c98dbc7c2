from types import SimpleNamespace

import pytest
import torch

from src import qformer
from src.qformer import QformerConnector, target_layers


@pytest.mark.parametrize(
    ("depth", "targets"),
    [
        (4, [0, 1, 2, 3]),  # tiny
        (12, [2, 5, 8, 11]),  # small
        (24, [5, 11, 17, 23]),  # medium
        (32, [3, 7, 11, 15, 19, 23, 27, 31]),  # large
        (6, [1, 2, 4, 5]),  # base: not published, every quarter
        (2, [0, 1]),
    ],
)
def test_target_layers(depth, targets):
    assert target_layers(depth) == targets


@pytest.fixture
def connector() -> QformerConnector:
    torch.manual_seed(0)
    return QformerConnector(8, encoder_heads=2, llm_dim=6, target_layer_ids=[0, 2], num_queries=5).eval()


def hidden(batch_size: int) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(1)
    return tuple(torch.randn(batch_size, 9, 8) for _ in range(4))


def test_only_the_target_layers_are_read(connector):
    states = hidden(2)
    before = connector(states)
    assert before.shape == (2, 5, 6)
    others = tuple(state + 1 if index in (1, 3) else state for index, state in enumerate(states))
    assert torch.equal(connector(others), before)
    changed = tuple(state + torch.randn(8) if index == 2 else state for index, state in enumerate(states))
    assert (connector(changed) - before).abs().max() > 1e-3


def test_all_frames_are_attended_to(connector):
    states = hidden(1)
    before = connector(states)
    states[2][0, -1] += torch.randn(8) * 5
    assert (connector(states) - before).abs().max() > 1e-4


def test_a_batch_equals_its_members(connector):
    states = hidden(3)
    together = connector(states)
    for row in range(3):
        alone = connector(tuple(state[row : row + 1] for state in states))
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-5, atol=1e-6)


def test_layer_weights_mix_per_query(connector):
    """With all weight on one target, each query gives what that target alone would give."""
    states = hidden(1)
    mixed_alone = []
    for target in range(2):
        connector.layer_weights.data.fill_(-1e4)
        connector.layer_weights.data[:, target] = 0
        mixed_alone.append(connector(states))
    connector.layer_weights.data.fill_(-1e4)
    connector.layer_weights.data[:3, 0] = 0  # queries 0-2 take the first target, 3-4 the second
    connector.layer_weights.data[3:, 1] = 0
    mixed = connector(states)
    torch.testing.assert_close(mixed[:, :3], mixed_alone[0][:, :3])
    torch.testing.assert_close(mixed[:, 3:], mixed_alone[1][:, 3:])


def test_no_mask_between_queries(connector):
    """The first query sees the last one: changing the last one's prompt changes the first one's output."""
    states = hidden(1)
    before = connector(states)[0, 0]
    connector.layer_prompts[0].data[0, -1] += torch.randn(8) * 5
    assert (connector(states)[0, 0] - before).abs().max() > 1e-4


def test_a_tenth_drops_out_in_training_as_in_bert(connector, monkeypatch):
    """BertConfig's defaults, for attention and for hidden states, in both layers."""
    shares: list[float] = []
    dropouts = [module for module in connector.modules() if isinstance(module, torch.nn.Dropout)]
    for module in dropouts:
        module.register_forward_hook(lambda module, inputs, output: shares.append((output == 0).float().mean().item()))
    masks = []
    read = qformer._ReadFrames.apply
    monkeypatch.setattr(
        qformer, "_ReadFrames", SimpleNamespace(apply=lambda *args: masks.append(args[-2:]) or read(*args))
    )
    states = hidden(64)
    connector(states)
    assert len(shares) == 2 * 4 and max(shares) == 0  # the self-attention, an output each, and the feed-forward
    assert masks == [(None, 1), (None, 1)]  # of the cross-attention
    shares.clear(), masks.clear()
    connector.train()(states)
    shares += [mask.float().mean().item() for mask, _ in masks]
    assert len(shares) == 2 * 5 and all(0.08 < share < 0.12 for share in shares), shares
    assert [scale for _, scale in masks] == [1 / 0.9, 1 / 0.9]


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("dropout", [False, True])
def test_frames_are_read_as_by_berts_own_attention(monkeypatch, rows, dropout):
    """Outputs and all gradients are those of autograd through keys, values and weights."""
    monkeypatch.setattr(qformer, "rows_of", lambda q: (slice(start, start + rows) for start in range(0, len(q), rows)))
    torch.manual_seed(0)
    batch, heads, queries, size, width, length = 3, 2, 5, 4, 8, 9
    shapes = [(batch, heads, queries, size), (batch, length, width), *[(heads, size, width)] * 2, *[(heads, size)] * 2]
    q, frames, *parameters = (torch.randn(shape) for shape in shapes)
    dropped = torch.rand(batch, heads * queries, length) < 0.3 if dropout else None
    scale, upstream = 1 / 0.7 if dropout else 1.0, torch.randn(shapes[0])

    def plain(q, w_key, w_value, b_key, b_value):
        keys = torch.einsum("ntd,hed->nhte", frames, w_key) + b_key[:, None]
        values = torch.einsum("ntd,hed->nhte", frames, w_value) + b_value[:, None]
        weights = (q @ keys.mT).softmax(dim=-1)
        if dropped is not None:
            weights = weights.masked_fill(dropped.view_as(weights), 0) * scale
        return weights @ values

    def ours(q, *parameters):
        return qformer._ReadFrames.apply(q, frames, *parameters, dropped, scale)

    found = []
    for read in (plain, ours):
        inputs = [tensor.clone().requires_grad_() for tensor in (q, *parameters)]
        output = read(*inputs)
        found.append([output, *torch.autograd.grad(output, inputs, upstream)])
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
