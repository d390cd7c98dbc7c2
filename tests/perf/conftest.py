from functools import partial

import pytest

from perf import measure


@pytest.fixture(autouse=True)
def _few_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's limit by a few small products: tests do not look at speed, and the real ones take seconds."""
    quick = partial(measure.matrix_product_limit, runs=2, size=256)
    monkeypatch.setattr(measure, "matrix_product_limit", quick)
