"""Where a training batch comes from: its samples' ids, and what else the trainer wants to know of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from src.dataloader import Example

ORIGIN = "origin"  # the key that a batch carries its Origin under until the loss is computed


@dataclass(frozen=True)
class Origin:
    """Where a batch comes from: for messages and counts, not for the model."""

    audio_ids: list[str]
    failures: list[str]  # what was wrong with clips that could not be used, and were replaced
    places: list[int | None]  # of the samples in an evaluation; None for those that replace others
    answer_tokens: list[int]  # of each sample, without padding


@dataclass(frozen=True)
class OriginCollator:
    """Adds to a collator's batch where it comes from."""

    collate: Callable[[Sequence[Example]], dict[str, torch.Tensor]]

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        origin = Origin(
            audio_ids=[example.audio_id for example in examples],
            failures=[failure for example in examples for failure in example.failures],
            places=[None if example.failures or not example.masking else example.masking.seed for example in examples],
            answer_tokens=[len(example.answer_ids) for example in examples],
        )
        return self.collate(examples) | {ORIGIN: origin}
