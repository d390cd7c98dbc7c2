"""Audio embeddings into text embeddings, each row at its own place."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Spliced:
    """Text embeddings with audio embeddings put in between, each row packed without a gap."""

    inputs_embeds: torch.Tensor  # [B, L + N, d]
    attention_mask: torch.Tensor  # int64 [B, L + N], 0 on padding
    text_columns: torch.Tensor  # int64 [B, L], the column where each text token landed


def splice(
    text_embeds: torch.Tensor,  # [B, L, d]
    text_mask: torch.Tensor,  # [B, L], 0 on padding
    audio_embeds: torch.Tensor,  # [B, N, d]
    audio_lengths: torch.Tensor,  # [B], of N
    audio_position: torch.Tensor,  # [B], the audio goes before this text token
    padding_side: str,  # where the columns go that shorter audio leaves over: "left" or "right"
) -> Spliced:
    """Insert each row's audio at its position, so that a row reads text, audio, text as it would alone."""
    num_text, num_audio = text_embeds.shape[1], audio_embeds.shape[1]
    device = text_embeds.device
    spare = num_audio - audio_lengths  # [B]
    shift = (spare if padding_side == "left" else torch.zeros_like(spare))[:, None]
    start, length = audio_position[:, None], audio_lengths[:, None]
    column = torch.arange(num_text + num_audio, device=device)[None] - shift  # [B, L + N], 0 at the row's own start
    after = column >= start + length
    in_audio = (column >= start) & ~after
    source = torch.where(in_audio, num_text + column - start, column - length * after)  # into [text, audio]
    inside = (column >= 0) & (column < num_text + length)
    source = source.clamp(0, num_text + num_audio - 1)

    both = torch.cat((text_embeds, audio_embeds), dim=1)
    inputs_embeds = both.gather(1, source[:, :, None].expand(-1, -1, both.shape[-1]))
    mask = torch.cat((text_mask.long(), text_mask.new_ones(audio_embeds.shape[:2], dtype=torch.int64)), dim=1)
    text = torch.arange(num_text, device=device)[None]
    text_columns = text + shift + length * (text >= start)
    return Spliced(inputs_embeds, mask.gather(1, source) * inside, text_columns)


def position_ids_of(attention_mask: torch.Tensor) -> torch.Tensor:
    """Positions counted over real tokens alone, so that padding does not shift a sample: int64, as `attention_mask`."""
    return (attention_mask.long().cumsum(dim=-1) - 1).clamp(min=0)
