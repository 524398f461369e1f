"""Confidence intervals of an estimate: normal, Student, bootstrap and empirical Bernstein."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import betainc, ndtri

from isjax import stats
from isjax._checks import check_same_shape
from isjax.ope.episodes import Estimate, count_episodes, episodes
from isjax.stats import Interval, check_level
from isjax.types import Flags, Key, Scalar, Series

LARGE_DEGREES = 30.0
BISECTIONS = 60


def normal_interval(estimate: Estimate, *, level: float = 0.95) -> Interval:
    """The value ± a normal quantile of standard errors: right for many episodes of moderate weights.

    Args:
      estimate: as any estimator of `isjax.ope` returns it.
      level: the coverage aimed at, in (0, 1).

    Returns:
      `Interval(low, high)`; infinite where the standard error is.

    Raises:
      ValueError: `level` is out of range.

    >>> x = jnp.ones(4)
    >>> estimate = Estimate(jnp.array(3.0), jnp.array(1.0), jnp.array(4.0), x, x > 0)
    >>> [round(float(end), 2) for end in normal_interval(estimate)]
    [1.04, 4.96]
    """
    check_level(level)
    margin = -ndtri(0.5 - 0.5 * level) * estimate.standard_error
    return Interval(estimate.value - margin, estimate.value + margin)


def student_interval(estimate: Estimate, *, level: float = 0.95) -> Interval:
    """The value ± a quantile of Student's t with N − 1 degrees of freedom: wider where episodes are few.

    The arguments, the result and the errors are those of `normal_interval`.

    >>> x = jnp.ones(4)
    >>> estimate = Estimate(jnp.array(3.0), jnp.array(1.0), jnp.array(4.0), x, x > 0)
    >>> [round(float(end), 2) for end in student_interval(estimate)]
    [-0.18, 6.18]
    """
    check_level(level)
    n = count_episodes(estimate.is_episode, estimate.value)
    margin = student_quantile(level, jnp.maximum(n - 1.0, 1.0)) * estimate.standard_error
    return Interval(estimate.value - margin, estimate.value + margin)


def empirical_bernstein_interval(estimate: Estimate, *, low: Scalar, high: Scalar, level: float = 0.95) -> Interval:
    """An interval that holds at any number of episodes, for contributions known to lie in a range.

    Maurer & Pontil 2009, https://arxiv.org/abs/0907.3740, theorem 4, once for each side. It is for estimates
    that are plain means (ordinary, per-decision, discounting-aware, doubly robust; truncated ones with a
    `clip` set beforehand, around their own expectation), whose `per_episode` the range has to contain.

    Args:
      estimate: the estimate.
      low: the least that an episode can contribute, for example 0.
      high: the most, for example the largest weight times the largest return.
      level: the coverage guaranteed, in (0, 1).

    Returns:
      `Interval(low, high)`, within the range.

    Raises:
      ValueError: `level` is out of range, or `low` and `high` are numbers in the wrong order.

    >>> estimate = Estimate(jnp.array(0.5), jnp.array(0.0), jnp.array(99.0), jnp.ones(701), jnp.ones(701, bool))
    >>> [round(float(end), 3) for end in empirical_bernstein_interval(estimate, low=0.0, high=1.0)]
    [0.485, 0.515]
    """
    check_level(level)
    if isinstance(low, int | float) and isinstance(high, int | float) and not low < high:
        raise ValueError(f"low must be below high, but they are {low} and {high}.")
    n = count_episodes(estimate.is_episode, estimate.value)
    log_inverse = jnp.log(4.0 / (1.0 - level))
    margin = estimate.standard_error * jnp.sqrt(2.0 * log_inverse)
    margin = margin + 7.0 * (high - low) * log_inverse / (3.0 * jnp.maximum(n - 1.0, 1.0))
    return Interval(jnp.maximum(estimate.value - margin, low), jnp.minimum(estimate.value + margin, high))


def bootstrap_interval(
    key: Key,
    estimator: Callable[..., Estimate],
    log_rho_tm1: Series,
    r_t: Series,
    discount: Scalar,
    is_valid_t: Flags | None = None,
    *,
    v_tm1: Series | None = None,
    q_tm1: Series | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    method: str = "bca",
) -> Interval:
    """A bootstrap interval: whole episodes are drawn anew, with replacement, and estimated from again.

    See `isjax.stats.bootstrap_interval`. It asks for no formula of a standard error, and self-normalized
    estimates keep their bounds. Heavy-tailed weights still make it too short, as they do every interval.

    Args:
      key: a typed key, `jax.random.key(seed)`.
      estimator: any estimator of `isjax.ope`; one with options as a lambda or `functools.partial`.
      log_rho_tm1: `[T, N]`, and so on: what the estimator takes.
      r_t: `[T, N]`.
      discount: γ in [0, 1].
      is_valid_t: `[T, N]`.
      v_tm1: `[T, N]`, for an estimator that takes a model.
      q_tm1: `[T, N]`, likewise.
      level: the coverage aimed at, in (0, 1).
      resamples: how many samples are drawn.
      method: "percentile", or "bca": corrected for bias and skewness, at the cost of `N` more estimates.

    Returns:
      `Interval(low, high)`.

    Raises:
      ValueError: an argument is out of range or of the wrong shape; `key` is not a single typed key.
      TypeError: an array is not floating, or `is_valid_t` is not boolean.

    >>> from isjax.ope import weighted_is
    >>> log_rho = jnp.zeros((1, 9)); r = jnp.arange(9.0)[None]
    >>> low, high = bootstrap_interval(jax.random.key(0), weighted_is, log_rho, r, 1.0)
    >>> bool(0.0 < low < 4.0 < high < 8.0)
    True
    """
    check_same_shape(r_t=r_t, v_tm1=v_tm1, q_tm1=q_tm1)
    log = episodes(log_rho_tm1, r_t, discount, is_valid_t)
    if method == "bca" and log.r_t.shape[1] < 2:
        raise ValueError(f"method 'bca' needs at least 2 episodes, but r_t is {list(log.r_t.shape)}.")
    model = {name: x.T for name, x in (("v_tm1", v_tm1), ("q_tm1", q_tm1)) if x is not None}

    def value(sample):
        by_name = {name: x.T for name, x in sample[1].items()}
        log_rho, r, valid = (x.T for x in sample[0])
        return estimator(log_rho, r, discount, valid, **by_name).value

    by_episode = (tuple(x.T for x in log), model)
    return stats.bootstrap_interval(key, by_episode, value, level=level, resamples=resamples, method=method)


def student_quantile(level: float, degrees: jax.Array) -> jax.Array:
    """The t with `P(|T| ≤ t) = level`; within 1e-4 of itself in float32.

    For few degrees of freedom by bisection of the distribution function; for many by the expansion of
    Abramowitz & Stegun 1964, eq. 26.7.5.
    """
    z = -ndtri(jnp.asarray(0.5 - 0.5 * level, degrees.dtype))  # The upper tail would round to 1.
    terms = (
        (z**3 + z) / 4.0,
        (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0,
        (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0,
    )
    many = z + sum(term / degrees**power for power, term in enumerate(terms, 1))
    few = jnp.minimum(degrees, LARGE_DEGREES)

    def halve(_: jax.Array, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        too_low = betainc(0.5 * few, jnp.full_like(few, 0.5), middle) < 1.0 - level
        return jnp.where(too_low, middle, low), jnp.where(too_low, high, middle)

    # With y = ν / (ν + t²), P(|T| > t) is the incomplete beta function of y, ν/2 and ½.
    y = jax.lax.fori_loop(0, BISECTIONS, halve, (jnp.zeros_like(few), jnp.ones_like(few)))[1]
    return jnp.where(degrees > LARGE_DEGREES, many, jnp.sqrt(few * (1.0 - y) / y))
