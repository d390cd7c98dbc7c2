"""OpenAI's transcriptions: what a form asks, and what is sent back of the windows' answers."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from transformers import PreTrainedTokenizerBase

from serving.batching import AnswerPrefix
from serving.protocol import RequestError, TranscriptionRequest, parse_form
from serving.responses import read_answer
from serving.subtitles import FORMATS, HEADERS, subtitle
from serving.validation import Service, check_model, options_for
from src.audio import AudioError, Window, untrusted_windows, window_seconds
from src.generation_options import TRANSCRIPT, GenerationOptions
from src.prompts import ASR_PROMPTS

MAX_FIELDS = 100  # of a form
LISTS = ("timestamp_granularities", "include")  # fields that a form may hold several times, as NAME[]
LANGUAGE_WARNING = "language is not used: the model writes what it hears"


@dataclass(frozen=True)
class Recording:
    """A transcription that can be made."""

    parameters: TranscriptionRequest
    windows: Iterator[Window]  # decoded as they are asked for
    seconds: float  # of the whole
    instruction: str
    options: GenerationOptions
    num_tokens: int  # of a window's text, at most
    warnings: tuple[str, ...] = ()  # about what was asked for


@dataclass(frozen=True)
class Segment:
    """What was heard in a window; times in seconds."""

    start: float
    end: float
    text: str
    ids: tuple[int, ...]  # of the text
    is_cut: bool  # more was said than there is room for


def read_form(body: bytes, headers: Headers, max_bytes: int) -> tuple[TranscriptionRequest, bytes]:
    """The fields of a multipart form, and its audio file. Raises RequestError. Slow: not for an event loop."""
    fields: dict[str, str | list[str]] = {}
    content = None
    for key, value in asyncio.run(parse_multipart(body, headers, max_bytes)):
        name = key.removesuffix("[]")
        if isinstance(value, bytes):
            if name != "file":
                raise RequestError(f"the audio is expected as 'file', found {name[:200]!r}", "file")
            content = value
        elif name in LISTS:
            fields.setdefault(name, []).append(value)
        else:
            fields[name] = value
    if content is None:
        raise RequestError("the form has no 'file' with the audio: send one", "file")
    return parse_form(fields), content


async def parse_multipart(body: bytes, headers: Headers, max_bytes: int) -> list[tuple[str, str | bytes]]:
    """Names and values of a form's fields; files as bytes. Raises RequestError."""

    async def stream() -> AsyncIterator[bytes]:
        yield body

    parser = MultiPartParser(headers, stream(), max_files=1, max_fields=MAX_FIELDS)
    parser.spool_max_size = max_bytes + 1  # nothing goes to the disk
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError) as error:  # KeyError: no boundary
        raise RequestError(f"the body is no multipart form: {error}; send one") from None
    try:
        return [(k, await v.read() if isinstance(v, UploadFile) else v) for k, v in form.multi_items()]
    finally:
        await form.close()


def open_recording(request: TranscriptionRequest, content: bytes, service: Service) -> Recording:
    """Raises RequestError. Slow: not for an event loop.

    A transcript has the canvas of the recipe (`TRANSCRIPT`), as far as the server allows, unless the request says
    otherwise, or the canvas grows.
    """
    check_model(request.model, service)
    block_length = request.block_length or min(TRANSCRIPT["block_length"], service.max_answer_tokens)
    room = service.max_answer_tokens // block_length * block_length
    canvas = max(block_length, min(TRANSCRIPT["max_new_tokens"], room))
    asked = request.model_copy(update={"block_length": block_length})
    options, num_tokens, warning = options_for(asked, service, canvas)
    window = window_seconds(service.model.feature_extractor)
    try:
        windows, seconds = untrusted_windows(content, window, service.max_seconds, "file")
    except AudioError as error:
        raise unusable(error) from None
    instruction = ASR_PROMPTS[service.model.config.family]
    warnings = tuple(text for text in (warning, LANGUAGE_WARNING * bool(request.language)) if text)
    return Recording(request, windows, seconds, instruction, options, num_tokens, warnings)


def unusable(error: AudioError) -> RequestError:
    return RequestError(str(error), "file", "invalid_audio")


def segment_of(tokenizer: PreTrainedTokenizerBase, window: Window, answer: AnswerPrefix, num_tokens: int) -> Segment:
    text = read_answer(tokenizer, answer, num_tokens, ())
    special = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    ids = tuple(index for index in answer.ids[:num_tokens] if index not in special)
    return Segment(window.start, window.end, text.text, ids, text.finish_reason == "length")


def warnings_of(recording: Recording, segments: Sequence[Segment], about_audio: Sequence[str]) -> list[str]:
    """What is to be told of a transcription besides its text: each thing once, in however many windows it is so."""
    warnings = [*recording.warnings, *dict.fromkeys(about_audio)]
    if cut := [segment for segment in segments if segment.is_cut]:
        where = f"in {len(cut)} of {len(segments)} windows, the first {cut[0].start:.1f}-{cut[0].end:.1f} s"
        warnings.append(f"{where}, the text is cut at {recording.num_tokens} tokens")
    return warnings


def render(recording: Recording, segments: Sequence[Segment], warnings: Sequence[str]) -> dict | str:
    """The body of the response: JSON, or plain text, which has no place for the warnings."""
    request, kind = recording.parameters, recording.parameters.response_format
    text = " ".join(segment.text for segment in segments if segment.text)
    if kind in FORMATS:
        spoken = (segment for segment in segments if segment.text)
        cues = (subtitle(kind, n, s.start, s.end, s.text) for n, s in enumerate(spoken, start=1))
        return HEADERS[kind] + "".join(cues)
    if kind == "text":
        return text + "\n"
    body = {"text": text, "usage": {"type": "duration", "seconds": math.ceil(recording.seconds)}}
    if kind == "verbose_json":
        body |= {
            "task": "transcribe",
            "language": request.language or "unknown",
            "duration": round(recording.seconds, 3),
            "segments": [as_json(n, segment, recording.options) for n, segment in enumerate(segments)],
        }
    return body | ({"warning": "; ".join(warnings)} if warnings else {})


def as_json(number: int, segment: Segment, options: GenerationOptions) -> dict:
    """OpenAI's segment; what the model does not know is null."""
    return {
        "id": number,
        "seek": round(segment.start * 100),  # in frames of log-mel
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
        "tokens": segment.ids,
        "temperature": options.temperature,
        "avg_logprob": None,
        "compression_ratio": None,
        "no_speech_prob": None,
    }
