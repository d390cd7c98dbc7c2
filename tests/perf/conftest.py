from functools import partial

import pytest

from perf import decoding, measure


@pytest.fixture(autouse=True)
def _few_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's limit by a few small products: tests do not look at speed, and the real ones take seconds."""
    quick = partial(measure.matrix_product_limit, runs=2, size=256)
    monkeypatch.setattr(measure, "matrix_product_limit", quick)


@pytest.fixture
def small_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--whisper tiny` is a still smaller one, of as many layers: its work is most of a table's."""
    monkeypatch.setitem(decoding.WHISPER_SHAPES, "tiny", (64, 4, 2))
