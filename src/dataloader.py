"""From a manifest to training batches: read audio and text, pad and mask them, and say where they come from."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase, WhisperFeatureExtractor

from src.audio import AudioError, log_mel, read_audio
from src.configuration_DIFFA import ENCODER_RATE, MAX_TEXT_TOKENS, SAMPLE_RATE, SEMANTIC_STRIDE, WINDOW_SECONDS
from src.data_sampler import Draw
from src.manifest import ManifestError, Sample
from src.masked_diffusion import Masking, mask_answers
from src.prompts import END_OF_TURN, SYSTEM_PROMPT, build_prompt, tokenize_prompt

EMBEDDINGS_PER_SECOND = ENCODER_RATE / SEMANTIC_STRIDE  # of audio
CHARACTERS_PER_TOKEN = 4  # about, in English
MAX_ATTEMPTS = 10  # other samples tried in place of one that cannot be read, before reading fails
ORIGIN = "origin"  # the key that a batch carries its Origin under until the loss is computed


@dataclass(frozen=True)
class Example:
    """One sample, read and tokenized."""

    index: int  # of the sample in the dataset
    audio_id: str
    waveform: np.ndarray  # float32 [n], 16 kHz
    prompt_ids: list[int]  # up to and with the assistant's header
    answer_ids: list[int]  # the answer and its end of turn
    audio_position: int  # the audio goes before this token of the prompt
    masking: Masking | None = None  # None: drawn from torch's global random state when a batch is made
    failures: tuple[str, ...] = ()  # why the clips that this one replaces could not be used
    rejected_ids: list[int] | None = None  # of a preference pair, the worse answer and its end of turn


class DIFFADataset(Dataset):
    """Samples of a manifest, read when asked for.

    Args:
        samples: as `manifest.read_training_manifest` returns them.
        max_length: text tokens, prompt and answer together; an answer beyond is cut off.
        max_seconds: audio beyond is cut off.
        replaces_unusable: whether a draw of an unusable sample gives another one, as training wants it; else it gives
            a placeholder, which is not to be counted.
        system_prompt: what each conversation begins with.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        tokenizer: PreTrainedTokenizerBase,
        max_length: int = MAX_TEXT_TOKENS,
        max_seconds: float = WINDOW_SECONDS,
        replaces_unusable: bool = True,
        system_prompt: str = SYSTEM_PROMPT,
    ) -> None:
        self.samples = samples
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.max_seconds = max_seconds
        self.replaces_unusable = replaces_unusable
        self.system_prompt = system_prompt

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: int | Draw) -> Example:
        """The sample at an index, or what a sampler drew. Where it cannot be used, a draw gives another sample.

        Raises, at an index, AudioError for unusable audio and ManifestError for a prompt that leaves no room for an
        answer; AudioError for a draw in whose place ten others are unusable as well.
        """
        if not isinstance(key, Draw):
            return self.read(key)
        if not self.replaces_unusable:
            try:
                return replace(self.read(key.index), masking=key.masking)
            except (AudioError, ManifestError) as error:
                return self.placeholder(key, str(error))
        failures: list[str] = []
        others = random.Random(key.masking.seed)
        index = key.index
        while True:
            try:
                return replace(self.read(index), masking=key.masking, failures=tuple(failures))
            except (AudioError, ManifestError) as error:
                failures.append(str(error))
            if len(failures) > MAX_ATTEMPTS:
                raise AudioError(
                    f"{len(failures)} clips in a row cannot be used; the last one: {failures[-1]}. "
                    "Mend them, or take them out"
                )
            index = others.randrange(len(self))

    def lengths(self) -> list[int]:
        """About how many positions of the LLM each sample takes, by the manifest alone; for grouping by length."""
        return [
            round(
                EMBEDDINGS_PER_SECOND * min(sample.duration, self.max_seconds)
                + (len(sample.input) + max(len(sample.target), len(sample.rejected or ""))) / CHARACTERS_PER_TOKEN
            )
            for sample in self.samples
        ]

    def placeholder(self, draw: Draw, failure: str) -> Example:
        """A second of almost nothing and the shortest text, for a sample that is to be left out of an evaluation."""
        ids = self.tokenizer(END_OF_TURN, add_special_tokens=False)["input_ids"]
        waveform = np.full(SAMPLE_RATE, 1e-3, dtype=np.float32)
        name = self.samples[draw.index].audio_id
        return Example(draw.index, name, waveform, ids, ids, 0, draw.masking, (failure,), ids)

    def read(self, index: int) -> Example:
        sample = self.samples[index]
        prompt_ids, audio_position = tokenize_prompt(self.tokenizer, build_prompt(sample.input, self.system_prompt))
        if len(prompt_ids) >= self.max_length:
            raise ManifestError(
                f"sample {sample.audio_id}: its prompt has {len(prompt_ids)} tokens, which leaves no room for an "
                f"answer in max_length {self.max_length}; shorten `input` or raise --max_length"
            )
        room = self.max_length - len(prompt_ids)
        return Example(
            index,
            sample.audio_id,
            read_audio(sample.audio_filepath, self.max_seconds),
            prompt_ids,
            self.answer_ids(sample.target)[:room],
            audio_position,
            rejected_ids=None if sample.rejected is None else self.answer_ids(sample.rejected)[:room],
        )

    def answer_ids(self, answer: str) -> list[int]:
        return self.tokenizer(answer + END_OF_TURN, add_special_tokens=False)["input_ids"]


@dataclass(frozen=True)
class DIFFACollator:
    """Turns examples into the batch that `DIFFAModel.forward` takes.

    Attributes:
        mask_id, pad_id: token ids from the LLM's config; the padding is its end-of-text token.
        learn_padding: count the padding up to the batch's longest text as part of the answer, so that the model
            learns to stop by emitting end tokens (LLaDA, section 2.3). Without it, padding is hidden and not counted.
    """

    feature_extractor: WhisperFeatureExtractor
    mask_id: int
    pad_id: int
    learn_padding: bool = True

    def for_evaluation(self) -> "DIFFACollator":
        """The same without padding: a sample's loss must not depend on how long its neighbours are."""
        return replace(self, learn_padding=False)

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        input_features, feature_attention_mask = log_mel(self.feature_extractor, [e.waveform for e in examples])
        longest = max(len(e.prompt_ids) + len(e.answer_ids) for e in examples)
        clean_ids = torch.full((len(examples), longest), self.pad_id)  # [B, L]
        answer = torch.zeros(clean_ids.shape, dtype=torch.bool)  # the answer region
        text = torch.ones(clean_ids.shape, dtype=torch.int64)  # text_attention_mask
        for row, example in enumerate(examples):
            ids = torch.tensor(example.prompt_ids + example.answer_ids)
            clean_ids[row, : len(ids)] = ids
            answer[row, len(example.prompt_ids) : None if self.learn_padding else len(ids)] = True
            if not self.learn_padding:
                text[row, len(ids) :] = 0
        maskings = [example.masking or Masking.random() for example in examples]
        input_ids, labels, t = mask_answers(clean_ids, answer, self.mask_id, maskings)
        return {
            "input_features": input_features,  # float32 [B, n_mels, F]
            "feature_attention_mask": feature_attention_mask,  # [B, F]
            "input_ids": input_ids,  # [B, L]
            "labels": labels,  # [B, L]
            "t": t,  # [B]
            "audio_position": torch.tensor([e.audio_position for e in examples]),  # [B]
            "text_attention_mask": text,  # [B, L]
            "num_answer_tokens": answer.sum(),  # scalar
        }

    def lengthen(self, batch: dict[str, Any], length: int) -> None:
        """Pad a batch's texts to `length` tokens, in place, as if one of them had been so long from the start.

        The padding is masked by what follows in each sample's random numbers. Only where padding is learned: else
        nothing depends on it.
        """
        num_samples, short = batch["input_ids"].shape
        if not self.learn_padding or short == length:
            return
        padding = torch.full((num_samples, length), self.pad_id)  # [B, length]
        answer = torch.ones_like(padding, dtype=torch.bool)
        input_ids, labels, _ = mask_answers(padding, answer, self.mask_id, batch[ORIGIN].maskings)
        longer = {"input_ids": input_ids, "labels": labels, "text_attention_mask": torch.ones_like(padding)}
        for name, values in longer.items():
            batch[name] = torch.cat((batch[name], values[:, short:].to(batch[name].device)), dim=1)
        batch["num_answer_tokens"] = batch["num_answer_tokens"] + num_samples * (length - short)


@dataclass(frozen=True)
class Origin:
    """Where a batch comes from: for messages and counts, not for the model."""

    audio_ids: list[str]
    failures: list[str]  # why clips could not be used and were replaced
    indices: list[int | None]  # of the samples in the dataset; None for those that replace others
    answer_tokens: list[int]  # of each sample, without padding
    maskings: list[Masking | None]  # of each sample; None: drawn from torch's global random state


@dataclass(frozen=True)
class OriginCollator:
    """Adds to a collator's batch where it comes from."""

    collate: Callable[[Sequence[Example]], dict[str, torch.Tensor]]

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        origin = Origin(
            audio_ids=[example.audio_id for example in examples],
            failures=[failure for example in examples for failure in example.failures],
            indices=[None if example.failures else example.index for example in examples],
            answer_tokens=[len(example.answer_ids) for example in examples],
            maskings=[example.masking for example in examples],
        )
        return self.collate(examples) | {ORIGIN: origin}
