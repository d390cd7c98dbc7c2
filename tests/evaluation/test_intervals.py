import numpy as np
import pytest

from evaluation.intervals import mcnemar, mean_interval, rate_interval, wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # worked out by hand from Wilson's formula; the first two also stand in textbooks
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (50, 100, 0.4038, 0.5962), (0, 0, 0, 1)],
)
def test_wilson(successes, n, low, high):
    assert wilson(successes, n) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # the 2.5 % and 97.5 % points of the binomial distribution, from tables: 14 and 26 of 40, 40 and 60 of 100
    [(20, 40, 0.35, 0.65), (50, 100, 0.40, 0.60), (1, 2, 0.0, 1.0)],
)
def test_rates_are_binomial(successes, n, low, high):
    assert rate_interval(successes, n) == pytest.approx((low, high), abs=0.011)
    assert rate_interval(successes, n) == rate_interval(successes, n)


@pytest.mark.parametrize(("successes", "n"), [(0, 7), (7, 7), (0, 0)])
def test_all_or_none_right_is_not_certainty(successes, n):
    assert rate_interval(successes, n) == wilson(successes, n)
    low, high = rate_interval(successes, n)
    assert high - low > 0.3


def test_means_agree_with_resampling_item_by_item():
    rng = np.random.default_rng(7)
    values, weights = rng.integers(0, 5, 60), rng.integers(1, 20, 60)
    chosen = rng.integers(60, size=(20_000, 60))
    for got, samples in (
        (mean_interval(values), values[chosen].mean(axis=1)),
        (mean_interval(values, weights), values[chosen].sum(axis=1) / weights[chosen].sum(axis=1)),
    ):
        expected = np.percentile(samples, [2.5, 97.5])
        assert got == pytest.approx(tuple(expected), abs=0.03 * (expected[1] - expected[0]))


def test_means_do_not_depend_on_the_order_and_know_rates():
    ratings = [1, 5, 3, 3, 4.5] * 8
    assert mean_interval(ratings) == mean_interval(sorted(ratings))
    assert mean_interval([1, 0] * 200) == pytest.approx(rate_interval(200, 400), abs=0.005)
    assert mean_interval([2, 2, 2], [4, 4, 4]) == (0.5, 0.5)
    assert mean_interval([2, 0], [0, 0]) == (0.0, 0.0)  # no words at all: no rate


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    # sums of binomial coefficients by hand: 2 (1 + 10) / 2^10; 2 / 2^5; and two exact tails of 30 tosses
    [(1, 9, 22 / 1024), (0, 5, 2 / 32), (10, 20, 0.09874), (5, 25, 0.0003249), (4, 4, 1.0), (0, 0, 1.0)],
)
def test_mcnemar(only_first, only_second, p):
    assert mcnemar(only_first, only_second) == pytest.approx(p, rel=1e-3)
    assert mcnemar(only_second, only_first) == mcnemar(only_first, only_second)


def test_mcnemar_of_thousands():
    assert mcnemar(2000, 2000) == 1.0
    assert mcnemar(2000, 2200) == pytest.approx(0.002127, rel=0.01)  # normal with continuity: z = 199 / sqrt(4200)
