"""HTTP routes: OpenAI's chat completions, the model's name, health, metrics."""

import asyncio
import hmac
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from serving.batching import AnswerPrefix, Batcher, ClosedError, Metrics, ModelFailure, QueuedRequest, QueueFullError
from serving.protocol import RequestError, parse_request
from serving.responses import Completion, as_event
from serving.uploads import Uploads, encoding_of
from serving.validation import Service, ValidatedRequest, validate

COMPLETIONS = "/v1/chat/completions"
DECODER_THREADS = 4  # of audio
IGNORED_TURNS = "X-DIFFA-Ignored-Turns"  # header: how many turns of the conversation the model did not see


class Api:
    """An ASGI application.

    Args:
        api_key: what `/v1/...` asks for; "" for nothing.
        max_upload: bytes of a request.

    Attributes:
        draining: set it to let nothing more in; `in_flight` then goes down to 0.
        in_flight: chat completion requests that are not finished.
    """

    def __init__(self, service: Service, batcher: Batcher, metrics: Metrics, api_key: str, max_upload: int) -> None:
        self.service, self.batcher, self.metrics = service, batcher, metrics
        self.api_key, self.uploads = api_key.encode(), Uploads(max_upload)
        self.draining = False
        self.in_flight = 0
        self.preparing = 0  # of those in flight: what is being decoded, and must find a place in the queue
        self.started = int(time.time())
        self.decoders = ThreadPoolExecutor(DECODER_THREADS, thread_name_prefix="decoder")
        self.routes = FastAPI(title="DIFFA", docs_url=None, redoc_url=None, openapi_url=None)
        self.routes.add_api_route(COMPLETIONS, self.complete, methods=["POST"])
        self.routes.add_api_route("/v1/models", self.models, methods=["GET"])
        self.routes.add_api_route("/v1/models/{name:path}", self.model, methods=["GET"])
        self.routes.add_api_route("/health", self.health, methods=["GET"])
        self.routes.add_api_route("/metrics", self.figures, methods=["GET"])
        for kind, handler in (
            (RequestError, refuse),
            (HTTPException, http_error),
            (ClientDisconnect, client_left),
            (Exception, internal_error),
        ):
            self.routes.add_exception_handler(kind, handler)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count chat completions, and hand everything on."""
        if scope["type"] != "http" or scope["path"] != COMPLETIONS:
            await self.routes(scope, receive, send)
            return
        clock, outcome = time.monotonic(), scope.setdefault("state", {})
        outcome["status"] = 499  # unless something is sent

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                outcome["status"] = message["status"]
            await send(message)

        self.in_flight += 1
        try:
            await self.routes(scope, receive, send_on)
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
        self.check_key(request)
        if self.draining:
            raise shutting_down()
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
        try:
            async with aclosing(answers):
                async for _ in answers:
                    pass
        except ModelFailure as failure:
            raise model_failed(failure) from None
        return JSONResponse(completion.whole(), headers=headers)

    async def admit(self, body: bytes, encoding: str) -> tuple[ValidatedRequest, QueuedRequest, asyncio.Queue]:
        """Validate a request and queue it; what arrives of its answer comes out of the third. Raises RequestError.

        What is being decoded has its place in the queue already.
        """
        if self.draining:
            raise shutting_down()
        if len(self.batcher.waiting) + self.preparing >= self.batcher.max_queue:
            raise queue_full(QueueFullError(self.batcher.max_queue, self.batcher.retry_after()))
        loop, arriving = asyncio.get_running_loop(), asyncio.Queue()

        def decode() -> ValidatedRequest:
            return validate(parse_request(self.uploads.unpack(body, encoding)), self.service)

        self.preparing += 1
        try:
            validated = await loop.run_in_executor(self.decoders, decode)
        finally:
            self.preparing -= 1
        try:
            queued = self.batcher.submit(
                validated.generation, lambda answer: loop.call_soon_threadsafe(arriving.put_nowait, answer)
            )
        except QueueFullError as error:
            raise queue_full(error) from None
        except ClosedError:
            raise shutting_down() from None
        return validated, queued, arriving

    async def follow(
        self, request: Request, completion: Completion, queued: QueuedRequest, arriving: asyncio.Queue
    ) -> AsyncIterator[None]:
        """Let `completion` read what there is of its answer; yields each time, until it is finished.

        Raises ModelFailure, or ClientDisconnect as soon as the client is gone. However it ends, nothing is computed any
        more for this request alone.
        """

        async def report_departure() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
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
        """Server-sent events; a failure is the last one."""
        yield completion.opening()
        try:
            async with aclosing(answers):
                async for _ in answers:
                    for event in completion.growth():
                        yield event
        except ModelFailure as failure:
            request.state.status = 500
            yield as_event(model_failed(failure).body)
        except (ClientDisconnect, asyncio.CancelledError):
            request.state.status = 499
            raise

    # -- everything else --------------------------------------------------------------------------------------------

    def check_key(self, request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").encode("latin-1").partition(b" ")
        if self.api_key and not (scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self.api_key)):
            found = "another one was given" if given else "none was given"
            raise RequestError(f"an API key is needed: {found}", None, "invalid_api_key", 401,
                               headers={"WWW-Authenticate": "Bearer"})  # fmt: skip

    async def models(self, request: Request) -> dict:
        self.check_key(request)
        return {"object": "list", "data": [self.card()]}

    async def model(self, name: str, request: Request) -> dict:
        self.check_key(request)
        if name != self.service.name:
            raise RequestError(f"the model {name!r} does not exist", "model", "model_not_found", 404)
        return self.card()

    def card(self) -> dict:
        return {"id": self.service.name, "object": "model", "created": self.started, "owned_by": "diffa"}

    async def health(self) -> Response:
        status = "broken" if self.batcher.broken else "shutting down" if self.draining else "ok"
        state = {
            "status": status,
            "model": self.service.name,
            "model_loaded": True,  # before the server listens
            "queue_length": len(self.batcher.waiting),
        }
        return JSONResponse(state, 200 if status == "ok" else 503)

    async def figures(self) -> Response:
        return Response(self.metrics.text(), media_type=CONTENT_TYPE_LATEST)


# --- errors --------------------------------------------------------------------------------------------------------


def shutting_down() -> RequestError:
    return RequestError(
        "the server is shutting down", None, "shutting_down", 503, "server_error", {"Retry-After": "10"}
    )


def queue_full(error: QueueFullError) -> RequestError:
    headers = {"Retry-After": str(error.retry_after)}
    return RequestError(str(error), None, "queue_full", 429, "rate_limit_error", headers)


def model_failed(failure: ModelFailure) -> RequestError:
    return RequestError(str(failure), None, "model_failure", 500, "server_error")


async def refuse(_: Request, error: RequestError) -> Response:
    return JSONResponse(error.body, error.status, error.headers)


async def http_error(request: Request, error: HTTPException) -> Response:
    message = f"{request.method} {request.url.path}: {error.detail}"
    return await refuse(request, RequestError(message, status=error.status_code, headers=error.headers))


async def client_left(*_: object) -> Response:
    return Response(status_code=499)  # for nobody


async def internal_error(request: Request, _: Exception) -> Response:
    """Starlette logs what it was."""
    return await refuse(
        request, RequestError("internal error; the server's log has more", status=500, kind="server_error")
    )
