"""The published algorithm, plainly: the oracle of the tests and the baseline of every ratio.

One sample at a time; every step one forward pass over everything, logits of every position, a float64 softmax over
all of them but the audio's, whose logits the published decoder drops first. Written for reading, and for being
obviously right.
"""

import copy
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from transformers.models.bert.modeling_bert import BertSelfAttention

from src.configuration_DIFFA import IGNORE_INDEX
from src.generation_options import GenerationOptions
from src.modeling_DIFFA import DIFFAModel
from src.modeling_llada import LLaDAModel
from src.modeling_whisper_encoder import WhisperAudioEncoder
from src.prompts import build_prompt, tokenize_prompt
from src.splice import position_ids_of, splice
from tests.published_llada import published_llada


class PublishedEncoder(torch.nn.Module):
    """transformers' Whisper encoder as the published code calls it: all clips at once, all states of all layers."""

    def __init__(self, whisper: WhisperAudioEncoder) -> None:
        super().__init__()
        self.config, self.encoder, self.num_frames = whisper.config, whisper.encoder, whisper.num_frames

    @torch.no_grad()
    def forward(
        self, input_features: torch.Tensor, feature_attention_mask: torch.Tensor, *_: object
    ) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        output = self.encoder(input_features.to(self.encoder.conv1.weight.dtype), output_hidden_states=True)
        return output.hidden_states, self.num_frames(feature_attention_mask.sum(dim=-1))


def as_published(model: DIFFAModel) -> DIFFAModel:
    """A model over the same frozen weights, with copies of its adapters, that computes as published.

    It encodes audio with states of all layers, and in the Q-Former with a key and a value of each frame; its LLM is
    `published_llada`.
    """
    published = copy.deepcopy(model, {id(part): part for part in (model.llm_model, model.whisper_model)})
    published.whisper_model = PublishedEncoder(model.whisper_model)
    published.llm_model = published_llada(model.llm_model)
    for layer in published.acoustic_connector.qformer.layer:
        layer.crossattention.self.__class__ = BertSelfAttention  # the same parameters
    return published


def answer(model: DIFFAModel, waveform: np.ndarray, instruction: str, options: GenerationOptions) -> torch.Tensor:
    """Answer token ids, int64 [max_new_tokens], to one instruction about one clip, from the waveform on."""
    prompt = model.build_inputs([waveform], [instruction], options)
    unconditional = None if prompt.unconditional_embeds is None else prompt.unconditional_embeds[0]
    prompt_embeds = prompt.inputs_embeds[0]
    audio = audio_columns(model, prompt_embeds, instruction)
    return generate(model.llm_model, prompt_embeds, options, unconditional, audio)


def audio_columns(model: DIFFAModel, prompt_embeds: torch.Tensor, instruction: str) -> slice:
    """Where in a prompt [P, d] the audio is."""
    prompt_ids, position = tokenize_prompt(model.tokenizer, build_prompt(instruction, model.system_prompt))
    return slice(position, position + len(prompt_embeds) - len(prompt_ids))


@torch.inference_mode()
def generate(
    llm: LLaDAModel,
    prompt_embeds: torch.Tensor,  # [P, d], audio spliced in
    options: GenerationOptions,
    unconditional_embeds: torch.Tensor | None = None,  # [P, d]
    audio: slice = slice(0),  # of the prompt; changes no token, but how many logits each step goes over
) -> torch.Tensor:
    """Answer token ids, int64 [max_new_tokens], of one unpadded prompt."""
    mask_id, device = llm.config.mask_token_id, prompt_embeds.device
    generator = torch.Generator(device).manual_seed(options.seed or 0)
    steps = options.steps // options.num_blocks
    is_text = torch.ones(len(prompt_embeds) + options.max_new_tokens, dtype=torch.bool, device=device)
    is_text[audio] = False
    prompt_length = int(is_text.sum()) - options.max_new_tokens  # P', the prompt's text tokens
    answer = torch.full((options.max_new_tokens,), mask_id, device=device)
    for start in range(0, options.max_new_tokens, options.block_length):
        end = start + options.block_length
        share, extra = divmod(int((answer[start:end] == mask_id).sum()), steps)
        for step in range(steps):
            quota = share + (step < extra)
            if quota == 0:
                break  # the published code goes on to compute steps that fix nothing
            logits = all_logits(llm, prompt_embeds, answer)  # [P + A, V]
            if options.cfg_scale > 0:
                unconditional = all_logits(llm, unconditional_embeds, answer)
                logits = unconditional + (options.cfg_scale + 1) * (logits - unconditional)
            logits = logits[is_text]  # [P' + A, V], P' text tokens
            open_ = torch.zeros(len(logits), dtype=torch.bool, device=device)  # masked, and not beyond the block
            open_[prompt_length : prompt_length + end] = answer[:end] == mask_id
            noisy = logits
            if options.temperature > 0:
                noisy = logits.double()
                uniform = rand(generator, int(open_.sum()), logits.shape[-1])
                noisy[open_] = noisy[open_].exp() / (-uniform.log()) ** options.temperature
            candidate = noisy.argmax(dim=-1)  # [P' + A]
            if options.remasking == "low_confidence":
                confidence = logits.double().softmax(dim=-1).gather(-1, candidate[:, None])[:, 0]
            else:
                confidence = torch.zeros(len(logits), dtype=torch.float64, device=device)
                confidence[open_] = rand(generator, int(open_.sum()))
            confidence[~open_] = -torch.inf
            # a stable sort, since the published topk leaves open which of two equals it takes
            chosen = confidence.sort(descending=True, stable=True).indices[:quota]
            answer[chosen - prompt_length] = candidate[chosen]
    return answer


def all_logits(llm: LLaDAModel, prompt_embeds: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
    """Logits [P + A, V] of every position."""
    return llm.project(llm(torch.cat((prompt_embeds, llm.embed(answer)))[None]))[0]


def rand(generator: torch.Generator, *size: int) -> torch.Tensor:
    return torch.rand(size, dtype=torch.float64, device=generator.device, generator=generator)


def loss(model: DIFFAModel, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The loss of a training batch, as `DIFFAModel.forward` takes it: logits of every position, autograd for all."""
    audio = model.encode_audio(batch["input_features"], batch["feature_attention_mask"])
    return sample_losses(model, audio, batch).sum() / batch["num_answer_tokens"]


def sample_losses(
    model: DIFFAModel, audio: tuple[torch.Tensor, torch.Tensor], batch: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """The sum of CE / t' of each sample, [B]; `audio` is what `encode_audio` returns."""
    audio_embeds, audio_lengths = audio
    text_embeds = model.llm_model.embed(batch["input_ids"])
    spliced = splice(
        text_embeds, batch["text_attention_mask"], audio_embeds, audio_lengths, batch["audio_position"], "right"
    )
    mask = spliced.attention_mask  # [B, T]
    logits = model.llm_model.project(model.llm_model(spliced.inputs_embeds, mask, position_ids_of(mask)))  # [B, T, V]
    labels = torch.full_like(mask, IGNORE_INDEX).scatter(1, spliced.text_columns, batch["labels"])  # [B, T]
    cross_entropy = F.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), reduction="none", ignore_index=IGNORE_INDEX
    )  # [B T], zero where there is no label
    return (cross_entropy.view_as(labels) / batch["t"][:, None]).sum(dim=1)


def preference_loss(
    policy: DIFFAModel, reference: DIFFAModel, batch: Mapping[str, torch.Tensor], beta: float, sft_weight: float = 0.0
) -> torch.Tensor:
    """The loss of a batch of pairs, as `PreferenceModel.forward` takes it, of two models: all draws' graphs are kept.

    Each model encodes the clips once. (The published -log(sigmoid) is infinite for margins below about -88.)
    """
    policy_elbos = elbos(policy, batch)  # [2, B]
    with torch.no_grad():
        reference_elbos = elbos(reference, batch)
    gains = policy_elbos - reference_elbos
    preference = -torch.sigmoid(beta * (gains[0] - gains[1])).log()  # [B]
    tokens = (batch["labels"][0, 0] != IGNORE_INDEX).sum(dim=1) / batch["t"][0, 0]  # [B], of the chosen answers
    return (preference - sft_weight * policy_elbos[0] / tokens).mean()


def elbos(model: DIFFAModel, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """ELBO estimates of chosen and rejected answers, [2, B]."""
    audio = model.encode_audio(batch["input_features"], batch["feature_attention_mask"])
    num_draws, estimates = batch["t"].shape[1], []
    for side in (0, 1):
        shared = {"text_attention_mask": batch["text_attention_mask"][side], "audio_position": batch["audio_position"]}
        draws = [{name: batch[name][side, draw] for name in ("input_ids", "labels", "t")} for draw in range(num_draws)]
        estimates.append(-torch.stack([sample_losses(model, audio, shared | draw) for draw in draws]).mean(dim=0))
    return torch.stack(estimates)
