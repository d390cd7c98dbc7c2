"""Many askers, one model: questions with the same options are answered together.

One thread owns the model. Whoever asks hands in a `Question` and a function that is called, in that thread, with what
there is of the answer; `DIFFAModel.decode` sees to it that an answer does not depend on its batch.
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

from serving.serving_metrics import Metrics
from src.generation_options import GenerationOptions
from src.llm_generate import Progress

Decode = Callable[[Sequence[np.ndarray], Sequence[str], GenerationOptions], Iterator[Progress]]
logger = logging.getLogger("diffa")


class QueueFullError(Exception):
    """As many questions wait as may; `retry_after` (whole seconds) is an estimate of when there will be room."""

    def __init__(self, waiting: int, retry_after: int) -> None:
        super().__init__(f"the queue is full, with {waiting} waiting; try again in {retry_after} s")
        self.retry_after = retry_after


class ClosedError(Exception):
    """Nothing is accepted any more."""


class ModelFailure(Exception):
    """The model failed while it answered a batch; the message says how."""


@dataclass(frozen=True)
class Question:
    """What one asks of the model."""

    waveform: np.ndarray  # float32 [n], 16 kHz
    instruction: str
    options: GenerationOptions
    num_tokens: int  # of the answer that are of interest, at most options.max_new_tokens


@dataclass(frozen=True)
class Answer:
    """An answer, or the beginning of one: ids in it will not change."""

    ids: tuple[int, ...]  # of whole blocks; only a complete answer may hold mask tokens
    forward_passes: int  # as many as it takes alone
    is_complete: bool


Deliver = Callable[[Answer | ModelFailure], None]


@dataclass(eq=False)
class Ticket:
    """One question on its way."""

    question: Question
    deliver: Deliver
    arrived: float  # time.monotonic()
    num_settled: int = 0  # ids that were delivered
    is_open: bool = True  # its answer is neither complete nor given up


class Batcher:
    """A bounded queue of questions, and the thread that answers them.

    The oldest question is always among the next to be answered. It waits for others with equal options until they fill
    a batch, or `max_wait` seconds have gone by since it came; the time it spent behind other batches counts.

    Args:
        decode: `DIFFAModel.decode`.
        mask_id: the LLM's mask token.
        batch_size: questions answered together at most.
        max_queue: questions that may wait; those being answered do not count.
        max_wait: seconds.
    """

    def __init__(
        self, decode: Decode, mask_id: int, batch_size: int, max_queue: int, max_wait: float, metrics: Metrics
    ) -> None:
        self.decode, self.mask_id = decode, mask_id
        self.batch_size, self.max_queue, self.max_wait = batch_size, max_queue, max_wait
        self.metrics = metrics
        self.waiting: deque[Ticket] = deque()
        self.closed = False
        self.broken = False  # nothing can be answered any more, until a restart
        self.batch_seconds = 0.0  # the last batch took
        self.changed = threading.Condition()  # guards `waiting` and `closed`
        self.thread = threading.Thread(target=self.work, name="model", daemon=True)
        metrics.watch_queue(lambda: len(self.waiting))
        self.thread.start()

    # -- for those who ask, in any thread ---------------------------------------------------------------------------

    def submit(self, question: Question, deliver: Deliver) -> Ticket:
        """Queue a question. `deliver` gets, in the model's thread, each beginning of the answer that grew by a block,
        the complete one last, or a ModelFailure. Raises QueueFullError or ClosedError."""
        ticket = Ticket(question, deliver, time.monotonic())
        with self.changed:
            if self.closed:
                raise ClosedError
            if len(self.waiting) >= self.max_queue:
                raise QueueFullError(len(self.waiting), self.retry_after())
            self.waiting.append(ticket)
            self.changed.notify()
        return ticket

    def retry_after(self) -> int:
        """Whole seconds after which there should be room in a queue that is full now."""
        return max(1, round(self.batch_seconds))

    def cancel(self, ticket: Ticket) -> None:
        """Nobody wants this answer any more: it leaves the queue, or nothing more of it is delivered."""
        with self.changed:
            ticket.is_open = False
            if ticket in self.waiting:
                self.waiting.remove(ticket)

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
                for ticket in batch:
                    if ticket.is_open:
                        ticket.is_open = False
                        ticket.deliver(failure)
            self.batch_seconds = time.monotonic() - clock

    def next_batch(self) -> list[Ticket]:
        """The questions to answer next, taken off the queue; waits for them. None are left once it returns []."""
        with self.changed:
            while True:
                if not self.waiting:
                    if self.closed:
                        return []
                    self.changed.wait()
                    continue
                oldest = self.waiting[0]
                alike = [ticket for ticket in self.waiting if ticket.question.options == oldest.question.options]
                patience = oldest.arrived + self.max_wait - time.monotonic()
                if len(alike) >= self.batch_size or self.closed or patience <= 0:
                    batch = alike[: self.batch_size]
                    self.waiting = deque(ticket for ticket in self.waiting if ticket not in batch)
                    return batch
                self.changed.wait(patience)

    def answer(self, batch: Sequence[Ticket]) -> None:
        questions = [ticket.question for ticket in batch]
        options = questions[0].options
        self.metrics.batch_size.observe(len(batch))
        waveforms, instructions = [q.waveform for q in questions], [q.instruction for q in questions]
        passes = 0
        with closing(self.decode(waveforms, instructions, options)) as steps:
            for progress in steps:
                total = int(progress.forward_passes.sum())
                self.metrics.forward_passes.inc(total > passes)  # answers that stop early take a step, but no pass
                passes = total
                ids = progress.answer_ids.cpu()  # [B, max_new_tokens]
                settled = (ids == self.mask_id).cumsum(dim=1).eq(0).sum(dim=1).tolist()  # [B], before the first mask
                for row, ticket in enumerate(batch):
                    end = settled[row] // options.block_length * options.block_length
                    if end > ticket.num_settled:
                        ticket.num_settled = end
                        hand_over(
                            ticket, ids[row, :end], progress.forward_passes[row], end >= ticket.question.num_tokens
                        )
                if not any(ticket.is_open for ticket in batch):
                    return
        for row, ticket in enumerate(batch):  # answers that keep a mask
            hand_over(ticket, ids[row], progress.forward_passes[row], True)


def hand_over(ticket: Ticket, ids: torch.Tensor, forward_passes: torch.Tensor, is_complete: bool) -> None:
    if ticket.is_open:
        if is_complete:
            ticket.is_open = False
        ticket.deliver(Answer(tuple(ids.tolist()), int(forward_passes), is_complete))


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
