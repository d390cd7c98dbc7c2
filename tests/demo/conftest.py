"""The miniature's data, tiny, made once."""

import json
from pathlib import Path

import pytest

from demo import make_data

CLIPS, ITEMS = 30, 4


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make_data` writes; tests only read it."""
    folder = tmp_path_factory.mktemp("data")
    make_data.make_data(folder, seed=3, clips=CLIPS, items=ITEMS)
    return folder


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]
