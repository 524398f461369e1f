"""The whole distribution of the target policy's return: CDF, quantiles, CVaR and variance, with bands."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from isjax._checks import check_count, check_fraction
from isjax.errors import FieldError
from isjax.ope.episodes import Estimate, Log, count_episodes, estimate
from isjax.ope.influence import jackknifed
from isjax.ope.trajectory import linearized
from isjax.ops.weights import normalized_weights
from isjax.stats import Interval, check_level
from isjax.types import Flags, Key, Scalar, Series


class ReturnDistribution(NamedTuple):
    """The distribution of the return under the target policy, as a step function over the `N` returns seen."""

    returns: jax.Array
    """`[N]`, ascending; columns that are no episode come last, as infinity."""
    cdf: jax.Array
    """`[N]`, `F̂` at each of them: the share of the weight on returns up to it."""
    low: jax.Array
    """`[N]`, the lower end of the band."""
    high: jax.Array
    """`[N]`, the upper end."""

    def quantile(self, probability: Scalar) -> jax.Array:
        """The smallest return `x` with `F̂(x) ≥ probability`.

        >>> log_rho, r = jnp.zeros((1, 4)), jnp.array([[3.0, 1.0, 2.0, 4.0]])
        >>> return_distribution(log_rho, r, 1.0, key=jax.random.key(0)).quantile(0.5)
        Array(2., dtype=float32)
        """
        check_fraction(probability=probability)
        return _quantile(self.returns, self.cdf, probability)

    def quantile_interval(self, probability: Scalar) -> Interval:
        """What the band says of a quantile; infinite where it does not bound it."""
        check_fraction(probability=probability)
        lowest = jnp.where(self.high[0] >= probability, -jnp.inf, _quantile(self.returns, self.high, probability))
        highest = _quantile(self.returns, self.low, probability)
        return Interval(lowest, jnp.where(self.low[-1] >= probability, highest, jnp.inf))


def _quantile(returns: jax.Array, cdf: jax.Array, probability: Scalar) -> jax.Array:
    """Where a CDF at ascending returns first reaches a probability, but for rounding; 0 if there is no weight."""
    slack = 8 * jnp.finfo(cdf.dtype).eps
    x = returns[jnp.minimum(jnp.sum(cdf < probability - slack), len(returns) - 1)]
    return jnp.where(cdf[-1] > 0, x, 0.0)


def return_distribution(
    log_rho_tm1: Series,
    r_t: Series,
    discount: Scalar,
    is_valid_t: Flags | None = None,
    *,
    key: Key,
    level: float = 0.95,
    resamples: int = 1000,
) -> ReturnDistribution:
    """The distribution of the return, `F̂(x) = Σ_i w̄_i 1{G_i ≤ x}`, with a band that holds it as a whole.

    Chandak et al. 2021, https://arxiv.org/abs/2104.12820, eq. 4, with the weights of whole episodes, here
    self-normalized so that it ends at 1. The band is `F̂ ± c σ̂(x)` with σ̂ the bootstrap's spread and c such that
    the share `level` of resampled functions lie within it everywhere: simultaneous, in large samples.

    Args:
      log_rho_tm1: `[T, N]`, `log π(a|s) − log μ(a|s)`; `−inf` where the target policy never acts so.
      r_t: `[T, N]`, rewards.
      discount: γ in [0, 1], a scalar.
      is_valid_t: `[T, N]`, false for padding, which follows an episode and may hold anything.
      key: a typed key, `jax.random.key(seed)`, for the band.
      level: the coverage aimed at, in (0, 1).
      resamples: how many samples the band rests on.

    Returns:
      A `ReturnDistribution`.

    Raises:
      ValueError: the arrays are not all `[T, N]`, or an option is out of range.
      TypeError: an array is not floating, or `is_valid_t` is not boolean.

    >>> log_rho, r = jnp.zeros((1, 4)), jnp.array([[3.0, 1.0, 2.0, 4.0]])
    >>> return_distribution(log_rho, r, 1.0, key=jax.random.key(0)).cdf
    Array([0.25, 0.5 , 0.75, 1.  ], dtype=float32)
    """
    check_level(level)
    check_count(resamples=resamples)
    log = Log.checked(log_rho_tm1, r_t, discount, is_valid_t)
    order = jnp.argsort(_returns(log))
    returns = _returns(log)[order]
    weight = normalized_weights(log.log_weight)
    cdf = _summed(weight[order])

    episode, number = jnp.argsort(~log.is_episode), jnp.maximum(jnp.sum(log.is_episode), 1)

    def drawn(one: Key) -> jax.Array:
        index = episode[jax.random.randint(one, weight.shape, 0, number)]
        count = jnp.zeros_like(weight).at[index].add(1.0)
        total = jnp.sum(count * weight)
        return _summed((count * weight)[order] / jnp.where(total > 0, total, 1.0))

    functions = jax.lax.map(drawn, jax.random.split(key, resamples), batch_size=max(1, 2**22 // len(weight)))
    spread = jnp.std(functions, 0)
    deviation = jnp.abs(functions - cdf[None]) / jnp.where(spread > 0, spread, 1.0)[None]
    reach = jnp.quantile(jnp.max(deviation, 1), level) * spread
    return ReturnDistribution(returns, cdf, jnp.maximum(cdf - reach, 0.0), jnp.minimum(cdf + reach, 1.0))


def quantile_is(
    log_rho_tm1: Series,
    r_t: Series,
    discount: Scalar,
    is_valid_t: Flags | None = None,
    *,
    probability: float = 0.5,
) -> Estimate:
    """A quantile of the return: the smallest `x` at which the weight of returns up to it reaches `probability`.

    Chandak et al. 2021, section 4, from self-normalized weights. The standard error is that of the mean of
    `1{G ≤ x}` there over the density of returns (Serfling 1980, section 2.3.3), estimated from returns between
    neighboring quantiles; the bootstrap is the safer interval.

    `probability` lies in [0, 1]. The other arguments, the result and the errors are those of `weighted_is`.

    >>> quantile_is(jnp.zeros((1, 4)), jnp.array([[3.0, 1.0, 2.0, 4.0]]), 1.0, probability=0.75).value
    Array(3., dtype=float32)
    """
    check_fraction(probability=probability)
    log = Log.checked(log_rho_tm1, r_t, discount, is_valid_t)
    g = _returns(log)
    order = jnp.argsort(g)
    weight = normalized_weights(log.log_weight)
    returns, cdf = g[order], _summed(weight[order])
    x = _quantile(returns, cdf, probability)
    is_below = jnp.where(g <= x, 1.0, 0.0)
    below = linearized(weight, is_below, jnp.sum(weight * is_below), log.is_episode)
    spread = jnp.std(below, where=log.is_episode) / jnp.sqrt(count_episodes(log.is_episode, g))
    step = jnp.maximum(spread, 1.0 / len(g))
    ends = [_quantile(returns, cdf, jnp.clip(probability + sign * step, 0.0, 1.0)) for sign in (-1.0, 1.0)]
    slope = (ends[1] - ends[0]) / (2.0 * step)
    return estimate(x, x + slope * (probability - below), log.log_weight, log.is_episode)


def cvar_is(
    log_rho_tm1: Series,
    r_t: Series,
    discount: Scalar,
    is_valid_t: Flags | None = None,
    *,
    probability: float = 0.05,
) -> Estimate:
    """Conditional value at risk: the mean return of the worst share `probability` of episodes.

    `max_x x − E[(x − G)⁺] / p` (Rockafellar & Uryasev 2000), whose maximum lies at the p-quantile; from
    self-normalized weights (Chandak et al. 2021, section 4). At 1 it is `weighted_is`.

    `probability` lies in (0, 1]. The other arguments, the result and the errors are those of `weighted_is`.

    >>> cvar_is(jnp.zeros((1, 4)), jnp.array([[3.0, 1.0, 2.0, 4.0]]), 1.0, probability=0.5).value
    Array(1.5, dtype=float32)
    """
    if not 0.0 < probability <= 1.0:
        raise FieldError("probability", "above 0 and at most 1", probability)
    log = Log.checked(log_rho_tm1, r_t, discount, is_valid_t)
    g = _returns(log)
    order = jnp.argsort(g)
    weight = normalized_weights(log.log_weight)
    x = jax.lax.stop_gradient(_quantile(g[order], _summed(weight[order]), probability))
    shortfall = jnp.where(g < x, x - jnp.where(g < x, g, 0.0), 0.0)

    def value(count: jax.Array) -> jax.Array:
        return x - _mean(weight, count, shortfall) / probability

    return jackknifed(value, log.log_weight, log.is_episode)


def variance_is(log_rho_tm1: Series, r_t: Series, discount: Scalar, is_valid_t: Flags | None = None) -> Estimate:
    """The variance of the return under the target policy, `Σ_i w̄_i (G_i − Σ_j w̄_j G_j)²`.

    Chandak et al. 2021, section 4, from self-normalized weights, hence never negative. It is the spread of single
    returns, not the squared error of an estimate of their mean.

    The arguments, the result and the errors are those of `weighted_is`.

    >>> variance_is(jnp.zeros((1, 4)), jnp.array([[3.0, 1.0, 2.0, 4.0]]), 1.0).value
    Array(1.25, dtype=float32)
    """
    log = Log.checked(log_rho_tm1, r_t, discount, is_valid_t)
    weight = normalized_weights(log.log_weight)
    g = log.returns
    # About a constant near the mean, so that neither squares nor differences lose what matters.
    centered = jnp.where(weight > 0, g - jax.lax.stop_gradient(_mean(weight, jnp.ones_like(g), g)), 0.0)

    def value(count: jax.Array) -> jax.Array:
        return _mean(weight, count, centered**2) - _mean(weight, count, centered) ** 2

    return jackknifed(value, log.log_weight, log.is_episode)


def _returns(log: Log) -> jax.Array:
    """`[N]`, infinity for columns that are no episode: they are sorted behind all others."""
    return jnp.where(log.is_episode, log.returns, jnp.inf)


def _summed(weight: jax.Array) -> jax.Array:
    """The running sum of weights, which ends at exactly 1; zeros if there is no weight."""
    total = jnp.cumsum(weight)
    return total / jnp.where(total[-1] > 0, total[-1], 1.0)


def _mean(weight: jax.Array, count: jax.Array, x: jax.Array) -> jax.Array:
    """`Σ c w x / Σ c w`; 0 if there is no weight."""
    total = jnp.sum(count * weight)
    return jnp.sum(count * weight * jnp.where(weight > 0, x, 0.0)) / jnp.where(total > 0, total, 1.0)
