"""Lower bounds of a policy's value, from one side: what it is worth at least, with a probability.

All of them take the weight and the return of each episode, and run in NumPy and float64. Those of Thomas et al. and of
Waudby-Smith et al. hold at any number of episodes, whatever the weights; the one of Kuzborskij et al. does as far as
the weights seen stand for those there are; that of empirical likelihood, Student's and the bootstrap's for many.
"""

from typing import Any

import jax
import numpy as np

from isjax.ope.episodes import Estimate
from isjax.ope.intervals import bootstrap_interval, student_interval
from isjax.stats import check_level
from isjax.types import Flags, Key, Scalar, Series

TUNING_SHARE = 20
"""Thomas et al. choose where to truncate on one of so many episodes."""
SIMULATIONS = 100
"""Sets of weights that the self-normalized bound draws."""
GRID = 1000
"""Values that a confidence sequence tries, between the lowest and the highest."""
ROWS_AT_ONCE = 2**12


def student_lower_bound(estimate: Estimate, *, level: float = 0.95) -> jax.Array:
    """Student's lower bound of any estimate: right for many episodes of moderate weights.

    Args:
      estimate: as any estimator of `isjax.ope` returns it.
      level: the probability aimed at that the value is not below, in [0.5, 1).

    Raises:
      ValueError: `level` is out of range.

    >>> x = jnp.ones(4)
    >>> round(float(student_lower_bound(Estimate(jnp.array(3.0), jnp.array(1.0), jnp.array(4.0), x, x > 0))), 2)
    0.65
    """
    return student_interval(estimate, level=_two_sided(level)).low


def bootstrap_lower_bound(
    key: Key,
    estimator: Any,
    log_rho_tm1: Series,
    r_t: Series,
    discount: Scalar,
    is_valid_t: Flags | None = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    method: str = "bca",
) -> jax.Array:
    """The bootstrap's lower bound of any estimate, by default BCa; see `bootstrap_interval` for the arguments.

    `level` is the probability aimed at that the value is not below, in [0.5, 1).

    >>> from isjax.ope import weighted_is
    >>> log_rho = jnp.zeros((1, 9)); r = jnp.arange(9.0)[None]
    >>> bool(0.0 < bootstrap_lower_bound(jax.random.key(0), weighted_is, log_rho, r, 1.0) < 4.0)
    True
    """
    options = {"level": _two_sided(level), "resamples": resamples, "method": method}
    return bootstrap_interval(key, estimator, log_rho_tm1, r_t, discount, is_valid_t, **options).low


def truncated_lower_bound(log_weight: Any, returns: Any, *, low: float, level: float = 0.95) -> float:
    """Truncation chosen on a part of the episodes, empirical Bernstein on the rest; for weights without a bound.

    Thomas, Theocharous & Ghavamzadeh 2015, "High confidence off-policy evaluation", theorem 1, with one threshold for
    all episodes: `w (G − low)` is not negative, and cutting it off only lowers its mean. Every 20th episode serves to
    choose the threshold.

    Args:
      log_weight: `[N]`, logarithms of the weights of whole episodes, `log ρ_{0:T−1}`; `−inf` is a weight of 0.
      returns: `[N]`, their discounted returns.
      low: the lowest return that is possible.
      level: the probability that the value is not below, in (0, 1).

    Returns:
      The bound, at least `low`.

    Raises:
      ValueError: shapes differ, there are fewer than 40 episodes, a return is below `low`, or `level` out of range.

    >>> truncated_lower_bound(np.zeros(2000), np.ones(2000), low=0.0) > 0.97
    True
    """
    weight, gain = _checked(log_weight, returns, low, None, level, fewest=2 * TUNING_SHARE)
    x = weight * gain
    is_tuning = np.arange(len(x)) % TUNING_SHARE == 0
    tuning, rest = x[is_tuning], x[~is_tuning]
    log_inverse = np.log(2.0 / (1.0 - level))

    def bound(x: np.ndarray, threshold: float, n: int) -> float:
        cut = np.minimum(x, threshold)
        spread = np.sqrt(2.0 * np.var(cut, ddof=1) * log_inverse / n)
        return float(np.mean(cut) - 7.0 * threshold * log_inverse / (3.0 * (n - 1)) - spread)

    positive = x[x > 0]
    if not len(positive):
        return low
    thresholds = np.geomspace(positive.min(), max(positive.max(), 2.0 * positive.min()), 200)
    best = max(thresholds, key=lambda threshold: bound(tuning, threshold, len(rest)))
    return low + max(bound(rest, best, len(rest)), 0.0)


def self_normalized_lower_bound(
    log_weight: Any, returns: Any, *, low: float, high: float, level: float = 0.95, seed: int = 0
) -> float:
    """The Efron–Stein lower bound of the weighted estimate: ESLB.

    Kuzborskij, Vernade, György & Szepesvári 2021, https://arxiv.org/abs/2006.10460, theorem 1, for episodes of one
    decision or more. What is expected there over the actions of the policy that acted is expected here over the weights
    of the log, from which sets are drawn anew: the guarantee is as good as these weights stand for all.

    Args:
      log_weight: `[N]`, logarithms of the weights of whole episodes.
      returns: `[N]`, their discounted returns.
      low: the lowest return that is possible.
      high: the highest.
      level: the probability that the value is not below, in (0, 1).
      seed: of the draws.

    Returns:
      The bound, at least `low`.

    Raises:
      ValueError: shapes differ, there are fewer than 2 episodes, a return is out of range, or `level` is.

    >>> 0.9 < self_normalized_lower_bound(np.zeros(9000), np.ones(9000), low=0.0, high=1.0) < 1.0
    True
    """
    weight, gain = _checked(log_weight, returns, low, high, level, fewest=2)
    n, x = len(weight), np.log(2.0 / (1.0 - level))
    if not weight.any():
        return low
    value = float(weight @ gain / weight.sum()) / (high - low)
    rng = np.random.default_rng(seed)
    before = np.cumsum(weight)
    term, expected, inverse = np.zeros(n), 0.0, 0.0
    for _ in range(SIMULATIONS):
        others, swapped = weight[rng.integers(n, size=n)], weight[rng.integers(n, size=n)]
        total = before + others.sum() - np.cumsum(others)  # Weights up to k are the log's, those beyond are drawn.
        term += _squared_influence(weight, swapped, total)
        expected += float(np.sum(_squared_influence(others, swapped, np.full(n, others.sum()))))
        inverse += n / max(float(others.sum()), 1e-300)
    variance, expected = float(term.sum()) / SIMULATIONS, expected / SIMULATIONS
    shrinkage = min(SIMULATIONS / inverse, 1.0)
    margin = np.sqrt(2.0 * (variance + expected) * (x + 0.5 * np.log1p(variance / expected)))
    return low + (high - low) * max(float(shrinkage * (value - margin) - np.sqrt(x / (2.0 * n))), 0.0)


def _squared_influence(weight: np.ndarray, swapped: np.ndarray, total: np.ndarray) -> np.ndarray:
    """How far the weighted mean may move if one weight is another, squared."""
    other = np.maximum(total - weight + swapped, 1e-300)
    return (weight / np.maximum(total, 1e-300) + swapped / other) ** 2


def empirical_likelihood_lower_bound(log_weight: Any, returns: Any, *, low: float, level: float = 0.95) -> float:
    """The lowest value that is plausible by empirical likelihood, given that weights are 1 in expectation.

    Karampatziakis, Langford & Mineiro 2020, https://arxiv.org/abs/1906.03323: the likelihood ratio of distributions
    over the episodes seen, with a mean weight of 1, against the quantile of χ² with one degree of freedom.

    Args:
      log_weight: `[N]`, logarithms of the weights of whole episodes; on both sides of 0.
      returns: `[N]`, their discounted returns.
      low: the lowest return that is possible.
      level: the probability aimed at that the value is not below, in [0.5, 1).

    Returns:
      The bound, at least `low`; `low` where no distribution over these episodes has a mean weight of 1.

    Raises:
      ValueError: shapes differ, there are fewer than 2 episodes, a return is below `low`, or `level` out of range.

    >>> log_weight = np.log(np.tile([0.5, 1.5], 500))
    >>> 0.9 < empirical_likelihood_lower_bound(log_weight, np.ones(1000), low=0.0) <= 1.0
    True
    """
    from scipy.special import chdtri

    weight, gain = _checked(log_weight, returns, low, None, level, fewest=2)
    limit = 0.5 * float(chdtri(1, 1.0 - _two_sided(level))) if level > 0.5 else 0.0
    excess, value_of = weight - 1.0, weight * gain
    if np.allclose(excess, 0.0):
        excess = np.zeros_like(excess)
    elif not excess.min() < 0.0 < excess.max():
        return low
    best, lagrangian = _log_likelihood_ratio(excess[:, None])
    likely = 1.0 / (len(weight) * (1.0 + excess * lagrangian[0]))
    low_end, high_end = 0.0, float(likely @ value_of / likely.sum())
    for _ in range(50):
        middle = 0.5 * (low_end + high_end)
        ratio = _log_likelihood_ratio(np.stack([excess, value_of - middle], 1))[0] - best
        low_end, high_end = (low_end, middle) if ratio <= limit else (middle, high_end)
    return low + float(low_end)


def _log_likelihood_ratio(z: np.ndarray) -> tuple[float, np.ndarray]:
    """`max_λ Σ log(1 + λᵀz_i)`, by Newton's method; the logarithm goes on as a parabola below `1/N` (Owen 2001)."""
    n = len(z)
    scale = np.maximum(np.max(np.abs(z), 0), 1e-300)
    z = z / scale
    x = np.zeros(z.shape[1])

    def parts(x: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        y = n * (1.0 + z @ x)
        is_small = y < 1.0
        safe = np.where(is_small, 1.0, y)
        value = np.where(is_small, -1.5 + 2.0 * y - 0.5 * y * y, np.log(safe)) - np.log(n)
        slope = n * np.where(is_small, 2.0 - y, 1.0 / safe)
        bend = n * n * np.where(is_small, 1.0, 1.0 / safe**2)
        return float(value.sum()), z.T @ slope, (z * bend[:, None]).T @ z

    value, slope, bend = parts(x)
    for _ in range(60):
        step = np.linalg.lstsq(bend, slope, rcond=None)[0]
        size = 1.0
        while size > 1e-10 and parts(x + size * step)[0] < value:
            size *= 0.5
        x = x + size * step
        before = value
        value, slope, bend = parts(x)
        if value - before <= 1e-12 * max(1.0, abs(value)):
            break
    return value, x / scale


def lower_confidence_sequence(
    log_weight: Any, returns: Any, *, low: float, high: float, level: float = 0.95
) -> np.ndarray:
    """Lower bounds after each episode that hold at all times at once: one may look as often as one likes.

    Waudby-Smith, Wu, Ramdas, Karampatziakis & Mineiro 2024, https://arxiv.org/abs/2210.10768: a bet against each value,
    `Π_i (1 + λ_i (w_i G_i − v))` with predictable `λ_i`, wins `1 / (1 − level)` times its stake in time where the value
    is too low, and with a probability of `level` never at the true one. Weights need no bound.

    Args:
      log_weight: `[N]`, logarithms of the weights of whole episodes, in the order in which they came.
      returns: `[N]`, their discounted returns.
      low: the lowest return that is possible.
      high: the highest.
      level: the probability that the value is never below, in (0, 1).

    Returns:
      `[N]`, never falling, at least `low`.

    Raises:
      ValueError: shapes differ, a return is out of range, or `level` is.

    >>> bounds = lower_confidence_sequence(np.zeros(500), np.ones(500), low=0.0, high=1.0)
    >>> bool(bounds[0] < 0.5 < bounds[-1] < 1.0)
    True
    """
    weight, gain = _checked(log_weight, returns, low, high, level, fewest=1)
    x = weight * gain / (high - low)
    n = len(x)
    t = np.arange(1, n + 1)
    mean = (0.5 + np.cumsum(x)) / (t + 1)
    variance = (0.25 + np.cumsum((x - mean) ** 2)) / (t + 1)
    variance = np.concatenate([[0.25], variance[:-1]])  # What was known before each bet.
    log_needed = np.log(1.0 / (1.0 - level))
    bet = np.sqrt(2.0 * log_needed / (variance * t * np.log1p(t)))
    grid = np.arange(1, GRID) / GRID
    wealth, is_excluded = np.zeros(GRID - 1), np.zeros(GRID - 1, bool)
    bounds = np.zeros(n)
    for first in range(0, n, ROWS_AT_ONCE):
        at = slice(first, first + ROWS_AT_ONCE)
        size = np.minimum(bet[at, None], 0.5 / grid)
        so_far = wealth + np.cumsum(np.log1p(size * (x[at, None] - grid)), 0)
        excluded = is_excluded | np.logical_or.accumulate(so_far >= log_needed, 0)
        bounds[at] = np.sum(np.logical_and.accumulate(excluded, 1), 1) / GRID
        wealth, is_excluded = so_far[-1], excluded[-1]
    return low + (high - low) * bounds


def _two_sided(level: float) -> float:
    """The level of an interval whose lower end has this one."""
    check_level(level)
    if not level > 0.5:
        raise ValueError(f"level must lie in (0.5, 1), but it is {level}.")
    return 2.0 * level - 1.0


def _checked(
    log_weight: Any, returns: Any, low: float, high: float | None, level: float, *, fewest: int
) -> tuple[np.ndarray, np.ndarray]:
    """Weights, and how far returns lie above the lowest."""
    check_level(level)
    log_weight, returns = np.asarray(log_weight, np.float64), np.asarray(returns, np.float64)
    if log_weight.ndim != 1 or log_weight.shape != returns.shape or len(returns) < fewest:
        shapes = f"log_weight {list(log_weight.shape)}, returns {list(returns.shape)}"
        raise ValueError(f"log_weight and returns must both be [N] with N ≥ {fewest}, but got: {shapes}.")
    if high is not None and not low < high:
        raise ValueError(f"low must be below high, but they are {low} and {high}.")
    above = np.inf if high is None else high
    if not np.all((returns >= low) & (returns <= above)):
        wrong = returns[~((returns >= low) & (returns <= above))][0]
        raise ValueError(f"returns must lie in [{low}, {above}], but one is {wrong}.")
    if np.any(np.isnan(log_weight)) or np.any(np.isposinf(log_weight)):
        raise ValueError("log_weight must hold finite numbers, or −inf for a weight of 0.")
    return np.exp(np.minimum(log_weight, 700.0)), returns - low
