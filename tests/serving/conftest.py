"""A server in this process, with a model that obeys."""

import socket
import threading

import pytest
import torch
import uvicorn

from serve import Server
from serving.batching import Batcher, Metrics
from serving.routes import Api
from serving.validation import Service
from src.llm_generate import Progress
from tests.serving.test_validation import DEFAULTS

PATIENCE = 10  # seconds until a test that waits has failed


class ObedientModel:
    """Answers a block of end tokens; then waits for `gate`; then raises `failure`, or ends the answer."""

    def __init__(self, model):
        self.config = model.llm_model.config
        self.gate, self.failure = threading.Event(), None
        self.gate.set()

    def decode(self, waveforms, instructions, options):
        ids = torch.full((len(waveforms), options.max_new_tokens), self.config.mask_token_id)
        ids[:, : options.block_length] = self.config.eos_token_id
        yield Progress(ids, torch.zeros(ids.shape), torch.ones(len(ids)))
        assert self.gate.wait(PATIENCE)
        if self.failure:
            raise self.failure
        ids = torch.full_like(ids, self.config.eos_token_id)
        yield Progress(ids, torch.zeros(ids.shape), torch.full((len(ids),), 2))


@pytest.fixture
def obedient(model):
    return ObedientModel(model)


@pytest.fixture
def origins():
    return []


@pytest.fixture
def api(model, obedient, origins):
    metrics = Metrics()
    batcher = Batcher(obedient.decode, model.llm_model.config.mask_token_id, 1, 4, 0, metrics)
    yield Api(Service(model, "diffa", "exact", DEFAULTS, 64, 60), batcher, metrics, "", 2**20, origins)
    obedient.gate.set()
    batcher.close()


@pytest.fixture
def address(api):
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(uvicorn.Config(api, log_level="critical"), api)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.handle_exit(15, None)
    thread.join(PATIENCE)
    assert not thread.is_alive()
