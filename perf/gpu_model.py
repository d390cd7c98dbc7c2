"""The models and prompts that perf/gpu.py measures: LLaDA-8B's exact shape, made on the device, or a tiny one."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast, WhisperConfig, WhisperFeatureExtractor

from perf import measure
from perf.decoding import instruction_of
from perf.full_size import LLADA_8B, TOKENIZER, WHISPER_LARGE, WHISPER_SMALL
from perf.training_budget import RECIPES
from src.configuration_DIFFA import SAMPLE_RATE, DIFFAConfig, LLaDAConfig
from src.llm_generate import GenerationOptions, Prompt
from src.modeling_DIFFA import DIFFAModel
from src.modeling_llada import LLaDAModel
from src.modeling_whisper_encoder import WhisperAudioEncoder

PRODUCT_SIZE = 8192  # of the square matrices whose product measures the limit
COPIED_BYTES = 4 << 30
SMALL = 16  # a dry run divides these two by it
RUNS = 10


@dataclass(frozen=True)
class Shape:
    """What is measured."""

    llm: dict[str, Any]  # LLaDA's config.json
    whisper: dict[str, Any]  # DIFFA's encoder
    large_whisper: dict[str, Any]  # DIFFA-2's
    window_seconds: int  # of the encoder
    audio_seconds: float  # of a prompt's clip
    text_tokens: int  # of a prompt
    answer_lengths: tuple[int, int]  # tokens: as in the benchmarks, and a long one in two blocks
    batch_sizes: tuple[int, ...]
    clips: dict[str, int]  # of a training step as published, by family and stage


FULL = Shape(
    LLADA_8B, WHISPER_SMALL, WHISPER_LARGE, 30, 10.0, 110, (16, 64), (1, 8, 32),
    {recipe.name: recipe.batch for recipe in RECIPES},
)  # fmt: skip
TINY = Shape(
    LLADA_8B
    | {"d_model": 64, "n_layers": 2, "n_heads": 2, "n_kv_heads": 2, "mlp_hidden_size": 192, "embedding_size": 1000,
       "mask_token_id": 737, "eos_token_id": 736, "pad_token_id": 736},
    {"d_model": 64, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 128, "decoder_layers": 1,
     "max_source_positions": 200},
    {"d_model": 64, "encoder_layers": 9, "encoder_attention_heads": 1, "encoder_ffn_dim": 128, "decoder_layers": 1,
     "max_source_positions": 200, "num_mel_bins": 128},
    4, 2.0, 80, (4, 16), (1, 2), {recipe.name: min(recipe.batch, 2) for recipe in RECIPES},
)  # fmt: skip


def shape_of(dry_run: bool) -> Shape:
    return TINY if dry_run else FULL


@torch.no_grad()
def random_model(
    shape: Shape,
    device: torch.device,
    dtype: torch.dtype = torch.bfloat16,
    model_class: type[DIFFAModel] = DIFFAModel,
    large: bool = False,
) -> DIFFAModel:
    """A frozen DIFFA, or with `large` DIFFA-2, whose weights are made where they stay: nothing is read or copied."""
    torch.manual_seed(0)
    encoder = WhisperConfig(**(shape.large_whisper if large else shape.whisper))
    tokenizer, extractor = PreTrainedTokenizerFast.from_pretrained(TOKENIZER), feature_extractor(shape, encoder)
    with torch.device("meta"):
        llm, whisper = LLaDAModel(LLaDAConfig.from_dict(shape.llm)), WhisperAudioEncoder(encoder)
        model = model_class(DIFFAConfig(stage=2), llm, whisper, tokenizer, extractor)
    model = model.requires_grad_(False).to(dtype).to_empty(device=device).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        elif parameter.ndim == 1:  # of norms
            parameter.fill_(1.0)
        else:
            parameter.normal_(std=0.02)
    return model


def feature_extractor(shape: Shape, encoder: WhisperConfig) -> WhisperFeatureExtractor:
    return WhisperFeatureExtractor(feature_size=encoder.num_mel_bins, chunk_length=shape.window_seconds)


def prompt_of(model: DIFFAModel, shape: Shape, batch_size: int) -> Prompt:
    """Noise of different lengths, and words: padded, as real batches are."""
    rng, lengths = np.random.default_rng(0), np.linspace(1.0, 0.7, batch_size)
    waveforms = [
        rng.normal(0, 0.1, int(share * shape.audio_seconds * SAMPLE_RATE)).astype(np.float32) for share in lengths
    ]
    instructions = [instruction_of(model.tokenizer, shape.text_tokens)] * batch_size
    return model.build_inputs(waveforms, instructions, GenerationOptions())


@dataclass(frozen=True)
class DeviceLimits:
    """What the device does at best."""

    operations: float  # a second, in a large product of bf16 matrices
    bandwidth: float  # bytes a second, read and written, in a large copy


@torch.inference_mode()
def limits_of(device: torch.device, dry_run: bool) -> DeviceLimits:
    size, num_bytes = (n // SMALL if dry_run else n for n in (PRODUCT_SIZE, COPIED_BYTES))
    operations = measure.matrix_product_limit(device, torch.bfloat16, size=size)
    source = torch.ones(num_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = min(measure.seconds_of(lambda: target.copy_(source), device) for _ in range(RUNS))
    return DeviceLimits(operations, 2 * num_bytes / seconds)


def total_peak_gigabytes(peak_above: int, before: int, device: torch.device) -> float | None:
    """Memory on the GPU at the worst, weights included; None on a CPU, where it says nothing of a GPU."""
    return (before + peak_above) / 1e9 if device.type == "cuda" else None


def taken(device: torch.device) -> int:
    """Bytes on the GPU just now."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
