import queue
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from serving.batching import (
    AnswerPrefix,
    Batcher,
    ClosedError,
    GenerationRequest,
    Metrics,
    ModelFailure,
    QueuedRequest,
    QueueFullError,
)
from src.generation_options import GenerationOptions
from src.llm_generate import Progress
from tests.simulated_device import NAME, simulated_device

MASK = 99
OPTIONS = GenerationOptions(4, 2, 4)  # two blocks of two tokens
PATIENCE = 10  # seconds until a test that waits has failed


class StubModel:
    """Fixes a token a step, and answers with numbers that the instruction says; remembers its batches.

    With `gate` set to an event, it waits for it before each batch. "fail" as an instruction makes it fail, "leave"
    leaves a mask in the first block.
    """

    def __init__(self):
        self.batches, self.steps, self.gate, self.threads = [], 0, None, set()
        self.entered = threading.Semaphore(0)

    def decode(self, waveforms, instructions, options):
        self.batches.append(list(instructions))
        self.threads.add(threading.current_thread().name)
        self.entered.release()
        if self.gate:
            assert self.gate.wait(PATIENCE)
        if "fail" in instructions:
            raise RuntimeError("the model broke\nat a secret place")
        if "memory" in instructions:
            raise torch.OutOfMemoryError("CUDA out of memory")
        ids = torch.full((len(instructions), options.max_new_tokens), MASK)
        for place in range(options.max_new_tokens):
            for row, instruction in enumerate(instructions):
                if instruction != "leave" or place != 1:
                    ids[row, place] = int(waveforms[row][0]) + place
            self.steps += 1
            passes = torch.full((len(instructions),), place + 1)
            yield Progress(ids.clone(), torch.zeros(ids.shape), passes)


@pytest.fixture
def stub():
    return StubModel()


@pytest.fixture
def make(stub):
    """Makes batchers, and ends them."""
    made = []

    def make(batch_size=4, max_queue=16, max_wait=0.0):
        made.append(Batcher(stub.decode, MASK, batch_size, max_queue, max_wait, Metrics()))
        return made[-1]

    yield make
    for batcher in made:
        if stub.gate:
            stub.gate.set()
        batcher.close()


def ask(batcher, instruction, number=0, options=OPTIONS, num_tokens=4):
    """A queued request, and the queue of what is delivered."""
    delivered = queue.Queue()
    request = GenerationRequest(np.full(3, number, dtype=np.float32), instruction, options, num_tokens)
    return batcher.submit(request, delivered.put), delivered


def answer(delivered):
    """The last of what is delivered."""
    while not isinstance(got := delivered.get(timeout=PATIENCE), ModelFailure) and not got.is_complete:
        pass
    return got


def hold(stub, batcher):
    """Keep the model's thread busy with a first question until `stub.gate` is set; returns what that one gets."""
    stub.gate = threading.Event()
    _, delivered = ask(batcher, "first")
    assert stub.entered.acquire(timeout=PATIENCE)
    return delivered


def test_waiting_questions_with_equal_options_are_one_batch_and_each_gets_its_own_answer(stub, make):
    batcher = make()
    first = hold(stub, batcher)
    waiting = [ask(batcher, f"q{n}", 10 * n, replace(OPTIONS))[1] for n in range(1, 4)]
    stub.gate.set()
    assert [answer(delivered).ids for delivered in waiting] == [(n, n + 1, n + 2, n + 3) for n in (10, 20, 30)]
    assert answer(first).ids == (0, 1, 2, 3)
    assert stub.batches == [["first"], ["q1", "q2", "q3"]]
    assert stub.threads == {"model"}


def test_other_options_are_another_batch_and_the_oldest_comes_first(stub, make):
    batcher = make()
    hold(stub, batcher)
    other = replace(OPTIONS, temperature=0.5, seed=1)
    asked = [ask(batcher, name, options=options)[1] for name, options in
             [("a", OPTIONS), ("x", other), ("b", OPTIONS), ("y", replace(other, seed=2)), ("z", other)]]  # fmt: skip
    stub.gate.set()
    for delivered in asked:
        answer(delivered)
    assert stub.batches[1:] == [["a", "b"], ["x", "z"], ["y"]]


def test_a_batch_holds_batch_size_questions_in_the_order_of_their_arrival(stub, make):
    batcher = make(batch_size=3)
    hold(stub, batcher)
    asked = [ask(batcher, f"q{n}")[1] for n in range(7)]
    stub.gate.set()
    for delivered in asked:
        answer(delivered)
    assert stub.batches[1:] == [["q0", "q1", "q2"], ["q3", "q4", "q5"], ["q6"]]


def test_a_question_waits_for_company_until_the_batch_is_full(stub, make):
    batcher = make(batch_size=2, max_wait=PATIENCE)
    _, first = ask(batcher, "a")
    time.sleep(0.05)
    assert stub.batches == []
    clock = time.monotonic()
    ask(batcher, "b")
    answer(first)
    assert stub.batches == [["a", "b"]]
    assert time.monotonic() - clock < PATIENCE / 2


def test_a_question_waits_for_company_no_longer_than_it_must(stub, make):
    batcher = make(max_wait=0.2)
    clock = time.monotonic()
    answer(ask(batcher, "alone")[1])
    assert 0.2 <= time.monotonic() - clock < PATIENCE / 2


def test_a_full_queue_takes_nothing_more_and_says_when_to_come_again(stub, make):
    batcher = make(batch_size=1, max_queue=2)
    hold(stub, batcher)
    batcher.batch_seconds = 7.4
    kept = [ask(batcher, name)[1] for name in "ab"]
    with pytest.raises(QueueFullError, match="the queue is full, with 2 waiting; try again in 7 s") as error:
        ask(batcher, "c")
    assert error.value.retry_after == 7
    stub.gate.set()
    assert all(answer(delivered).is_complete for delivered in kept)
    assert answer(ask(batcher, "d")[1]).is_complete
    assert stub.batches == [["first"], ["a"], ["b"], ["d"]]


def test_a_cancelled_question_is_not_asked_and_makes_room(stub, make):
    batcher = make(max_queue=2)
    hold(stub, batcher)
    gone, nothing = ask(batcher, "gone")
    _, kept = ask(batcher, "kept")
    batcher.cancel(gone)
    _, later = ask(batcher, "later")
    stub.gate.set()
    answer(kept), answer(later)
    assert stub.batches == [["first"], ["kept", "later"]]
    assert nothing.empty()


def test_a_batch_that_nobody_waits_for_any_more_is_given_up(stub, make):
    batcher = make()
    stub.gate = threading.Event()
    ticket, nothing = ask(batcher, "a")
    assert stub.entered.acquire(timeout=PATIENCE)
    batcher.cancel(ticket)
    stub.gate.set()
    batcher.close()
    assert stub.steps == 1
    assert nothing.empty()


def test_a_failure_costs_its_own_batch_alone_and_says_so_in_one_line(stub, make, caplog):
    batcher = make()
    hold(stub, batcher)
    failing = [ask(batcher, name)[1] for name in ("a", "fail")]
    other = ask(batcher, "b", options=replace(OPTIONS, steps=2))[1]
    stub.gate.set()
    expected = "the model failed on this request or on one answered with it (RuntimeError: the model broke)"
    assert [str(answer(delivered)) for delivered in failing] == [expected] * 2
    assert answer(other).is_complete
    assert "at a secret place" in caplog.text  # the log has all
    message = str(answer(ask(batcher, "memory")[1]))
    assert message == "out of memory with 1 at a time; start the server with a lower --batch_size"
    assert answer(ask(batcher, "after")[1]).is_complete


def test_blocks_are_delivered_when_they_are_finished(stub, make):
    _, delivered = ask(make(), "q", 5)
    assert delivered.get(timeout=PATIENCE) == AnswerPrefix((5, 6), 2, False)
    assert delivered.get(timeout=PATIENCE) == AnswerPrefix((5, 6, 7, 8), 4, True)
    time.sleep(0.05)
    assert delivered.empty()


def test_an_answer_that_keeps_a_mask_comes_whole_at_the_end(stub, make):
    _, delivered = ask(make(), "leave", 5)
    assert delivered.get(timeout=PATIENCE) == AnswerPrefix((5, MASK, 7, 8), 4, True)


def test_an_answer_is_complete_with_the_block_of_its_last_wanted_token(stub, make):
    batcher = make()
    _, delivered = ask(batcher, "q", 5, num_tokens=2)
    assert delivered.get(timeout=PATIENCE) == AnswerPrefix((5, 6), 2, True)
    batcher.close()
    assert stub.steps == 2  # nothing is computed for nobody


def test_closing_answers_what_waits_and_takes_nothing_more(stub, make):
    batcher = make(batch_size=1, max_wait=PATIENCE)
    hold(stub, batcher)
    waiting = [ask(batcher, name)[1] for name in "ab"]
    threading.Timer(0.1, stub.gate.set).start()
    clock = time.monotonic()
    batcher.close()
    assert time.monotonic() - clock < PATIENCE / 2  # waits for no company
    assert [answer(delivered).is_complete for delivered in waiting] == [True, True]
    with pytest.raises(ClosedError):
        ask(batcher, "c")


def test_the_figures(stub, make):
    batcher = make()
    hold(stub, batcher)
    for name in "abc":
        ask(batcher, name)
    read = batcher.metrics.registry.get_sample_value
    assert read("diffa_queue_depth") == 3
    stub.gate.set()
    batcher.close()
    assert read("diffa_queue_depth") == 0
    assert (read("diffa_batch_size_count"), read("diffa_batch_size_sum")) == (2, 4)
    assert read("diffa_batch_size_bucket", {"le": "2.0"}) == 1
    assert read("diffa_forward_passes_total") == 8  # two batches of four passes


def test_answers_of_the_model_are_those_it_gives_alone(model, clips):
    options = GenerationOptions.of_preset("fast", block_length=4, max_new_tokens=8)
    batcher = Batcher(model.decode, model.llm_model.config.mask_token_id, 3, 3, PATIENCE, Metrics())
    delivered = [queue.Queue() for _ in clips]
    for clip, box in zip(clips, delivered, strict=True):
        batcher.submit(GenerationRequest(clip, "What can you hear from the audio?", options, 8), box.put)
    answers = [answer(box) for box in delivered]
    batcher.close()
    for clip, got in zip(clips, answers, strict=True):
        alone = model.answer([clip], ["What can you hear from the audio?"], options)
        assert (list(got.ids), got.forward_passes) == (alone.ids[0].tolist(), alone.forward_passes[0])
    assert batcher.metrics.registry.get_sample_value("diffa_batch_size_sum") == 3


def waits_for_a_batch(num_requests: int) -> int:
    """How often the thread waits for the device while it delivers two blocks to each of so many requests."""
    stub = StubModel()

    def decode(*asked):
        for progress in stub.decode(*asked):
            parts = progress.answer_ids, progress.confidence, progress.forward_passes
            yield Progress(*(part.to(NAME) for part in parts))

    batcher, delivered = Batcher(decode, MASK, num_requests, num_requests, 0, Metrics()), queue.Queue()
    request = GenerationRequest(np.zeros(3, dtype=np.float32), "q", OPTIONS, 4)
    with simulated_device() as device:
        batcher.answer([QueuedRequest(request, delivered.put, 0.0) for _ in range(num_requests)])
        batcher.close()
        assert delivered.qsize() == 2 * num_requests
        return sum(not wait.endswith("to the device") for wait in device.waits)


def test_a_step_waits_twice_however_many_requests_are_answered(simulated):
    assert [simulated(waits_for_a_batch, num_requests) for num_requests in (1, 6)] == [2 * 4] * 2


def test_what_is_counted_comes_as_prometheus_reads_it():
    metrics, waiting = Metrics(), []
    metrics.watch_queue(lambda: len(waiting))
    waiting += ["a", "b"]
    metrics.requests.labels("200").inc()
    metrics.batch_size.observe(3)
    lines = metrics.text().decode().splitlines()
    for line in (
        "diffa_queue_depth 2.0",
        'diffa_requests_total{status="200"} 1.0',
        'diffa_batch_size_bucket{le="2.0"} 0.0',
        'diffa_batch_size_bucket{le="4.0"} 1.0',
        "diffa_batch_size_sum 3.0",
    ):
        assert line in lines


def test_two_servers_in_one_process_count_apart():
    one, other = Metrics(), Metrics()
    one.answer_tokens.inc(5)
    assert b"diffa_answer_tokens_total 5.0" in one.text() and b"diffa_answer_tokens_total 0.0" in other.text()
