import asyncio
import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile

from serving.batching import Batcher, Metrics, ModelFailure, QueueFullError
from serving.protocol import RequestError, parse_form
from serving.transcriber import Transcriber
from serving.transcription import open_recording
from serving.validation import Service
from src.audio import read_windows
from src.prompts import ASR_PROMPT
from tests.serving.test_batching import StubModel, ask

PATIENCE = 10
SETTINGS = {"steps": 8, "block_length": 4, "max_new_tokens": 4}


def recording_of(seconds: float) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.random.default_rng(0).uniform(-0.1, 0.1, int(seconds * 8000)), 8000, format="WAV")
    return file.getvalue()


@pytest.fixture
def service(model):
    return Service(model, "diffa", "exact", SETTINGS, max_answer_tokens=4, max_seconds=600)


@pytest.fixture
def make(service):
    """Makes transcribers whose batchers are closed at the end."""
    made = []

    def make(decode, batch_size=2, max_queue=4):
        mask_id = service.model.llm_model.config.mask_token_id
        made.append(Batcher(decode, mask_id, batch_size, max_queue, 0, Metrics()))
        return Transcriber(service, made[-1], ThreadPoolExecutor(1))

    yield make
    for batcher in made:
        batcher.close()


def opened(service, seconds):
    return open_recording(parse_form({"model": "diffa"}), recording_of(seconds), service)


def test_every_window_says_what_the_model_says_of_it(model, service, make):
    recording = opened(service, 125)
    segments, warnings = asyncio.run(make(model.decode).transcribe(recording))
    assert [(segment.start, segment.end) for segment in segments] == [
        (0, 30),
        (30, 60),
        (60, 90),
        (90, 120),
        (120, 125),
    ]
    waveforms = [window.waveform for window in read_windows(recording_of(125), 30)]
    expected = model.generate(waveforms, [ASR_PROMPT] * 5, recording.options)
    assert [segment.text for segment in segments] == [text.strip() for text in expected]
    assert warnings == []


def test_a_full_queue_refuses_a_recording_and_makes_one_under_way_wait(service, make):
    stub = StubModel()
    stub.gate = threading.Event()
    transcriber = make(stub.decode, batch_size=1, max_queue=1)
    batcher = transcriber.batcher

    async def run():
        ask(batcher, "first")
        assert await asyncio.to_thread(stub.entered.acquire, timeout=PATIENCE)
        ask(batcher, "second")
        recording = opened(service, 65)
        with pytest.raises(QueueFullError):
            await transcriber.transcribe(recording)
        under_way = opened(service, 65)
        work = transcriber.answer(under_way, list(under_way.windows), patient=True)
        waiting = asyncio.create_task(work)
        await asyncio.sleep(0.05)
        assert len(batcher.waiting) == 1 and not waiting.done()
        stub.gate.set()
        return await asyncio.wait_for(waiting, PATIENCE)

    assert [answer.is_complete for answer in asyncio.run(run())] == [True] * 3


def test_nothing_more_is_computed_for_a_transcription_that_is_given_up(service, make):
    stub = StubModel()
    stub.gate = threading.Event()
    transcriber = make(stub.decode)

    async def run():
        work = asyncio.create_task(transcriber.transcribe(opened(service, 125)))
        assert await asyncio.to_thread(stub.entered.acquire, timeout=PATIENCE)
        work.cancel()
        await asyncio.wait({work})

    asyncio.run(run())
    assert not transcriber.batcher.waiting
    stub.gate.set()
    time.sleep(0.05)
    assert sum(map(len, stub.batches)) <= 2


def test_a_failing_model_and_damaged_audio_end_it(service, make):
    def fail(*_):
        raise RuntimeError("no such kernel")
        yield

    with pytest.raises(ModelFailure, match="no such kernel"):
        asyncio.run(make(fail).transcribe(opened(service, 1)))
    recording = open_recording(parse_form({"model": "diffa"}), recording_of(65)[:500_000], service)
    with pytest.raises(RequestError, match="the file is cut"):
        asyncio.run(make(service.model.decode, batch_size=8).transcribe(recording))
