"""HTTP routes: OpenAI's chat completions and transcriptions, the model's name, health, metrics."""

import asyncio
import hmac
import textwrap
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from serving import api_docs
from serving.batching import (
    AnswerPrefix,
    Batcher,
    ClosedError,
    Metrics,
    ModelFailure,
    QueuedRequest,
    QueueFullError,
)
from serving.http_errors import (
    client_left,
    http_error,
    internal_error,
    model_failed,
    model_failure,
    queue_full,
    refuse,
    shutting_down,
)
from serving.protocol import RequestError, parse_request
from serving.responses import Completion, as_event
from serving.transcriber import Transcriber, departure, putter, unless_client_leaves
from serving.transcription import Recording, open_recording, read_form, render, warnings_of
from serving.uploads import Uploads, encoding_of
from serving.validation import Service, ValidatedRequest, check_model, validate
from src.audio import window_seconds
from src.prompts import ASR_PROMPTS

COMPLETIONS, TRANSCRIPTIONS = "/v1/chat/completions", "/v1/audio/transcriptions"
DECODER_THREADS = 4  # of audio
IGNORED_TURNS = "X-DIFFA-Ignored-Turns"  # header: how many turns of the conversation the model did not see
WARNING = "X-DIFFA-Warning"  # header: what is to be told of a response that is plain text
MAX_WARNING = 1000  # characters of it: a proxy that gets more than some KiB of headers drops the response
MAX_ID = 200  # characters
REQUEST_ID = "X-Request-ID"  # header: of every response; a client may choose it


class Api:
    """An ASGI application.

    Args:
        api_key: what `/v1/...` asks for; "" for nothing.
        max_upload: bytes of a request.
        origins: of web pages whose scripts may ask ("*": all); browsers keep others from it.

    Attributes:
        draining: set it to let nothing more in; `in_flight` then goes down to 0.
        in_flight: requests for answers that are not finished.
    """

    def __init__(
        self,
        service: Service,
        batcher: Batcher,
        metrics: Metrics,
        api_key: str,
        max_upload: int,
        origins: Sequence[str] = (),
    ) -> None:
        self.service, self.batcher, self.metrics = service, batcher, metrics
        self.api_key, self.uploads = api_key.encode(), Uploads(max_upload)
        self.draining = False
        self.in_flight = 0
        self.preparing = 0  # of those in flight: what is being decoded, and must find a place in the queue
        self.started = int(time.time())
        self.decoders = ThreadPoolExecutor(DECODER_THREADS, thread_name_prefix="decoder")
        self.transcriber = Transcriber(service, batcher, self.decoders)
        self.routes = FastAPI(title="DIFFA", description=api_docs.DESCRIPTION, docs_url=None, redoc_url=None)
        self.routes.openapi = self.openapi
        for path, endpoint, method in (
            (COMPLETIONS, self.complete, "POST"),
            (TRANSCRIPTIONS, self.transcribe, "POST"),
            ("/v1/models", self.models, "GET"),
            ("/v1/models/{name:path}", self.model, "GET"),
            ("/health", self.health, "GET"),
            ("/metrics", self.figures, "GET"),
            ("/docs", self.docs, "GET"),
            ("/", self.start, "GET"),
        ):
            self.routes.add_api_route(path, endpoint, methods=[method])
        for kind, handler in (
            (RequestError, refuse),
            (QueueFullError, queue_full),
            (ClosedError, shutting_down),
            (ModelFailure, model_failed),
            (HTTPException, http_error),
            (ClientDisconnect, client_left),
            (Exception, internal_error),
        ):
            self.routes.add_exception_handler(kind, handler)
        self.app = self.routes
        if origins:
            self.app = CORSMiddleware(
                self.routes, allow_origins=origins, allow_methods=["GET", "POST"], allow_headers=["*"],
                expose_headers=[REQUEST_ID, IGNORED_TURNS, WARNING, "Retry-After"],
            )  # fmt: skip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Name every request, answer HEAD, count requests for answers, and hand everything on."""
        if scope["type"] != "http":
            await self.routes(scope, receive, send)
            return
        clock, outcome = time.monotonic(), scope.setdefault("state", {})
        outcome["status"] = 499  # unless something is sent
        request_id, is_head = request_id_of(Request(scope)), scope["method"] == "HEAD"

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                outcome["status"] = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            elif is_head:
                message = {**message, "body": b""}
            await send(message)

        if is_head:
            scope = scope | {"method": "GET"}
        if scope["method"] != "POST" or scope["path"] not in (COMPLETIONS, TRANSCRIPTIONS):
            await self.app(scope, receive, send_on)
            return
        self.in_flight += 1
        try:
            await self.app(scope, receive, send_on)
        except Exception:
            outcome["status"] = 500
            raise
        finally:
            self.in_flight -= 1
            self.metrics.requests.labels(str(outcome["status"])).inc()
            if outcome["status"] == 200:
                self.metrics.latency.observe(time.monotonic() - clock)

    # -- chat completions -------------------------------------------------------------------------------------------

    async def complete(self, request: Request) -> Response:
        """Answer a question about a clip of audio.

        Raises RequestError, QueueFullError, ClosedError, ModelFailure, or ClientDisconnect.
        """
        self.check_open(request)
        async with self.uploads.read(request) as body:
            validated, queued, arriving = await self.admit(body, encoding_of(request))
        completion = Completion(validated, self.service.model.tokenizer)
        answers = self.follow(request, completion, queued, arriving)
        headers = {IGNORED_TURNS: str(validated.num_ignored)} if validated.num_ignored else {}
        if validated.parameters.stream:
            headers |= {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
            return StreamingResponse(
                self.stream(request, completion, answers), media_type="text/event-stream", headers=headers
            )
        async with aclosing(answers):
            async for _ in answers:
                pass
        return JSONResponse(completion.whole(), headers=headers)

    async def admit(self, body: bytes, encoding: str) -> tuple[ValidatedRequest, QueuedRequest, asyncio.Queue]:
        """Validate a request and queue it; what arrives of its answer comes out of the third.

        What is being decoded has its place in the queue already. Raises RequestError, QueueFullError or ClosedError.
        """
        self.check_room()
        loop, arriving = asyncio.get_running_loop(), asyncio.Queue()

        def decode() -> ValidatedRequest:
            return validate(parse_request(self.uploads.unpack(body, encoding)), self.service)

        self.preparing += 1
        try:
            validated = await loop.run_in_executor(self.decoders, decode)
        finally:
            self.preparing -= 1
        queued = self.batcher.submit(validated.generation, putter(loop, arriving))
        return validated, queued, arriving

    async def follow(
        self, request: Request, completion: Completion, queued: QueuedRequest, arriving: asyncio.Queue
    ) -> AsyncIterator[None]:
        """Let `completion` read what there is of its answer; yields each time, until it is finished.

        Raises ModelFailure, or ClientDisconnect as soon as the client is gone. However it ends, nothing is computed any
        more for this request alone.
        """

        async def report_departure() -> None:
            await departure(request)
            arriving.put_nowait(ClientDisconnect())

        watch = asyncio.create_task(report_departure())
        try:
            while completion.reply.finish_reason is None:
                answer: AnswerPrefix | Exception = await arriving.get()
                if isinstance(answer, Exception):
                    raise answer
                completion.read(answer)
                yield
        finally:
            watch.cancel()
            self.batcher.cancel(queued)
        self.metrics.answer_tokens.inc(completion.reply.num_tokens)

    async def stream(
        self, request: Request, completion: Completion, answers: AsyncIterator[None]
    ) -> AsyncIterator[str]:
        """Server-sent events; a ModelFailure is the last one, since the status is sent. Raises ClientDisconnect."""
        yield completion.opening()
        try:
            async with aclosing(answers):
                async for _ in answers:
                    for event in completion.growth():
                        yield event
        except ModelFailure as failure:
            request.state.status = 500
            yield as_event(model_failure(failure).body)
        except (ClientDisconnect, asyncio.CancelledError):
            request.state.status = 499
            raise

    # -- transcriptions ---------------------------------------------------------------------------------------------

    async def transcribe(self, request: Request) -> Response:
        """Write down what is said in a recording, window by window.

        Raises RequestError, QueueFullError, ClosedError, ModelFailure, or ClientDisconnect.
        """
        self.check_open(request)
        async with self.uploads.read(request, "multipart/form-data") as body:
            self.check_room()

            def prepare() -> Recording:
                unpacked = self.uploads.unpack(body, encoding_of(request))
                return open_recording(*read_form(unpacked, request.headers, self.uploads.max_bytes), self.service)

            self.preparing += 1
            try:
                recording = await asyncio.get_running_loop().run_in_executor(self.decoders, prepare)
            finally:
                self.preparing -= 1
            work = self.transcriber.transcribe(recording)
            segments, warnings = await unless_client_leaves(request, work)
        self.metrics.answer_tokens.inc(sum(len(segment.ids) for segment in segments))
        warnings = warnings_of(recording, segments, warnings)
        rendered = render(recording, segments, warnings)
        if isinstance(rendered, dict):
            return JSONResponse(rendered)
        told = "; ".join(warnings).encode("ascii", "backslashreplace").decode()
        told = textwrap.shorten(told, MAX_WARNING, placeholder=" ...")
        return PlainTextResponse(rendered, headers={WARNING: told} if told else {})

    # -- everything else --------------------------------------------------------------------------------------------

    def check_open(self, request: Request) -> None:
        """Raise RequestError or ClosedError for a request that is not let in, before its body is read."""
        self.check_key(request)
        if self.draining:
            raise ClosedError

    def check_room(self) -> None:
        """Raise QueueFullError or ClosedError for a request that could not be queued."""
        if self.draining:
            raise ClosedError
        if len(self.batcher.waiting) + self.preparing >= self.batcher.max_queue:
            raise QueueFullError(self.batcher.max_queue, self.batcher.retry_after())

    def check_key(self, request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").encode("latin-1").partition(b" ")
        if self.api_key and not (scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self.api_key)):
            found = "another one was given" if given else "none was given"
            raise RequestError(
                f"an API key is needed: {found}; send it as Authorization: Bearer KEY", None, "invalid_api_key", 401,
                headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip

    async def models(self, request: Request) -> dict:
        """The model that this server has, and what it can do."""
        self.check_key(request)
        return {"object": "list", "data": [self.card()]}

    async def model(self, name: str, request: Request) -> dict:
        """A model by its name."""
        self.check_key(request)
        check_model(name, self.service)
        return self.card()

    def card(self) -> dict:
        service, model = self.service, self.service.model
        return {
            "id": service.name,
            "object": "model",
            "created": self.started,
            "owned_by": "diffa",
            "family": model.config.family,
            "stage": model.stage,
            "quantization": model.llm_model.quantization,
            "modalities": {"input": ["text", "audio"], "output": ["text"]},
            "capabilities": {
                "chat_completions": True,
                "transcriptions": True,
                "streaming": True,
                "history": service.history,
                "tools": False,
                "vision": False,
                "logprobs": False,
            },
            "context_length": model.llm_model.config.max_sequence_length,  # tokens, of prompt, audio and answer
            "canvas": service.default_options.max_new_tokens,  # tokens
            "max_answer_tokens": service.max_answer_tokens,
            "window_seconds": window_seconds(model.feature_extractor),  # of audio that is heard at once
            "max_audio_seconds": service.max_seconds,
            "transcription_prompt": ASR_PROMPTS[model.config.family],
        }

    async def health(self) -> Response:
        """Whether the server answers, and how many requests wait."""
        status = "broken" if self.batcher.broken else "shutting down" if self.draining else "ok"
        state = {
            "status": status,
            "model": self.service.name,
            "model_loaded": True,  # before the server listens
            "quantization": self.service.model.llm_model.quantization,
            "queue_length": len(self.batcher.waiting),
        }
        return JSONResponse(state, 200 if status == "ok" else 503)

    async def figures(self) -> Response:
        """What was counted, as Prometheus reads it."""
        return Response(self.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    def openapi(self) -> dict:
        """The OpenAPI document."""
        if not self.routes.openapi_schema:
            self.routes.openapi_schema = api_docs.openapi(self.routes, COMPLETIONS, TRANSCRIPTIONS)
        return self.routes.openapi_schema

    async def docs(self) -> Response:
        """This page."""
        return HTMLResponse(api_docs.docs_page(self.openapi()))

    async def start(self) -> Response:
        """Where to go from here."""
        return HTMLResponse(api_docs.start_page(self.service.name, bool(self.api_key)))


def request_id_of(request: Request) -> str:
    """The client's own name of the request, or a new one."""
    given = request.headers.get(REQUEST_ID, "")
    return given if given.isascii() and given.isprintable() and 0 < len(given) <= MAX_ID else f"req_{uuid.uuid4().hex}"
