"""Validation of chat completion requests: what the model is asked, or why nothing can be."""

import base64
import binascii
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import numpy as np

from serving.batching import GenerationRequest
from serving.messages import check_text, read_messages
from serving.protocol import ChatRequest, DecodingParameters, RequestError, check_greedy
from src.audio import AudioError, first_window, window_seconds
from src.configuration_DIFFA import SEEDS
from src.generation_options import GenerationOptions
from src.modeling_DIFFA import DIFFAModel
from src.prompts import build_prompt, tokenize_prompt

URL_ALPHABET = str.maketrans("-_", "+/")  # base64's own
# What the preset decides where nobody says otherwise.
PARALLEL_RULES = ("threshold", "factor")
PRESET_FIELDS = (*PARALLEL_RULES, "last_rank", "cache", "refresh_interval", "stop_at_eos", "stop_in_block")
EXTRA_FIELDS = ("steps", "cfg_scale", "remasking", *PRESET_FIELDS)


@dataclass(frozen=True)
class Service:
    """What requests are answered with, and up to what."""

    model: DIFFAModel
    name: str  # that clients call it by
    preset: str
    settings: Mapping[str, Any]  # GenerationOptions' fields, over the preset
    max_answer_tokens: int
    max_seconds: float  # of audio
    canvas_grows: bool = False  # a longer max_tokens gets more blocks, up to max_answer_tokens
    history: bool = False  # the chat template gets all turns, not the last one alone

    @property
    def default_options(self) -> GenerationOptions:
        return GenerationOptions.of_preset(self.preset, **self.settings)


@dataclass(frozen=True)
class ValidatedRequest:
    """A request that can be answered."""

    parameters: ChatRequest  # without its messages, which may be large
    generation: GenerationRequest
    prompt_tokens: int  # text, and embeddings of the audio
    warning: str | None
    num_ignored: int = 0  # earlier turns that the model does not see


def validate(request: ChatRequest, service: Service) -> ValidatedRequest:
    """Decode the audio and check every parameter. Raises RequestError. Slow: not for an event loop."""
    check_model(request.model, service)
    question = read_messages(request.messages, service.history)
    options, num_tokens, warning = options_for(request, service)
    check_greedy(request, options.temperature)
    check_text(service.model.tokenizer, question.instruction)
    waveform, warnings = decode_audio(question.clip, service)
    warnings += (warning,) if warning else ()
    if question.num_ignored:
        warnings += (f"of {question.num_ignored + 1} turns, the last one alone is asked, about the newest audio",)
    if question.num_unheard:
        warnings += (f"of {question.num_unheard + 1} clips, the newest one alone is heard",)
    prompt_tokens = len(
        tokenize_prompt(service.model.tokenizer, build_prompt(question.instruction, service.model.system_prompt))[0]
    )
    prompt_tokens += service.model.num_audio_embeddings(len(waveform))
    longest = service.model.llm_model.config.max_sequence_length
    if prompt_tokens + options.max_new_tokens > longest:
        message = (
            f"{prompt_tokens} tokens of prompt and audio and {options.max_new_tokens} of answer are more than the "
        )
        raise RequestError(f"{message}model's {longest}: shorten the text", "messages", "context_length_exceeded")
    parameters = request.model_copy(update={"messages": []})
    generation = GenerationRequest(waveform, question.instruction, options, num_tokens)
    warning = "; ".join(warnings) or None
    return ValidatedRequest(parameters, generation, prompt_tokens, warning, question.num_ignored)


def check_model(name: str, service: Service) -> None:
    """Raise RequestError where a client names another model than the one there is."""
    if name != service.name:
        message = f"the model {name!r} does not exist; this server has {service.name!r}"
        raise RequestError(message, "model", "model_not_found", 404)


def options_for(
    request: DecodingParameters, service: Service, canvas: int | None = None
) -> tuple[GenerationOptions, int, str | None]:
    """How to decode, how many tokens of the answer were asked for, and a warning if fewer are given.

    Raises RequestError.

    The request's own parameters come first, then the server's flags. A request that names a preset gets it whole. What
    is denoised together, the canvas, does not depend on `max_tokens`, which would change the answer: it cuts the text.
    Where the request says no `canvas`, the argument or else the server's flag does. It is computed in whole blocks;
    `steps`, where the request does not say it, keeps the tokens per step.
    """
    default = service.default_options
    block_length = request.block_length or default.block_length
    name = "max_completion_tokens" if request.max_completion_tokens else "max_tokens"
    wanted = getattr(request, name) or 0
    canvas = request.canvas or canvas or default.max_new_tokens
    if service.canvas_grows and request.canvas is None:
        canvas = max(canvas, min(wanted, service.max_answer_tokens // block_length * block_length))
    num_blocks = -(-canvas // block_length)
    if num_blocks * block_length > service.max_answer_tokens:
        raise RequestError(
            f"a canvas of {num_blocks * block_length} tokens ({num_blocks} blocks of {block_length}) is longer than "
            f"this server's limit of {service.max_answer_tokens}; ask for fewer",
            "canvas" if request.canvas else "block_length",
        )
    num_tokens = min(wanted or canvas, num_blocks * block_length)
    warning = f"{name} is {wanted}, and an answer has {num_tokens} tokens at most here" if wanted > num_tokens else None
    given = {name: getattr(request, name) for name in EXTRA_FIELDS if getattr(request, name) is not None}
    replaced = PRESET_FIELDS if request.preset else PARALLEL_RULES if set(PARALLEL_RULES) & set(given) else ()
    settings = {name: value for name, value in service.settings.items() if name not in replaced} | given
    if request.temperature is not None:
        settings["temperature"] = request.temperature
    steps_per_block = max(1, default.steps * block_length // default.max_new_tokens)
    settings["steps"] = given.get("steps", steps_per_block * num_blocks)
    settings |= {"block_length": block_length, "max_new_tokens": num_blocks * block_length}
    if settings.get("temperature", 0) > 0 or settings.get("remasking") == "random":
        # Of a batch, every answer draws with the same seed: whoever names none gets one of their own.
        settings["seed"] = next(
            s for s in (request.seed, settings.get("seed"), random.randrange(SEEDS)) if s is not None
        )
    else:
        settings["seed"] = None  # plays no part, and must not keep requests apart
    try:
        return GenerationOptions.of_preset(request.preset or service.preset, **settings), num_tokens, warning
    except ValueError as error:
        named = (name for name in ("preset", *given) if name in str(error))
        raise RequestError(str(error), next(named, None)) from None


def decode_audio(clip: str, service: Service) -> tuple[np.ndarray, tuple[str, ...]]:
    """The first window that is not silent, float32 [n], and warnings. Raises RequestError."""
    window = window_seconds(service.model.feature_extractor)
    try:
        first, _ = first_window(decode_base64(clip), window, service.max_seconds, "input_audio")
    except AudioError as error:
        raise RequestError(str(error), "messages", "invalid_audio") from None
    warnings = tuple(f"of the audio: {warning}" for warning in first.warnings)
    if not first.is_last:
        span = f"{first.start:.1f}-{first.end:.1f} s"
        warnings += (f"of the audio, only {span} is heard: the encoder's window is {window:g} s",)
    return first.waveform, warnings


def decode_base64(text: str) -> bytes:
    """Base64, also with line breaks, of URLs' alphabet, or in a data: URI. Raises RequestError."""
    text = text.strip()
    scheme, colon, rest = text.partition(":")
    if colon and scheme.lower() != "data":
        raise RequestError(
            f"audio is not fetched from a {scheme[:20]!r} address: send the file itself, as input_audio or a data: URI",
            "messages",
        )
    if colon:
        kind, comma, text = rest.partition(",")
        if not comma or not kind.lower().endswith(";base64"):
            raise RequestError("a data: URI of audio must say ;base64 before its comma", "messages", "invalid_base64")
        text = unquote(text)  # a URI may write + and = as %2B and %3D
    text = "".join(text.split()).rstrip("=").translate(URL_ALPHABET)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise RequestError(
            "input_audio.data is no base64: send the file's bytes in it", "messages", "invalid_base64"
        ) from None
