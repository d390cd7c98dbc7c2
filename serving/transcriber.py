"""Transcribes a recording: its windows become requests of the batcher, a batch of them at a time."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from itertools import islice
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from serving.batching import AnswerPrefix, Batcher, GenerationRequest, QueuedRequest, QueueFullError
from serving.transcription import Recording, Segment, segment_of, unusable
from serving.validation import Service
from src.audio import AudioError, Window

PAUSE_SECONDS = 0.1  # between attempts to queue a window of a recording that is under way
T = TypeVar("T")


class Transcriber:
    """`decoders`: the threads in which audio is decoded."""

    def __init__(self, service: Service, batcher: Batcher, decoders: Executor) -> None:
        self.service, self.batcher, self.decoders = service, batcher, decoders

    async def transcribe(self, recording: Recording) -> tuple[list[Segment], list[str]]:
        """What is heard in each window, and warnings. Raises RequestError, ModelFailure, QueueFullError, ClosedError.

        A full queue refuses the recording as long as nothing of it was queued, and later makes it wait.
        """
        loop, segments, warnings = asyncio.get_running_loop(), [], []
        while True:
            windows = await loop.run_in_executor(self.decoders, self.next_windows, recording)
            if not windows:
                return segments, warnings
            answers = await self.answer(recording, windows, patient=bool(segments))
            warnings += [f"of the audio: {warning}" for window in windows for warning in window.warnings]
            segments += [
                segment_of(self.service.model.tokenizer, window, answer, recording.num_tokens)
                for window, answer in zip(windows, answers, strict=True)
            ]

    def next_windows(self, recording: Recording) -> list[Window]:
        try:
            return list(islice(recording.windows, self.batcher.batch_size))
        except AudioError as error:
            raise unusable(error) from None

    async def answer(self, recording: Recording, windows: list[Window], patient: bool) -> list[AnswerPrefix]:
        """The answers to some windows. However it ends, nothing is computed for them any more."""
        loop, waiting = asyncio.get_running_loop(), []
        queued: list[QueuedRequest] = []
        try:
            for window in windows:
                arriving: asyncio.Queue = asyncio.Queue()
                request = GenerationRequest(
                    window.waveform, recording.instruction, recording.options, recording.num_tokens
                )
                while True:
                    try:
                        queued.append(self.batcher.submit(request, putter(loop, arriving)))
                        break
                    except QueueFullError:
                        if not patient and not queued:
                            raise
                        await asyncio.sleep(PAUSE_SECONDS)
                waiting.append(arriving)
            return [await complete(arriving) for arriving in waiting]
        finally:
            for request in queued:
                self.batcher.cancel(request)


def putter(loop: asyncio.AbstractEventLoop, arriving: asyncio.Queue) -> Callable[[AnswerPrefix | Exception], Any]:
    """Puts what another thread delivers into a queue of the loop."""
    return lambda answer: loop.call_soon_threadsafe(arriving.put_nowait, answer)


async def complete(arriving: asyncio.Queue) -> AnswerPrefix:
    """The whole answer out of a queue of beginnings. Raises ModelFailure."""
    while True:
        answer = await arriving.get()
        if isinstance(answer, Exception):
            raise answer
        if answer.is_complete:
            return answer


async def departure(request: Request) -> None:
    """Returns as soon as the client is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def unless_client_leaves(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns. Raises ClientDisconnect, and cancels the work, as soon as the client is gone."""
    working, leaving = asyncio.create_task(work), asyncio.create_task(departure(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        leaving.cancel()
        working.cancel()
