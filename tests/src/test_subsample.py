import pytest
import torch

from src.subsample import WhisperProjector


@pytest.fixture
def projector() -> WhisperProjector:
    torch.manual_seed(0)
    return WhisperProjector(encoder_dim=8, llm_dim=6).eval()


def test_four_frames_make_one_embedding_and_the_rest_is_dropped(projector):
    embeds, lengths = projector(torch.randn(3, 20, 8), torch.tensor([20, 7, 3]))
    assert embeds.shape == (3, 5, 6)
    assert lengths.tolist() == [5, 1, 0]


def test_a_batch_equals_its_members(projector):
    frames = torch.randn(4, 32, 8)
    lengths = torch.tensor([32, 21, 8, 5])
    together, out_lengths = projector(frames, lengths)
    for row, length in enumerate(lengths):
        alone, _ = projector(frames[row : row + 1, :length], length[None])
        n = out_lengths[row]
        torch.testing.assert_close(together[row, :n], alone[0, :n], rtol=1e-5, atol=1e-6)


def test_frames_past_the_end_do_not_matter(projector):
    frames = torch.randn(1, 16, 8)
    garbled = frames.clone()
    garbled[:, 8:] = 1e3  # frames 8-10 are real but dropped (11 % 4), 11-15 are padding
    lengths = torch.tensor([11])
    torch.testing.assert_close(projector(frames, lengths)[0][:, :2], projector(garbled, lengths)[0][:, :2])


def test_parameter_names_are_the_published_ones(projector):
    modules = {name.rpartition(".")[0] for name, _ in projector.named_parameters()}
    assert modules == {"conv.0", "conv.2", "linear_connector.0", "linear_connector.2", "layernorm"}
