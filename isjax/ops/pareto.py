"""The tail of importance weights: its Pareto shape, and weights smoothed by it."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from isjax.ops.weights import counted_weights, normalized_weights, relative_to_largest
from isjax.types import Flags

FEWEST_IN_TAIL = 5
"""With fewer weights above the threshold no tail is fitted."""
SMALLEST_EXCESS = math.exp(-60.0)
"""How far a weight of the tail lies above the threshold at least, relative to the largest weight."""


class ParetoSmoothed(NamedTuple):
    """Weights whose largest were replaced by quantiles of a fitted tail, and the shape of that tail."""

    log_weights: jax.Array
    """`[N]`, in the order they came in, relative to the largest of the raw ones."""
    k: jax.Array
    """The shape `k̂` of the tail, see `pareto_k`."""


def pareto_k(log_weights: jax.Array, *, where: Flags | None = None) -> jax.Array:
    """The shape `k̂` of the generalized Pareto distribution that fits the largest weights.

    Vehtari et al. 2024, https://arxiv.org/abs/1507.02646: above 0.7 an importance-weighted mean is not to
    be believed, at any sample size within reach; above 0.5 the variance of the weights is infinite.
    The tail is that of the `min(N / 5, 3 √N)` largest weights, fitted as by Zhang & Stephens 2009.

    Args:
      log_weights: `[N]`; only differences matter, and any finite values are fine.
      where: `[N]`, true for the samples that count.

    Returns:
      `k̂`. Infinity if there is too little to tell: fewer than 25 samples, or fewer than 5 weights above the
      tail's threshold, or an infinite weight. 0 where the largest weights are all equal, since such weights have
      no tail. NaN if one of them is.

    Raises:
      ValueError: `log_weights` is not `[N]`, or shapes differ.
      TypeError: `log_weights` is not floating, or `where` not boolean.

    >>> bool(pareto_k(jax.random.normal(jax.random.key(0), (1000,))) < 0.7)
    True
    """
    return pareto_smoothed(log_weights, where=where).k


@jax.jit
def pareto_smoothed(log_weights: jax.Array, *, where: Flags | None = None) -> ParetoSmoothed:
    """Pareto-smoothed weights: the largest become the quantiles of their fitted tail, at most the largest.

    Vehtari et al. 2024, https://arxiv.org/abs/1507.02646. Where no tail can be fitted, the
    weights stay as they are.

    The arguments and errors are those of `pareto_k`.

    >>> pareto_smoothed(jnp.array([1.0, 3.0])).log_weights
    Array([-2.,  0.], dtype=float32)
    """
    log_weights = counted_weights(log_weights, where)
    if log_weights.ndim != 1 or len(log_weights) == 0:
        raise ValueError(f"log_weights must be [N] with N ≥ 1, but its shape is {list(log_weights.shape)}.")
    can_tell = jnp.isfinite(jnp.max(log_weights))
    log_weights = relative_to_largest(log_weights, None)
    n = jnp.asarray(len(log_weights) if where is None else jnp.sum(where))
    is_enough = (n >= 5 * FEWEST_IN_TAIL) & can_tell
    # The tail's size depends on how many count, so it is cut out of an array of the largest size possible.
    places = _tail_size(len(log_weights))
    order = jnp.argsort(log_weights)
    threshold = log_weights[order[jnp.maximum(len(log_weights) - 1 - _tail_size(n), 0)]]
    order = order[len(log_weights) - places :]
    top = log_weights[order]
    size = jnp.sum(top > threshold)
    can_fit = is_enough & (size >= FEWEST_IN_TAIL)
    is_tail = (top > threshold) | ~can_fit
    k, smoothed = _smooth(top, threshold, is_tail)
    smoothed = log_weights.at[order].set(jnp.where(is_tail & can_fit, smoothed, top))
    k = jnp.where(can_fit, k, jnp.where(is_enough & (size == 0), 0.0, jnp.inf))
    return ParetoSmoothed(smoothed, jnp.where(jnp.any(jnp.isnan(log_weights)), jnp.nan, k))


def _tail_size(n: Any) -> Any:
    """`⌈min(n / 5, 3 √n)⌉`, of a number or an array."""
    if isinstance(n, int):
        return math.ceil(min(n / 5, 3 * math.sqrt(n)))
    return jnp.ceil(jnp.minimum(n / 5, 3 * jnp.sqrt(n))).astype(int)


def _smooth(top: jax.Array, threshold: jax.Array, is_tail: Flags) -> tuple[jax.Array, jax.Array]:
    """The tail's shape, and the logarithms of its quantiles in place of `top` `[M]`, in ascending order."""
    size = jnp.sum(is_tail)
    excess = jnp.maximum(jnp.exp(top) - jnp.exp(threshold), SMALLEST_EXCESS)
    k, sigma = _fit_tail(excess, is_tail)
    rank = jnp.maximum(jnp.arange(len(top)) - (len(top) - size), 0)
    survival = 1.0 - (rank + 0.5) / size
    quantile = jnp.exp(threshold) + sigma * jnp.expm1(-k * jnp.log(survival)) / k
    return k, jnp.minimum(jnp.log(quantile), 0.0)


def _fit_tail(excess: jax.Array, is_tail: Flags) -> tuple[jax.Array, jax.Array]:
    """Shape and scale of a generalized Pareto distribution: Zhang & Stephens 2009.

    The shape is drawn towards ½ with the weight of ten observations (Vehtari et al. 2024).
    """
    size = jnp.sum(is_tail)
    first = len(excess) - size
    quartile = excess[first + jnp.floor(size / 4 + 0.5).astype(int) - 1]
    points = 30 + jnp.floor(jnp.sqrt(size))
    point = jnp.arange(1, 31 + math.isqrt(len(excess)))
    b = 1.0 / excess[-1] + (1.0 - jnp.sqrt(points / (point - 0.5))) / (3.0 * quartile)

    def shape(b: jax.Array) -> jax.Array:
        return jnp.mean(jnp.log1p(-b[..., None] * excess[None]), -1, where=is_tail[None])

    # At b = 0 the distribution is exponential, and the likelihood 0 / 0.
    b = jnp.where(jnp.abs(b) * excess[-1] < 1e-5, 1e-5 / excess[-1], b)
    k = shape(b)
    log_likelihood = size * (jnp.log(-b / k) - k - 1.0)
    b = jnp.sum(b * normalized_weights(log_likelihood, where=point <= points))
    k = shape(b[None])[0]
    sigma = -k / b
    k = (size * k + 5.0) / (size + 10.0)
    return jnp.where(jnp.abs(k) < 1e-6, 1e-6, k), sigma
