import pytest
import torch

from src.splice import position_ids_of, splice


@pytest.mark.parametrize(
    ("side", "first", "second"),
    [
        ("right", [1, 2, -1, -2, 3, 0], [0, 5, -4, 6, 7, 0]),
        ("left", [1, 2, -1, -2, 3, 0], [0, 0, 5, -4, 6, 7]),
    ],
)
def test_splice_packs_each_row(side, first, second):
    """Text is numbered upwards, audio downwards, padding is 0; the second row has one text pad and shorter audio."""
    text = torch.tensor([[1.0, 2, 3, 0], [0, 5, 6, 7]])[:, :, None]
    text_mask = torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1]])
    audio = torch.tensor([[-1.0, -2], [-4, -9]])[:, :, None]
    spliced = splice(text, text_mask, audio, torch.tensor([2, 1]), torch.tensor([2, 2]), side)
    real = spliced.attention_mask.bool()
    kept = (spliced.inputs_embeds[:, :, 0] * real).tolist()
    assert kept == [first, second]
    assert real.sum(dim=1).tolist() == [5, 4]
    landed = spliced.inputs_embeds[:, :, 0].gather(1, spliced.text_columns)
    assert torch.equal(landed * text_mask, text[:, :, 0] * text_mask)


def test_positions_skip_padding():
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    assert position_ids_of(mask).tolist() == [[0, 0, 0, 1], [0, 1, 2, 3]]
