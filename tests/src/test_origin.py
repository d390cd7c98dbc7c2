from types import SimpleNamespace

import torch

from src.data_sampler import Masking
from src.origin import ORIGIN, Origin, OriginCollator


def example(name: str, tokens: int, failures=(), masking=None) -> SimpleNamespace:
    return SimpleNamespace(audio_id=name, failures=list(failures), masking=masking, answer_ids=[7] * tokens)


def test_a_batch_says_where_it_comes_from():
    examples = [
        example("a", 3, masking=Masking(0.5, 4)),
        example("b", 2, ["gone.wav: no such audio file"], Masking(0.5, 5)),  # took the place of a clip that is gone
        example("c", 1),  # of a dataset read without a sampler
    ]
    batch = OriginCollator(lambda examples: {"t": torch.zeros(len(examples))})(examples)
    assert torch.equal(batch["t"], torch.zeros(3))
    assert batch[ORIGIN] == Origin(["a", "b", "c"], ["gone.wav: no such audio file"], [4, None, None], [3, 2, 1])
