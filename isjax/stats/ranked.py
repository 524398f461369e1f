"""Bootstrap intervals in NumPy, from how often a resample holds each number.

`bootstrap_interval` draws anew and sorts anew for every resample, and is compiled for every number of learners; a page
has hundreds of intervals, of runs whose dead have left them with different numbers. Here all numbers are sorted once.
"""

from typing import NamedTuple

import numpy as np

from isjax.stats.draws import generated_counts
from isjax.stats.summaries import middle_weights

RESAMPLES = 2000
NUMBERS_AT_ONCE = 2**22
"""Counts, 32 MiB of them: many learners are resampled less often."""
TAILS = (0.025, 0.975)


class Improvement(NamedTuple):
    """`probability_of_improvement` with its 95 % bootstrap interval."""

    probability: float
    low: float
    high: float


def improvement(generator: np.random.Generator, x: np.ndarray, y: np.ndarray) -> Improvement:
    """How likely one of `x` `[N]` is above one of `y` `[K]`, ties counting half; `x` and `y` are drawn apart."""
    y = np.sort(y)
    below, up_to = np.searchsorted(y, x, side="left"), np.searchsorted(y, x, side="right")

    def share(counts_x: np.ndarray, counts_y: np.ndarray) -> np.ndarray:
        passed = np.pad(np.cumsum(counts_y, axis=-1), ((0, 0), (1, 0)))
        return (counts_x * (passed[:, below] + passed[:, up_to])).sum(axis=-1) / (2 * len(x) * len(y))

    resamples = _resamples(len(x) + len(y))
    drawn = share(*(generated_counts(generator, len(each), resamples) for each in (x, y)))
    low, high = np.quantile(drawn, TAILS)
    observed = share(np.ones((1, len(x)), int), np.ones((1, len(y)), int))[0]
    return Improvement(float(observed), float(low), float(high))


def interquartile_band(generator: np.random.Generator, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Interquartile means of `x` `[N, U]` over `N`, and 95 % bootstrap intervals, each `[U]`.

    The intervals are those of `bootstrap_interval` point by point: how often a resample holds the smallest number, the
    second smallest and so on does not depend on the numbers, so that one draw of ranks serves all points.
    """
    ranked = np.sort(x.astype(float), axis=0)
    n = len(ranked)
    drawn = generated_counts(generator, n, _resamples(n))
    low, high = np.quantile(middle_weights(drawn) @ ranked, TAILS, axis=0)
    return middle_weights(np.ones((1, n), int))[0] @ ranked, low, high


def _resamples(numbers: int) -> int:
    return max(100, min(RESAMPLES, NUMBERS_AT_ONCE // numbers))
