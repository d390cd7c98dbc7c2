"""Training batches of preference pairs: both answers of each, masked in several draws."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from transformers import WhisperFeatureExtractor

from src.audio import log_mel
from src.dataloader import Example
from src.masked_diffusion import Masking, apply_masks
from src.preference import SIDES, exact_masks


@dataclass(frozen=True)
class PairCollator:
    """Turns examples of pairs into the batch that `PreferenceModel.forward` takes.

    Chosen and rejected answers are masked each on their own; what an example's masks are follows from its `Masking`'s
    seed, whatever else the batch holds. Padding is neither masked nor attended to.

    Args:
        feature_extractor: of Whisper.
        mask_id, pad_id: token ids.
        num_draws: K, of masks for each answer.
        stratified: see `preference.exact_masks`.
    """

    feature_extractor: WhisperFeatureExtractor
    mask_id: int
    pad_id: int
    num_draws: int
    stratified: bool = False

    def for_evaluation(self) -> "PairCollator":
        """The same with draws spread evenly, so that fewer tell as much."""
        return replace(self, stratified=True)

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        """The batch; `PreferenceModel.forward` has its shapes."""
        input_features, feature_attention_mask = log_mel(self.feature_extractor, [e.waveform for e in examples])
        longest = max(len(e.prompt_ids) + max(map(len, (e.answer_ids, e.rejected_ids))) for e in examples)
        clean_ids = torch.full((len(SIDES), len(examples), longest), self.pad_id)  # [2, B, L]
        answer = torch.zeros(clean_ids.shape, dtype=torch.bool)  # the answer region
        masks = torch.zeros(len(SIDES), self.num_draws, *clean_ids.shape[1:], dtype=torch.bool)  # [2, K, B, L]
        rates = torch.empty(masks.shape[:3])  # [2, K, B]
        text = torch.zeros_like(clean_ids)  # text_attention_mask
        for row, example in enumerate(examples):
            generator = torch.Generator().manual_seed((example.masking or Masking.random()).seed)
            for side, answer_ids in zip(SIDES, (example.answer_ids, example.rejected_ids), strict=True):
                ids = torch.tensor(example.prompt_ids + answer_ids)
                clean_ids[side, row, : len(ids)] = ids
                text[side, row, : len(ids)] = 1
                answer[side, row, len(example.prompt_ids) : len(ids)] = True
                masks[side, :, row], rates[side, :, row] = exact_masks(
                    answer[side, row], self.num_draws, self.stratified, generator
                )
        input_ids, labels = apply_masks(clean_ids[:, None], masks, self.mask_id)
        return {
            "input_features": input_features,
            "feature_attention_mask": feature_attention_mask,
            "input_ids": input_ids,
            "labels": labels,
            "t": rates,
            "audio_position": torch.tensor([e.audio_position for e in examples]),
            "text_attention_mask": text,
        }
