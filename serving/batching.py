"""Dynamic batching: one thread owns the model and answers requests with equal decoding options together.

A client submits a `GenerationRequest` and a function that is called, in the model's thread, with each beginning of the
answer; `DIFFAModel.decode` sees to it that an answer does not depend on its batch. `Metrics` counts what happens.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from src.generation_options import GenerationOptions
from src.llm_generate import Progress
from src.prompts import Conversation

Decode = Callable[[Sequence[np.ndarray], Sequence[str | Conversation], GenerationOptions], Iterator[Progress]]
logger = logging.getLogger("diffa")
BATCH_SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64)  # histogram bounds: requests
LATENCY_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)  # seconds


class QueueFullError(Exception):
    """As many requests wait as may; `retry_after` (whole seconds) is an estimate of when there will be room."""

    def __init__(self, waiting: int, retry_after: int) -> None:
        super().__init__(f"the queue is full, with {waiting} waiting; try again in {retry_after} s")
        self.retry_after = retry_after


class ClosedError(Exception):
    """Nothing is accepted any more."""


class ModelFailure(Exception):
    """The model failed while it answered a batch; the message says how."""


@dataclass(frozen=True)
class GenerationRequest:
    """What is asked of the model."""

    waveform: np.ndarray  # float32 [n], 16 kHz
    instruction: str | Conversation
    options: GenerationOptions
    num_tokens: int  # of the answer that are of interest, at most options.max_new_tokens


@dataclass(frozen=True)
class AnswerPrefix:
    """The beginning of an answer, or all of it: ids in it will not change."""

    ids: tuple[int, ...]  # of whole blocks; only a complete answer may hold mask tokens
    forward_passes: int  # as many as it takes alone
    is_complete: bool


Deliver = Callable[[AnswerPrefix | ModelFailure], None]


@dataclass(eq=False)
class QueuedRequest:
    """A request that waits for its answer, or for the rest of it."""

    request: GenerationRequest
    deliver: Deliver
    arrived: float  # time.monotonic()
    num_settled: int = 0  # ids that were delivered
    is_open: bool = True  # its answer is neither complete nor given up


class Metrics:
    """What one server counts, in Prometheus' text format and a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # by the HTTP status; 499: the client left, 500 also where a stream broke off
        self.requests = Counter(
            "diffa_requests", "Requests for answers and transcripts", ["status"], registry=self.registry
        )
        self.latency = Histogram(
            "diffa_request_seconds", "Seconds from a request to the end of its answer; answered ones alone",
            buckets=LATENCY_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self.queue_depth = Gauge("diffa_queue_depth", "Requests that wait for the model", registry=self.registry)
        self.batch_size = Histogram(
            "diffa_batch_size", "Requests answered together", buckets=BATCH_SIZE_BUCKETS, registry=self.registry
        )
        self.forward_passes = Counter(
            "diffa_forward_passes", "Forward passes of the LLM; one of a batch counts once", registry=self.registry
        )
        self.answer_tokens = Counter("diffa_answer_tokens", "Tokens of answers", registry=self.registry)

    def watch_queue(self, depth: Callable[[], int]) -> None:
        self.queue_depth.set_function(depth)

    def text(self) -> bytes:
        return generate_latest(self.registry)


class Batcher:
    """A bounded queue of requests, and the thread that answers them.

    The oldest request is always in the next batch. It waits for others with equal options until they fill
    a batch, or `max_wait` seconds have gone by since it came; the time it spent behind other batches counts.

    Args:
        decode: `DIFFAModel.decode`.
        mask_id: the LLM's mask token.
        batch_size: requests answered together at most.
        max_queue: requests that may wait; those being answered do not count.
        max_wait: seconds.
    """

    def __init__(
        self, decode: Decode, mask_id: int, batch_size: int, max_queue: int, max_wait: float, metrics: Metrics
    ) -> None:
        self.decode, self.mask_id = decode, mask_id
        self.batch_size, self.max_queue, self.max_wait = batch_size, max_queue, max_wait
        self.metrics = metrics
        self.waiting: deque[QueuedRequest] = deque()
        self.closed = False
        self.broken = False  # nothing can be answered any more, until a restart
        self.batch_seconds = 0.0  # the last batch took
        self.changed = threading.Condition()  # guards `waiting` and `closed`
        self.thread = threading.Thread(target=self.work, name="model", daemon=True)
        metrics.watch_queue(lambda: len(self.waiting))
        self.thread.start()

    # -- called by clients, in any thread -----------------------------------------------------------------------------

    def submit(self, request: GenerationRequest, deliver: Deliver) -> QueuedRequest:
        """Queue a request. `deliver` gets, in the model's thread, each beginning of the answer that grew by a block,
        the complete one last, or a ModelFailure. Raises QueueFullError or ClosedError."""
        queued = QueuedRequest(request, deliver, time.monotonic())
        with self.changed:
            if self.closed:
                raise ClosedError
            if len(self.waiting) >= self.max_queue:
                raise QueueFullError(len(self.waiting), self.retry_after())
            self.waiting.append(queued)
            self.changed.notify()
        return queued

    def retry_after(self) -> int:
        """Whole seconds after which there should be room in a queue that is full now."""
        return max(1, round(self.batch_seconds))

    def cancel(self, queued: QueuedRequest) -> None:
        """Nobody wants this answer any more: it leaves the queue, or nothing more of it is delivered."""
        with self.changed:
            queued.is_open = False
            if queued in self.waiting:
                self.waiting.remove(queued)

    def close(self) -> None:
        """Accept nothing more, answer what waits, then return."""
        with self.changed:
            self.closed = True
            self.changed.notify()
        self.thread.join()

    # -- the model's thread -----------------------------------------------------------------------------------------

    def work(self) -> None:
        while batch := self.next_batch():
            clock = time.monotonic()
            try:
                self.answer(batch)
            except Exception as error:  # whatever it is, it must not take the other batches with it
                logger.exception("a batch of %d failed", len(batch))
                self.broken = not device_answers()
                failure = failure_of(error, len(batch))
                for queued in batch:
                    if queued.is_open:
                        queued.is_open = False
                        queued.deliver(failure)
            self.batch_seconds = time.monotonic() - clock

    def next_batch(self) -> list[QueuedRequest]:
        """The requests to answer next, taken off the queue; waits for them. None are left once it returns []."""
        with self.changed:
            while True:
                if not self.waiting:
                    if self.closed:
                        return []
                    self.changed.wait()
                    continue
                oldest = self.waiting[0]
                alike = [queued for queued in self.waiting if queued.request.options == oldest.request.options]
                patience = oldest.arrived + self.max_wait - time.monotonic()
                if len(alike) >= self.batch_size or self.closed or patience <= 0:
                    batch = alike[: self.batch_size]
                    self.waiting = deque(queued for queued in self.waiting if queued not in batch)
                    return batch
                self.changed.wait(patience)

    def answer(self, batch: Sequence[QueuedRequest]) -> None:
        requests = [queued.request for queued in batch]
        options = requests[0].options
        self.metrics.batch_size.observe(len(batch))
        waveforms, instructions = [r.waveform for r in requests], [r.instruction for r in requests]
        total = 0
        with closing(self.decode(waveforms, instructions, options)) as steps:
            for progress in steps:
                passes, ids = progress.forward_passes.tolist(), progress.answer_ids.tolist()  # the device is waited for
                self.metrics.forward_passes.inc(sum(passes) > total)  # answers that stop early take a step, but no pass
                total = sum(passes)
                for queued, answer_ids, count in zip(batch, ids, passes, strict=True):
                    settled = answer_ids.index(self.mask_id) if self.mask_id in answer_ids else len(answer_ids)
                    end = settled // options.block_length * options.block_length
                    if end > queued.num_settled:
                        queued.num_settled = end
                        deliver_prefix(queued, answer_ids[:end], count, end >= queued.request.num_tokens)
                if not any(queued.is_open for queued in batch):
                    return
        for queued, answer_ids, count in zip(batch, ids, passes, strict=True):  # answers that keep a mask
            deliver_prefix(queued, answer_ids, count, True)


def deliver_prefix(queued: QueuedRequest, ids: Sequence[int], forward_passes: int, is_complete: bool) -> None:
    if queued.is_open:
        if is_complete:
            queued.is_open = False
        queued.deliver(AnswerPrefix(tuple(ids), forward_passes, is_complete))


def device_answers() -> bool:
    """Whether the GPU, where one is used, still takes work: after some errors it refuses all from this process."""
    try:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


def failure_of(error: Exception, batch_size: int) -> ModelFailure:
    if isinstance(error, torch.OutOfMemoryError):
        return ModelFailure(f"out of memory with {batch_size} at a time; start the server with a lower --batch_size")
    first_line = (str(error).splitlines() or [""])[0][:200]
    return ModelFailure(
        f"the model failed on this request or on one answered with it ({type(error).__name__}: {first_line})"
    )
