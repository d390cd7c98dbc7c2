"""OpenAI's chat completion requests: parsed, validated, and turned into what the model is asked."""

import base64
import binascii
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from serving.batching import GenerationRequest
from src.audio import AudioError, first_window, window_seconds
from src.configuration_DIFFA import SEEDS
from src.generation_options import GenerationOptions
from src.modeling_DIFFA import DIFFAModel
from src.prompts import SYSTEM_PROMPTS, VOICEBENCH_PROMPT, build_prompt, tokenize_prompt

SYSTEM_ROLES = ("system", "developer")
MAX_STOPS = 4
MAX_STEPS = 2**16
MAX_CHARACTERS = 100_000  # of text; LLaDA reads 4096 tokens
MAX_PARTS = 100  # of a message, and messages of a request
# What the preset decides where nobody says otherwise.
PARALLEL_RULES = ("threshold", "factor")
PRESET_FIELDS = (*PARALLEL_RULES, "last_rank", "cache", "refresh_interval", "stop_at_eos", "stop_in_block")
EXTRA_FIELDS = ("steps", "cfg_scale", "remasking", *PRESET_FIELDS)
# Parameters that do not touch the answer, and those of the others that ask for what DIFFA does anyway.
IGNORED = {
    "metadata", "parallel_tool_calls", "prediction", "prompt_cache_key", "prompt_cache_retention", "safety_identifier",
    "service_tier", "store", "user",
}  # fmt: skip
NEUTRAL = {
    "n": (1,), "top_p": (1,), "frequency_penalty": (0,), "presence_penalty": (0,), "logprobs": (False,),
    "top_logprobs": (0,), "logit_bias": ({},), "tools": ([],), "tool_choice": ("none", "auto"), "functions": ([],),
    "function_call": ("none", "auto"), "response_format": ({"type": "text"},), "modalities": (["text"],),
    "audio": (), "reasoning_effort": (), "verbosity": (), "web_search_options": (), "moderation": (),
}  # fmt: skip


class RequestError(Exception):
    """A request that is refused, in OpenAI's terms."""

    def __init__(
        self,
        message: str,
        param: str | None = None,
        code: str | None = None,
        status: int = 400,
        kind: str = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


# --- the request's fields ------------------------------------------------------------------------------------------


ShortText = Annotated[str, Field(max_length=200)]


class InputAudio(BaseModel):
    data: str  # base64 of a file
    format: str | None = None  # what is in it counts


class ContentPart(BaseModel):
    type: Literal["text", "input_audio"]
    text: str | None = Field(None, max_length=MAX_CHARACTERS)
    input_audio: InputAudio | None = None

    @model_validator(mode="after")
    def check(self) -> "ContentPart":
        if getattr(self, self.type) is None:
            raise ValueError(f"a part of type {self.type!r} must have {self.type!r}")
        return self


class ChatMessage(BaseModel):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: list[ContentPart] = Field([], max_length=MAX_PARTS)

    @field_validator("content", mode="before")
    @classmethod
    def as_parts(cls, content: Any) -> Any:
        if content is None:
            return []
        return [{"type": "text", "text": content}] if isinstance(content, str) else content

    @property
    def text(self) -> str:
        return "\n".join(part.text for part in self.content if part.type == "text")

    @property
    def clips(self) -> list[InputAudio]:
        return [part.input_audio for part in self.content if part.type == "input_audio"]


class StreamOptions(BaseModel):
    include_usage: bool = False


class ChatRequest(BaseModel):
    """The parameters that mean something here; what else is given is in `model_extra`."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    model: ShortText
    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_PARTS)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: list[Annotated[str, Field(min_length=1, max_length=200)]] | None = Field(None, max_length=MAX_STOPS)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # DIFFA's own (the openai client's `extra_body`); GenerationOptions checks them
    preset: ShortText | None = None
    steps: int | None = Field(None, le=MAX_STEPS)
    block_length: int | None = Field(None, ge=1)
    cfg_scale: float | None = None
    remasking: ShortText | None = None
    cache: ShortText | None = None
    refresh_interval: int | None = None
    threshold: float | None = None
    factor: float | None = None
    last_rank: bool | None = None
    stop_at_eos: bool | None = None
    stop_in_block: bool | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def as_list(cls, stop: Any) -> Any:
        return [stop] if isinstance(stop, str) else stop

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


def parse_request(body: bytes) -> ChatRequest:
    """Raises RequestError for what is no request, or asks for what DIFFA cannot do."""
    try:
        request = ChatRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = "".join(f"[{name}]" if isinstance(name, int) else f".{name}" for name in first["loc"]).lstrip(".")
        raise RequestError(f"{place or 'the body'}: {first['msg']}", str((first["loc"] or [None])[0])) from None
    for name, value in (request.model_extra or {}).items():
        if value is None or name in IGNORED:
            continue
        if name not in NEUTRAL:
            name = name[:200]
            raise RequestError(f"unknown parameter {name!r}: leave it out", name, "unknown_parameter")
        if value not in NEUTRAL[name]:
            would_do = "".join(f", or say {allowed!r}" for allowed in NEUTRAL[name])
            raise RequestError(f"{name} is not supported: leave it out{would_do}", name, "unsupported_parameter")
    return request


# --- validation ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Service:
    """What requests are answered with, and up to what."""

    model: DIFFAModel
    name: str  # that clients call it by
    preset: str
    settings: Mapping[str, Any]  # GenerationOptions' fields, over the preset
    max_answer_tokens: int
    max_seconds: float  # of audio

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


def validate(request: ChatRequest, service: Service) -> ValidatedRequest:
    """Decode the audio and check every parameter. Raises RequestError. Slow: not for an event loop."""
    if request.model != service.name:
        message = f"the model {request.model!r} does not exist; this server has {service.name!r}"
        raise RequestError(message, "model", "model_not_found", 404)
    instruction, clip = read_messages(request.messages)
    if len(instruction) > MAX_CHARACTERS:
        found = f"{len(instruction)} characters of text"
        raise RequestError(f"{found}; at most {MAX_CHARACTERS} are taken", "messages")
    options, num_tokens = options_for(request, service)
    check_control_tokens(service.model, instruction)
    waveform, warning = decode_audio(clip, service)
    prompt_tokens = len(
        tokenize_prompt(service.model.tokenizer, build_prompt(instruction, service.model.system_prompt))[0]
    )
    prompt_tokens += service.model.num_audio_embeddings(len(waveform))
    longest = service.model.llm_model.config.max_sequence_length
    if prompt_tokens + options.max_new_tokens > longest:
        message = (
            f"{prompt_tokens} tokens of prompt and audio and {options.max_new_tokens} of answer are more than the "
        )
        raise RequestError(f"{message}model's {longest}: shorten the text", "messages", "context_length_exceeded")
    parameters = request.model_copy(update={"messages": []})
    generation = GenerationRequest(waveform, instruction, options, num_tokens)
    return ValidatedRequest(parameters, generation, prompt_tokens, warning)


def read_messages(messages: list[ChatMessage]) -> tuple[str, InputAudio]:
    """The instruction, and the clip it is about.

    The chat template has a system prompt of its own, with which the model was trained; the text of other ones goes
    before the user's. A clip without any text is a spoken question.
    """
    systems = [message for message in messages if message.role in SYSTEM_ROLES]
    turns = [message for message in messages if message.role not in SYSTEM_ROLES]
    if [turn.role for turn in turns] != ["user"]:
        raise RequestError(
            "one user message is expected, after system messages if any; found "
            f"{', '.join(turn.role for turn in turns) or 'none'}: the model answers single turns, so put all it should "
            "know into one message",
            "messages",
        )
    if any(message.clips for message in systems):
        raise RequestError("audio belongs into the user message, not into a system message", "messages")
    [user] = turns
    if len(user.clips) != 1:
        raise RequestError(f"one input_audio part is expected in the user message, found {len(user.clips)}", "messages")
    texts = [text for message in systems if (text := message.text.strip()) not in SYSTEM_PROMPTS.values()]
    texts.append(user.text if user.text.strip() else VOICEBENCH_PROMPT)
    return "\n".join(text for text in texts if text), user.clips[0]


def check_control_tokens(model: DIFFAModel, instruction: str) -> None:
    """Raise RequestError where the text would become more than text, such as the end of the turn."""
    for token in model.tokenizer.added_tokens_decoder.values():
        if token.special and token.content in instruction:
            raise RequestError(f"the text holds {token.content}, a control token of the model", "messages")


def options_for(request: ChatRequest, service: Service) -> tuple[GenerationOptions, int]:
    """How to decode, and how many tokens of the answer were asked for. Raises RequestError.

    The request's own parameters come first, then the server's flags. A request that names a preset gets it whole. An
    answer is computed in whole blocks; `steps`, where the request does not say it, keeps the tokens per step.
    """
    default = service.default_options
    block_length = request.block_length or default.block_length
    num_tokens = request.max_completion_tokens or request.max_tokens or default.max_new_tokens
    num_blocks = -(-num_tokens // block_length)
    if num_blocks * block_length > service.max_answer_tokens:
        name = "max_tokens" if request.max_completion_tokens is None else "max_completion_tokens"
        raise RequestError(
            f"an answer of {num_blocks * block_length} tokens ({num_blocks} blocks of {block_length}) is longer than "
            f"this server's limit of {service.max_answer_tokens}: lower {name}",
            name,
        )
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
        return GenerationOptions.of_preset(request.preset or service.preset, **settings), num_tokens
    except ValueError as error:
        named = (name for name in ("preset", *given) if name in str(error))
        raise RequestError(str(error), next(named, None)) from None


def decode_audio(clip: InputAudio, service: Service) -> tuple[np.ndarray, str | None]:
    """The first window that is not silent, float32 [n], and a warning if more follows. Raises RequestError."""
    try:
        content = base64.b64decode(clip.data, validate=True)
    except (binascii.Error, ValueError):
        raise RequestError("input_audio.data is no base64", "messages", "invalid_base64") from None
    window = window_seconds(service.model.feature_extractor)
    try:
        first, _ = first_window(content, window, service.max_seconds, "input_audio")
    except AudioError as error:
        raise RequestError(str(error), "messages", "invalid_audio") from None
    warnings = [f"of the audio: {warning}" for warning in first.warnings]
    if not first.is_last:
        span = f"{first.start:.1f}-{first.end:.1f} s"
        warnings.append(f"of the audio, only {span} is heard: the encoder's window is {window:g} s")
    return first.waveform, "; ".join(warnings) or None
