"""OpenAI's requests: their fields, and which parameters are taken."""

import codecs
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

MAX_STOPS = 4
MAX_STEPS = 2**16
MAX_CHARACTERS = 100_000  # of text; LLaDA reads 4096 tokens
MAX_PARTS = 100  # of a message, and messages of a request
# Parameters that do not touch the answer, and those of the others that ask for what DIFFA does anyway.
IGNORED = {
    "metadata", "parallel_tool_calls", "prediction", "prompt_cache_key", "prompt_cache_retention", "safety_identifier",
    "service_tier", "store", "user",
}  # fmt: skip
GREEDY = ("top_p", "top_k", "min_p")  # at temperature 0 the likeliest token is taken, whatever these say
NEUTRAL = {
    "n": (1,), "top_p": (1,), "frequency_penalty": (0,), "presence_penalty": (0,), "logprobs": (False,),
    "top_logprobs": (0,), "logit_bias": ({},), "tools": ([],), "tool_choice": ("none", "auto"), "functions": ([],),
    "function_call": ("none", "auto"), "response_format": ({"type": "text"},), "modalities": (["text"],),
    "audio": (), "reasoning_effort": ("none",), "verbosity": (), "web_search_options": (), "moderation": (),
    "top_k": (-1, 0), "min_p": (0,), "repetition_penalty": (1,), "length_penalty": (1,), "best_of": (1,),
    "min_tokens": (0,), "bad_words": ([],),
    "stop_token_ids": ([],), "echo": (False,), "ignore_eos": (False,), "use_beam_search": (False,),
    "skip_special_tokens": (True,), "spaces_between_special_tokens": (True,), "include_stop_str_in_output": (False,),
    "add_generation_prompt": (True,), "continue_final_message": (False,),
    "chat_template_kwargs": ({}, {"enable_thinking": False}),
}  # fmt: skip
NEUTRAL_IN_FORMS = {
    "prompt": ("",), "stream": ("false", "False"), "include": ([],), "chunking_strategy": ("auto",), "n": ("1",),
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


TEXTS = ("text", "refusal")  # parts without sound
PARTS = (*TEXTS, "input_audio", "audio_url")
ShortText = Annotated[str, Field(max_length=200)]


class InputAudio(BaseModel):
    data: str  # base64 of a file, or a data: URI
    format: Any = None  # what is in it counts


class AudioUrl(BaseModel):
    url: str  # a data: URI


class ContentPart(BaseModel):
    type: Literal["text", "input_audio", "audio_url", "refusal"]  # the last one: of an assistant
    text: str | None = Field(None, max_length=MAX_CHARACTERS)
    refusal: str | None = Field(None, max_length=MAX_CHARACTERS)
    input_audio: InputAudio | None = None
    audio_url: AudioUrl | None = None

    @field_validator("audio_url", mode="before")
    @classmethod
    def as_url(cls, url: Any) -> Any:
        return {"url": url} if isinstance(url, str) else url

    @model_validator(mode="after")
    def check(self) -> "ContentPart":
        if getattr(self, self.type) is None:
            raise ValueError(f"a part of type {self.type!r} must have {self.type!r}")
        others = [kind for kind in PARTS if kind != self.type and getattr(self, kind)]
        if others:
            raise ValueError(f"a part of type {self.type!r} has {others[0]!r} as well: make that a part of its own")
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
        return "\n".join(part.text or part.refusal or "" for part in self.content if part.type in TEXTS)

    @property
    def clips(self) -> list[str]:
        """Base64, or URIs that ought to be data: URIs, of its audio."""
        parts = [part for part in self.content if part.type not in TEXTS]
        return [part.input_audio.data if part.type == "input_audio" else part.audio_url.url for part in parts]


class StreamOptions(BaseModel):
    include_usage: bool = False


class DecodingParameters(BaseModel):
    """What a request may say of decoding; what else is given is in `model_extra`."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    model: ShortText
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    # DIFFA's own (the openai client's `extra_body`); GenerationOptions checks them
    preset: ShortText | None = None
    canvas: int | None = Field(None, ge=1)  # tokens that are denoised; max_tokens only cuts the text
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


class ChatRequest(DecodingParameters):
    """A chat completion's."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_PARTS)
    stop: list[Annotated[str, Field(min_length=1, max_length=200)]] | None = Field(None, max_length=MAX_STOPS)
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def as_list(cls, stop: Any) -> Any:
        return [stop] if isinstance(stop, str) else stop

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


class TranscriptionRequest(DecodingParameters):
    """A transcription's form, without its file."""

    language: ShortText | None = None  # not used: the model writes what it hears
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt"] = "json"
    timestamp_granularities: list[Literal["segment"]] | None = None


Parameters = TypeVar("Parameters", bound=DecodingParameters)


def parse_request(body: bytes) -> ChatRequest:
    """Raises RequestError for what is no request, or asks for what DIFFA cannot do."""
    return checked(ChatRequest.model_validate_json, without_mark(body), NEUTRAL)


def without_mark(body: bytes) -> bytes:
    """JSON without the mark that some editors and shells put before UTF-8. Raises RequestError for other encodings."""
    if not body.strip():
        raise RequestError("the body: it is empty; expected a JSON object")
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in body[:2]:
        raise RequestError("the body: it looks like UTF-16, as some shells write it; send it in UTF-8")
    return body.removeprefix(codecs.BOM_UTF8)


def parse_form(fields: Mapping[str, Any]) -> TranscriptionRequest:
    """Raises RequestError as `parse_request` does. A field that was left empty was not filled in."""
    filled = {name: value for name, value in fields.items() if value != ""}
    return checked(TranscriptionRequest.model_validate, filled, NEUTRAL_IN_FORMS)


def checked(parse: Callable[[Any], Parameters], source: Any, neutral: Mapping[str, Sequence[Any]]) -> Parameters:
    """The request that `parse` makes of `source`. Raises RequestError for what it asks beyond the `neutral` values."""
    try:
        request = parse(source)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = "".join(f"[{name}]" if isinstance(name, int) else f".{name}" for name in first["loc"]).lstrip(".")
        param = str(first["loc"][0]) if first["loc"] else None
        raise RequestError(f"{place or 'the body'}: {first['msg']}", param) from None
    for name, value in (request.model_extra or {}).items():
        if value is None or name in IGNORED:
            continue
        if name not in neutral:
            name = name[:200]
            raise RequestError(f"unknown parameter {name!r}: leave it out", name, "unknown_parameter")
        if value not in neutral[name] and name not in GREEDY:
            raise unsupported(name, neutral)
    return request


def check_greedy(request: ChatRequest, temperature: float) -> None:
    """Raise RequestError for parameters of sampling, unless nothing is sampled."""
    for name in GREEDY:
        value = (request.model_extra or {}).get(name)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if value is not None and value not in NEUTRAL[name] and (temperature > 0 or not is_number):
            raise unsupported(name, NEUTRAL, " (at temperature 0 any value does)" if is_number else "")


def unsupported(name: str, neutral: Mapping[str, Sequence[Any]], more: str = "") -> RequestError:
    would_do = "".join(f", or say {allowed!r}" for allowed in neutral[name])
    return RequestError(f"{name} is not supported: leave it out{would_do}{more}", name, "unsupported_parameter")
