import pytest
import torch

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


def test_a_tenth_drops_out_in_training_as_in_bert(connector):
    """BertConfig's defaults, for attention and for hidden states, in both layers."""
    shares: list[float] = []
    dropouts = [module for module in connector.modules() if isinstance(module, torch.nn.Dropout)]
    for module in dropouts:
        module.register_forward_hook(lambda module, inputs, output: shares.append((output == 0).float().mean().item()))
    states = hidden(64)
    connector(states)
    assert len(shares) == 2 * 5 and max(shares) == 0  # two attentions with an output each, and the feed-forward
    shares.clear()
    connector.train()(states)
    assert len(shares) == 2 * 5 and all(0.08 < share < 0.12 for share in shares), shares
