"""Bodies of requests: read before a request takes a place in the queue, bounded in size, time and memory."""

import asyncio
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from serving.protocol import RequestError

MAX_UPLOAD_SECONDS, MAX_PAUSE_SECONDS = 60, 10  # of a whole body, and of a wait for more of it
BODIES_HELD = 16  # of the largest size: so much of all bodies together is held in memory
MAX_MEMBERS = 100  # gzip files in a row, which are one
ENCODINGS = ("", "identity", "gzip", "x-gzip")


class Uploads:
    """Reads bodies. `max_bytes`: of one, as it is sent and unpacked."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.held = 0  # bytes of all bodies in memory

    @asynccontextmanager
    async def read(self, request: Request, content_type: str = "application/json") -> AsyncIterator[bytes]:
        """A request's body, as it was sent; it counts as held until the context ends. Raises RequestError."""
        self.check_headers(request, content_type)
        body, chunks = bytearray(), request.stream()
        deadline = time.monotonic() + MAX_UPLOAD_SECONDS
        try:
            while True:
                patience = min(MAX_PAUSE_SECONDS, deadline - time.monotonic())
                try:
                    chunk = await asyncio.wait_for(anext(chunks), max(0, patience))
                except StopAsyncIteration:
                    break
                except asyncio.TimeoutError:
                    raise RequestError(
                        f"nothing of the request came for {MAX_PAUSE_SECONDS} s, or not all of it within "
                        f"{MAX_UPLOAD_SECONDS} s: send it again", status=408,
                    ) from None  # fmt: skip
                body += chunk
                self.held += len(chunk)
                if len(body) > self.max_bytes:
                    raise self.too_large()
                if self.held > BODIES_HELD * self.max_bytes:
                    raise RequestError(
                        "too many requests are being uploaded; try again in 1 s", None, "queue_full", 429,
                        "rate_limit_error", {"Retry-After": "1"},
                    )  # fmt: skip
            yield bytes(body)
        finally:
            self.held -= len(body)

    def check_headers(self, request: Request, content_type: str) -> None:
        """Raise RequestError where the headers already say that a body will not be read."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != content_type:
            raise RequestError(f"a body of Content-Type {content_type} is expected", status=415)
        if encoding_of(request) not in ENCODINGS:
            raise RequestError(
                f"a body of Content-Encoding {encoding_of(request)[:50]!r} is not read: send it as it is, or gzip",
                status=415,
            )
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self.max_bytes:
            raise self.too_large()

    def unpack(self, body: bytes, encoding: str) -> bytes:
        """What was sent with a Content-Encoding. Raises RequestError. Slow: not for an event loop."""
        if not encoding.endswith("gzip") or not body:
            return body
        unpacked, rest = bytearray(), body
        for _ in range(MAX_MEMBERS):
            try:
                unpacker = zlib.decompressobj(wbits=31)
                unpacked += unpacker.decompress(rest, self.max_bytes + 1 - len(unpacked))
            except zlib.error:
                fault = "is followed by something else" if unpacked else "is none"
                raise RequestError(f"the body says Content-Encoding gzip and {fault}") from None
            if len(unpacked) > self.max_bytes:
                raise self.too_large()
            if not unpacker.eof:
                raise RequestError("the gzip body is cut")
            rest = unpacker.unused_data
            if not rest:
                return bytes(unpacked)
        raise RequestError(f"the gzip body is of more than {MAX_MEMBERS} parts")

    def too_large(self) -> RequestError:
        return RequestError(f"the request is larger than {self.max_bytes} bytes", code="too_large", status=413)


def encoding_of(request: Request) -> str:
    return request.headers.get("content-encoding", "").strip().lower()
