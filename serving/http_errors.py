"""Errors as HTTP responses, in OpenAI's shape."""

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from serving.batching import ClosedError, ModelFailure, QueueFullError
from serving.protocol import RequestError


def model_failure(failure: ModelFailure) -> RequestError:
    """What a client is told, in a response or as a stream's last event."""
    return RequestError(str(failure), None, "model_failure", 500, "server_error")


async def refuse(_: Request, error: RequestError) -> Response:
    return JSONResponse(error.body, error.status, error.headers)


async def queue_full(request: Request, error: QueueFullError) -> Response:
    headers = {"Retry-After": str(error.retry_after)}
    return await refuse(request, RequestError(str(error), None, "queue_full", 429, "rate_limit_error", headers))


async def shutting_down(request: Request, _: ClosedError) -> Response:
    return await refuse(
        request,
        RequestError("the server is shutting down", None, "shutting_down", 503, "server_error", {"Retry-After": "10"}),
    )


async def model_failed(request: Request, failure: ModelFailure) -> Response:
    return await refuse(request, model_failure(failure))


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
