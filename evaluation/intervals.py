"""The uncertainty of a score: bootstrap and Wilson intervals at 95 %, and McNemar's test of two runs.

The bootstrap (Efron 1979) draws as many items as there are, with replacement, again and again, and takes the 2.5th and
97.5th percentiles of the score. It is seeded for each score anew: an interval depends on its own items alone, not on
their order, nor on what else is scored.
"""

from collections.abc import Sequence

import numpy as np

RESAMPLES, SEED = 5000, 0


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % confidence interval of a proportion (Wilson 1927); unlike the normal one it holds near 0 and 1."""
    from scipy.stats import binomtest  # takes a second to import, and few scores need it

    if n == 0:
        return (0.0, 1.0)
    interval = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    return (float(interval.low), float(interval.high))


def rate_interval(successes: int, n: int) -> tuple[float, float]:
    """95 % bootstrap interval of a proportion.

    The successes among n items drawn with replacement are binomial, so they are drawn as such. Where all items
    succeed, or none, every resample is the same and the bootstrap would claim certainty: Wilson's interval stands in.
    """
    if successes in (0, n):
        return wilson(successes, n)
    rates = np.random.default_rng(SEED).binomial(n, successes / n, RESAMPLES) / n
    return _percentiles(rates)


def mean_interval(values: Sequence[float], weights: Sequence[float] | None = None) -> tuple[float, float]:
    """95 % bootstrap interval of sum(values) / sum(weights) over items; without weights, of the mean.

    So a mean rating is `mean_interval(ratings)`, a word error rate `mean_interval(errors, words)`, and the difference
    of two runs on the same items `mean_interval(ours - theirs)`, item by item, which makes it a paired bootstrap.
    Equal items give an interval of no width. Resamples without weight (no words at all) are left out.
    """
    weights = np.ones(len(values)) if weights is None else weights
    items = np.column_stack((values, weights)).astype(float)  # [n, 2]
    # A resample is told by how often each kind of item is in it, and there are far fewer kinds than items.
    kinds, counts = np.unique(items, axis=0, return_counts=True)  # [K, 2], [K]
    rng, shares = np.random.default_rng(SEED), counts / counts.sum()
    draws = [rng.multinomial(len(items), shares, size=100) @ kinds for _ in range(RESAMPLES // 100)]
    sums = np.concatenate(draws)  # [RESAMPLES, 2]
    sums = sums[sums[:, 1] > 0]
    return _percentiles(sums[:, 0] / sums[:, 1]) if len(sums) else (0.0, 0.0)


def outcome_interval(outcomes: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of outcomes that are right (1), wrong (0), or the chance of a lot."""
    if all(outcome in (0, 1) for outcome in outcomes):
        return rate_interval(int(sum(outcomes)), len(outcomes))
    return mean_interval(outcomes)


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p of McNemar's test (1947): how likely a split at least as uneven is if neither run is better.

    Args:
        only_first, only_second: items that only the one run got right; those that both or neither did tell nothing.
    """
    from scipy.stats import binomtest

    n = only_first + only_second
    return float(binomtest(only_first, n).pvalue) if n else 1.0


def _percentiles(samples: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(samples, [2.5, 97.5])
    return float(low), float(high)
