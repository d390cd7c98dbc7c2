"""DIFFA: frozen Whisper encoder, two trained adapters, frozen LLaDA (arXiv 2507.18452)."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast, WhisperFeatureExtractor

from src.audio import log_mel
from src.checkpoint import identity, read_json, resolve
from src.configuration_DIFFA import (
    ADAPTER_MODULES,
    DEFAULT_STAGE,
    NUM_TRAINABLE_PROMPTS,
    SEMANTIC_STRIDE,
    STAGES,
    DIFFAConfig,
)
from src.diffa_checkpoint import (
    forget_unsaved_keys,
    modules_in,
    prefixes_of,
    read_adapters,
    take_published_names,
    write_checkpoint,
)
from src.family import family_of
from src.frozen_parts import check_frozen_parts, encoder_class, llm_class
from src.llm_generate import GenerationOptions, Progress, Prompt, decode, generate
from src.lora import LoRA, attach, is_factor, published_name, read_lora, set_factors
from src.masked_diffusion import DiffusionOutput, diffusion_loss
from src.modeling_llada import LLaDAModel
from src.modeling_whisper_encoder import WhisperAudioEncoder
from src.precision import default_dtype
from src.prompts import SYSTEM_PROMPT, Conversation, build_prompt, tokenize_prompt
from src.qformer import QformerConnector, target_layers
from src.splice import Spliced, splice
from src.subsample import WhisperProjector

logger = logging.getLogger("diffa")


@dataclass(frozen=True)
class Answers:
    """What `DIFFAModel.answer` returns."""

    texts: list[str]  # without special tokens
    ids: torch.Tensor  # int64 [B, max_new_tokens], on the CPU
    num_tokens: list[int]  # in each text: end tokens and other special tokens do not count
    num_fixed: list[int]  # that forward passes fixed, special tokens included; the rest was filled up or left out
    forward_passes: list[int]  # of the LLM, as many as each answer takes alone; a guided pass counts once


class DIFFAModel(nn.Module):
    """The whole model. Training calls it; `generate` answers questions about audio.

    Attributes:
        stage: of `STAGES`, which says what precedes the semantic embeddings in the LLM's input; can be set.
        system_prompt: what answers are asked for with; can be set.
        tokenizer, feature_extractor: the frozen parts' own.
        saved_modules: the adapters that `save_pretrained` writes: those that the checkpoint held or the stage trains.
        lora: the LoRA factors that were merged into the LLM's weights, on the CPU; None where there are none.
        trains_lora: whether LoRA factors stand beside the LLM's weights, to be trained (`attach_lora`).
    """

    def __init__(
        self,
        config: DIFFAConfig,
        llm_model: LLaDAModel,
        whisper_model: WhisperAudioEncoder,
        tokenizer: PreTrainedTokenizerBase,
        feature_extractor: WhisperFeatureExtractor,
    ) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.feature_extractor = feature_extractor
        self.llm_model = llm_model
        self.whisper_model = whisper_model
        encoder_dim, llm_dim = whisper_model.config.d_model, llm_model.config.d_model
        self.trainable_prompts = nn.Embedding(NUM_TRAINABLE_PROMPTS, llm_dim)
        self.semantic_connector = WhisperProjector(encoder_dim, llm_dim)
        targets = config.acoustic_connector_config.get("target_layer_ids")
        self.acoustic_connector = QformerConnector(
            encoder_dim,
            whisper_model.config.encoder_attention_heads,
            llm_dim,
            targets or target_layers(whisper_model.config.encoder_layers),
            config.prompt_size,
        )
        self.saved_modules: tuple[str, ...] = ADAPTER_MODULES
        self.lora: LoRA | None = None
        self.trains_lora = False
        self.stage = config.stage or DEFAULT_STAGE
        self.system_prompt = SYSTEM_PROMPT
        # Checkpoints never hold the frozen parts: strict loading is about the trained ones alone.
        self.register_load_state_dict_pre_hook(take_published_names)
        self.register_load_state_dict_post_hook(forget_unsaved_keys)

    # -- making, loading, saving ------------------------------------------------------------------------------------

    @classmethod
    def from_frozen(
        cls,
        llm_path: str | os.PathLike,
        whisper_path: str | os.PathLike,
        config: DIFFAConfig | None = None,
        torch_dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        lora: LoRA | None = None,
        quantization: str | None = None,
        adapter_dtype: torch.dtype = torch.float32,
    ) -> "DIFFAModel":
        """Frozen parts from their checkpoints, and new adapters, randomly initialised.

        `config` brings the adapters' shape, the stage and the family; what it says of the frozen parts is replaced by
        what the folders say. The updates of `lora` are merged into the LLM's weights, which `quantization` rounds to
        "int8" or "int4" (`src/quantization.py`).
        Raises CheckpointError when a folder is missing or incomplete, or `lora` does not fit the LLM.
        """
        llm_folder = resolve(llm_path, "the LLM (LLaDA)", "--llm_path")
        whisper_folder = resolve(whisper_path, "the Whisper encoder", "--whisper_path")
        config = config or DIFFAConfig()
        config.llm_config = read_json(llm_folder / "config.json")
        config.whisper_config = read_json(whisper_folder / "config.json")
        config.llm_model_id = identity(llm_path)
        config.whisper_model_id = identity(whisper_path)
        config.family = family_of(config, lora is not None)
        parts = (
            llm_class(llm_folder).from_pretrained(llm_folder, torch_dtype, device, lora, quantization),
            encoder_class(whisper_folder).from_pretrained(whisper_folder, torch_dtype, device),
            PreTrainedTokenizerFast.from_pretrained(llm_folder),
            WhisperFeatureExtractor.from_pretrained(whisper_folder),
        )
        with default_dtype(adapter_dtype):  # the adapters are never in memory in another one
            model = cls(config, *parts)
        model.lora = lora
        return model.to(device).eval()

    @classmethod
    def from_pretrained(
        cls,
        model_path: str | os.PathLike,
        llm_path: str | os.PathLike | None = None,
        whisper_path: str | os.PathLike | None = None,
        torch_dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        adapter_dtype: torch.dtype | None = None,
        use_lora: bool | None = None,
        merge_lora: bool = True,
        lora_dropout: float = 0.0,
        quantization: str | None = None,
    ) -> "DIFFAModel":
        """Load a checkpoint of DIFFA or DIFFA-2, as published (`pytorch_model.bin`) or ours (`model.safetensors`).

        LoRA factors, where it brings any, are merged into the LLM's weights (see `lora.read_lora`). Frozen parts that
        a published training run stored with them are not read.

        Args:
            model_path: the checkpoint's folder, or its hub name.
            llm_path, whisper_path: the frozen parts; None for those that the checkpoint's `config.json` remembers.
            torch_dtype: of all parts; `adapter_dtype` overrides it for the adapters (training keeps them in float32).
            use_lora: True insists on LoRA factors, False on none.
            merge_lora: False leaves them beside the LLM's weights, to be trained with `lora_dropout` (`attach_lora`).
            quantization: "int8" or "int4" rounds the LLM's weights, with the factors in them; such a model answers,
                but is not trained.

        Raises:
            CheckpointError: a folder is missing; the LLM or the encoder is not of the size the adapters were trained
                for; adapter weights or LoRA factors are missing, unexpected or misshapen.
        """
        folder = resolve(model_path, "the DIFFA checkpoint", "--model_path")
        config = DIFFAConfig.from_dict(read_json(folder / "config.json"))
        lora = read_lora(folder, config.lora_alpha, use_lora)
        config.family = family_of(config, lora is not None)
        config.lora_alpha = lora.alpha if lora else None
        llm_path = llm_path or config.llm_model_id
        whisper_path = whisper_path or config.whisper_model_id
        check_frozen_parts(config, llm_path, whisper_path)
        merged = lora if merge_lora else None
        adapter_dtype = adapter_dtype or torch_dtype
        model = cls.from_frozen(
            llm_path, whisper_path, config, torch_dtype, device, merged, quantization, adapter_dtype
        )
        if lora and not merge_lora:
            model.attach_lora(lora, lora_dropout)
        model.load_adapters(folder, lora)
        return model

    def load_adapters(self, folder: Path, lora: LoRA | None = None) -> None:
        """Read a checkpoint's adapters (`diffa_checkpoint.read_adapters`); the others keep their weights.

        `saved_modules` are those that it holds. Trainable LoRA factors are read as well, unless they are given as
        `lora`; merged ones are not, since they cannot be merged twice.
        """
        with_lora = self.trains_lora or self.lora is not None
        state = read_adapters(folder, self.state_dict(), self.config.stage, with_lora)
        self.load_state_dict(state, strict=False)
        self.saved_modules = modules_in(state)
        if self.trains_lora:
            set_factors(self.llm_model, lora or read_lora(folder, self.config.lora_alpha, use_lora=True))

    def save_pretrained(self, path: str | os.PathLike, state_dict: Mapping[str, torch.Tensor] | None = None) -> None:
        """Write `model.safetensors` with adapters and LoRA factors alone, and `config.json`; each whole or not at all.

        `state_dict` stands in for the model's own, whose weights may be rounded or shared out over processes.
        """
        weights, saved = self.state_dict() if state_dict is None else state_dict, prefixes_of(self.saved_modules)
        state = {published_name(n): weight for n, weight in weights.items() if n.startswith(saved) or is_factor(n)}
        write_checkpoint(Path(path), state | (self.lora.state_dict() if self.lora else {}), self.config)

    def attach_lora(self, lora: LoRA, dropout: float = 0.0) -> None:
        """Put LoRA factors (float32) beside the LLM's weights, which stay as they are; `prepare_training` trains them.

        `dropout` is what falls out of their inputs in training. Raises CheckpointError where they do not fit the LLM,
        and ValueError where its weights are rounded.
        """
        self.check_unrounded()
        attach(self.llm_model, lora, dropout)
        self.trains_lora, self.config.lora_alpha = True, lora.alpha

    def to_adapter_dtype(self, dtype: torch.dtype) -> None:
        for name in ADAPTER_MODULES:
            getattr(self, name).to(dtype)

    # -- stages and training ----------------------------------------------------------------------------------------

    @property
    def stage(self) -> int:
        return self._stage

    @stage.setter
    def stage(self, stage: int) -> None:
        if stage not in STAGES:
            raise ValueError(f"stage is {stage!r}; expected {' or '.join(map(str, STAGES))}")
        self._stage = stage

    def prepare_training(self, stage: int) -> None:
        """Set the stage, and let exactly its modules, and LoRA factors, have gradients and a place in checkpoints.

        Raises ValueError for a stage that trains LoRA factors where none are attached, and for an LLM whose weights
        are rounded.
        """
        self.check_unrounded()
        if STAGES[stage].lora and not self.trains_lora:
            raise ValueError(f"stage {stage} trains LoRA factors: attach some to the model first")
        self.stage = self.config.stage = stage
        self.saved_modules = STAGES[stage].trains
        self.requires_grad_(False)
        for name in self.saved_modules:
            getattr(self, name).requires_grad_(True)
        for name, parameter in self.llm_model.named_parameters():
            parameter.requires_grad_(is_factor(name))

    def check_unrounded(self) -> None:
        """Raise ValueError for an LLM that cannot be trained through."""
        if rounded := self.llm_model.quantization:
            raise ValueError(
                f"the LLM's weights are rounded to {rounded}, which is for answering alone: load the model without "
                "quantization to train"
            )

    def match_embedding_scale(self, modules: Sequence[str]) -> None:
        """Let new adapters start with outputs as large as the LLM's own token embeddings (root mean square).

        The published recipe starts at unit scale instead, and spends its first steps on shrinking: fine in a long
        run, slow in a short one.
        """
        scale = self.llm_model.embedding_weight.float().square().mean().sqrt()
        with torch.no_grad():
            if "trainable_prompts" in modules:
                self.trainable_prompts.weight.mul_(scale)
            if "semantic_connector" in modules:
                self.semantic_connector.scale_outputs(scale)
            if "acoustic_connector" in modules:
                self.acoustic_connector.scale_outputs(scale)

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: dict | None = None) -> None:
        """Keep only the inputs of the LLM's blocks and the Q-Former's layers, and compute them again in backward.

        Trainer calls it for `--gradient_checkpointing`; its `gradient_checkpointing_kwargs` are not needed.
        """
        self.llm_model.gradient_checkpointing = True
        self.acoustic_connector.gradient_checkpointing_enable()

    def train(self, mode: bool = True) -> "DIFFAModel":
        """Training mode for the adapters and LoRA factors alone: frozen parts never drop anything out."""
        super().train(mode)
        self.llm_model.train(mode and self.trains_lora)
        self.whisper_model.eval()
        return self

    def forward(
        self,
        input_features: torch.Tensor,
        feature_attention_mask: torch.Tensor,
        input_ids: torch.Tensor,
        labels: torch.Tensor,
        t: torch.Tensor,
        audio_position: torch.Tensor,
        text_attention_mask: torch.Tensor,
        num_answer_tokens: torch.Tensor | int,
    ) -> DiffusionOutput:
        """The loss of a batch, by sample and by token as well (`masked_diffusion` has the whole objective).

        Args (B samples, L text tokens, F mel frames), as the collator returns them:
            input_features: [B, n_mels, F]; feature_attention_mask: [B, F].
            input_ids: [B, L], masks applied, audio not spliced in.
            labels: [B, L], the clean id where masked, else -100.
            t: [B], each sample's masking rate t'.
            audio_position: [B], where in `input_ids` the audio goes.
            text_attention_mask: [B, L], 0 on columns that are not text.
            num_answer_tokens: scalar, the loss's denominator.
        """
        audio_embeds, audio_lengths = self.encode_audio(input_features, feature_attention_mask)  # [B, N, d], [B]
        text_embeds = self.llm_model.embed(input_ids)  # [B, L, d]
        spliced = splice(text_embeds, text_attention_mask, audio_embeds, audio_lengths, audio_position, "right")
        return diffusion_loss(self.llm_model, spliced, labels, t, num_answer_tokens)

    # -- encoding audio, answering ------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        return self.trainable_prompts.weight.device

    def encode_audio(
        self, input_features: torch.Tensor, feature_attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Audio as LLM embeddings: [B, N, d_llm] in the LLM's dtype, and their lengths [B]; zeros past the length."""
        heard = self.whisper_model(input_features, feature_attention_mask, self.states_read)
        return self.embed_audio(*heard, dict(self.named_children()))

    @property
    def states_read(self) -> Sequence[int]:
        """The encoder's hidden states that the acoustic adapter reads in this stage; the semantic one has the last."""
        return self.acoustic_connector.target_layer_ids if STAGES[self.stage].prefix == "acoustic_connector" else ()

    def embed_audio(
        self, hidden_states: tuple[torch.Tensor | None, ...], lengths: torch.Tensor, adapters: Mapping[str, nn.Module]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the encoder heard as LLM embeddings, by adapters of these names; see `encode_audio`."""
        if not torch.is_autocast_enabled(self.device.type):  # it casts what goes into a product, and nothing else
            dtype = self.trainable_prompts.weight.dtype
            hidden_states = tuple(None if states is None else states.to(dtype) for states in hidden_states)
        semantic, semantic_lengths = adapters["semantic_connector"](hidden_states[-1], lengths)
        columns = torch.arange(semantic.shape[1], device=semantic.device)
        semantic = semantic.masked_fill((columns >= semantic_lengths[:, None])[:, :, None], 0)
        if STAGES[self.stage].prefix == "trainable_prompts":
            prefix = adapters["trainable_prompts"].weight[None].expand(len(semantic), -1, -1)  # [B, 20, d]
        else:
            prefix = adapters["acoustic_connector"](hidden_states)  # [B, 64, d]
        audio_embeds = torch.cat((prefix, semantic), dim=1)
        audio_lengths = prefix.shape[1] + semantic_lengths
        # the semantic adapter gives a clip of under four encoder frames (80 ms) one embedding, which is cut here
        audio_embeds = audio_embeds[:, : int(audio_lengths.max())]
        return audio_embeds.to(self.llm_model.dtype), audio_lengths

    def num_audio_embeddings(self, num_samples: int) -> int:
        """Audio embeddings in the LLM's input for so many samples at 16 kHz, at most a window."""
        mel_frames = -(-num_samples // self.feature_extractor.hop_length)
        lengths = {"trainable_prompts": NUM_TRAINABLE_PROMPTS, "acoustic_connector": self.config.prompt_size}
        return lengths[STAGES[self.stage].prefix] + self.whisper_model.num_frames(mel_frames) // SEMANTIC_STRIDE

    def get_speech_features(self, waveforms: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        """The audio embeddings of waveforms (float32 numpy, 16 kHz mono), and their lengths: see `encode_audio`."""
        return self.embed_features(*log_mel(self.feature_extractor, waveforms))

    @torch.inference_mode()
    def embed_features(
        self, input_features: torch.Tensor, feature_attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The audio embeddings of log-mel features (see `log_mel`) that may still be on the CPU, and their lengths."""
        return self.encode_audio(input_features.to(self.device), feature_attention_mask.to(self.device))

    def generate(
        self,
        waveforms: Sequence[np.ndarray],
        instructions: Sequence[str | Conversation],
        options: GenerationOptions | None = None,
        return_ids: bool = False,
    ) -> list[str] | torch.Tensor:
        """Answer one instruction about each waveform; every answer is what the sample would get alone.

        Args:
            waveforms: float32 numpy arrays at 16 kHz, cut at the encoder's window.
            instructions: what the user says of the audio, or several turns; the chat template is put around.
            options: how to decode; the defaults give 16 tokens in 16 steps.
            return_ids: token ids, int64 [B, max_new_tokens], instead of texts without special tokens.
        """
        answers = self.answer(waveforms, instructions, options)
        return answers.ids if return_ids else answers.texts

    def answer(
        self,
        waveforms: Sequence[np.ndarray],
        instructions: Sequence[str | Conversation],
        options: GenerationOptions | None = None,
        speech: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> Answers:
        """What `generate` returns, texts and ids, and what it took. `speech`: see `decode`."""
        options = options or GenerationOptions()
        progress = generate(self.llm_model, self.build_inputs(waveforms, instructions, options, speech), options)
        ids = progress.answer_ids.cpu()
        # not `all_special_ids`, which lacks <|eot_id|>: those that `skip_special_tokens` skips
        special = [index for index, token in self.tokenizer.added_tokens_decoder.items() if token.special]
        num_tokens = torch.isin(ids, torch.tensor(special), invert=True).sum(dim=1).tolist()
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        took = torch.stack(((progress.confidence > 0).sum(dim=1), progress.forward_passes))  # [2, B], one wait
        return Answers(texts, ids, num_tokens, *took.tolist())

    def decode(
        self,
        waveforms: Sequence[np.ndarray],
        instructions: Sequence[str | Conversation],
        options: GenerationOptions | None = None,
        speech: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> Iterator[Progress]:
        """Answer step by step: yields how far the answers are after every forward pass; `generate` returns the last.

        `speech`: what `get_speech_features` gave for these waveforms, which are then not encoded again.
        """
        options = options or GenerationOptions()
        steps = decode(self.llm_model, self.build_inputs(waveforms, instructions, options, speech), options)
        return (progress.clone() for progress in steps)

    @torch.inference_mode()
    def build_inputs(
        self,
        waveforms: Sequence[np.ndarray],
        instructions: Sequence[str | Conversation],
        options: GenerationOptions,
        speech: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> Prompt:
        """Prompts with the audio spliced in, left-padded; a warning where they are longer than the LLM can be asked."""
        if len(waveforms) != len(instructions):
            raise ValueError(f"{len(waveforms)} waveforms but {len(instructions)} instructions; one each is needed")
        audio_embeds, audio_lengths = speech or self.get_speech_features(waveforms)
        texts = [build_prompt(instruction, self.system_prompt) for instruction in instructions]
        prompts = [tokenize_prompt(self.tokenizer, text) for text in texts]
        config, longest = self.llm_model.config, max(len(ids) for ids, _ in prompts)
        pads = [longest - len(ids) for ids, _ in prompts]
        input_ids = torch.tensor(
            [[config.pad_token_id] * pad + ids for pad, (ids, _) in zip(pads, prompts, strict=True)],
            device=self.device,
        )  # [B, L]
        columns = torch.arange(longest, device=self.device)
        text_mask = (columns >= torch.tensor(pads, device=self.device)[:, None]).long()
        position = torch.tensor(
            [pad + index for pad, (_, index) in zip(pads, prompts, strict=True)], device=self.device
        )

        def with_audio(ids: torch.Tensor) -> Spliced:
            return splice(self.llm_model.embed(ids), text_mask, audio_embeds, audio_lengths, position, "left")

        conditional = with_audio(input_ids)
        num_positions = conditional.inputs_embeds.shape[1] + options.max_new_tokens
        if num_positions > config.max_sequence_length:
            logger.warning(
                "prompt, audio and answer take %d tokens, more than the %d that the LLM was trained with: "
                "shorten the text",
                num_positions, config.max_sequence_length,
            )  # fmt: skip
        unconditional = None
        if options.cfg_scale > 0:
            unconditional = with_audio(torch.full_like(input_ids, config.mask_token_id)).inputs_embeds
        return Prompt(conditional.inputs_embeds, conditional.attention_mask, unconditional)
