"""An answer while it is being made: its tokens as text, how sure the model is of each, and what is still masked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from src.generation_options import GenerationOptions
from src.modeling_DIFFA import DIFFAModel
from src.prompts import END_OF_TURN

MASK = " ░"  # how a position that is still masked is shown
SURE, UNSURE = 0.9, 0.5  # confidence from which a token counts as sure, and below which as unsure
UNFINISHED = "\ufffd"  # what a tokenizer makes of a character some bytes of which are missing


@dataclass(frozen=True)
class AnswerToken:
    """One position of an answer."""

    text: str  # with the space before it; "" for end tokens and for masks
    confidence: float  # when it was fixed; 0 where none was computed
    masked: bool


@dataclass(frozen=True)
class LiveAnswer:
    """An answer after so many forward passes."""

    tokens: tuple[AnswerToken, ...]
    forward_passes: int
    ended: bool = False  # it holds an end token; a finished one without is cut

    @property
    def text(self) -> str:
        """What is fixed so far; of a finished answer, what `DIFFAModel.generate` gives."""
        return "".join(token.text for token in self.tokens)


def live_answers(
    model: DIFFAModel,
    waveform: np.ndarray,
    instruction: str,
    options: GenerationOptions,
    speech: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> Iterator[LiveAnswer]:
    """Answer an instruction about a waveform (float32 [n] at 16 kHz): one LiveAnswer per pass, the last one whole.

    `speech`: what `DIFFAModel.get_speech_features` gave for it, where that is known already.
    """
    mask_id = model.llm_model.config.mask_token_id
    for progress in model.decode([waveform], [instruction], options, speech):
        ids = progress.answer_ids[0].tolist()
        columns = zip(token_texts(model.tokenizer, ids, mask_id), progress.confidence[0].tolist(), ids, strict=True)
        tokens = tuple(AnswerToken(text, confidence, index == mask_id) for text, confidence, index in columns)
        yield LiveAnswer(tokens, int(progress.forward_passes[0]), has_end(model.tokenizer, ids))


def has_end(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> bool:
    """Whether the model ended the answer among these tokens."""
    return not {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(END_OF_TURN)}.isdisjoint(ids)


def count(number: int, noun: str, plural: str) -> str:
    """`1 forward pass`, `2 forward passes`."""
    return f"{number} {noun}{plural * (number != 1)}"


def token_texts(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], mask_id: int) -> list[str]:
    """Each token's share of the text; a character made of several tokens goes to the last of them."""
    result, run, done = [], [], ""
    for place, index in enumerate(ids):
        if index == mask_id:
            run, done = [], ""
            result.append("")
            continue
        run.append(index)
        text = tokenizer.decode(run, skip_special_tokens=True)
        at_end = place + 1 == len(ids) or ids[place + 1] == mask_id
        if text.endswith(UNFINISHED) and not at_end:
            result.append("")
        else:
            result.append(text[len(done) :])
            done = text
    return result
