"""Importance weights as a whole: normalized, how concentrated they are, and their second moment."""

import jax
import jax.numpy as jnp

from isjax._checks import check_flags, check_same_shape, precise
from isjax.types import Flags

Axis = int | tuple[int, ...] | None


def normalized_weights(log_weights: jax.Array, axis: Axis = 0, *, where: Flags | None = None) -> jax.Array:
    """`w / Σw`, finite for any finite log-weights; all zeros where every weight is zero.

    Args:
      log_weights: any shape; only differences matter; `−inf` is a weight of zero. Infinite weights share 1 equally.
      axis: the axis (or axes) over which samples lie; `None` for all.
      where: true for the samples that count, the shape of `log_weights`; the others weigh 0.

    Returns:
      The shape of `log_weights`, summing to 1 (or to 0) over `axis`.

    Raises:
      ValueError: shapes differ.
      TypeError: `log_weights` is not floating, or `where` not boolean.

    >>> normalized_weights(jnp.array([5000.0, 5000.0, -5000.0]))
    Array([0.5, 0.5, 0. ], dtype=float32)
    """
    w = jnp.exp(relative_to_largest(counted_weights(log_weights, where), axis))
    total = jnp.sum(w, axis, keepdims=True)
    return w / jnp.where(total == 0, 1.0, total)


def perplexity(log_weights: jax.Array, axis: Axis = 0, *, where: Flags | None = None) -> jax.Array:
    """`exp(−Σ w̄ log w̄)` of the normalized weights: an effective sample size by entropy.

    Martino, Elvira & Louzada 2017, https://arxiv.org/abs/1602.03572.

    Returns:
      Between 1 and the number of samples; 0 if every weight is zero or none counts.

    The arguments and errors are those of `normalized_weights`.

    >>> perplexity(jnp.array([0.0, 0.0, -jnp.inf]))
    Array(2., dtype=float32)
    """
    w = normalized_weights(log_weights, axis, where=where)
    entropy = -jnp.sum(w * jnp.log(jnp.where(w == 0, 1.0, w)), axis)
    return jnp.where(jnp.all(w == 0, axis), 0.0, jnp.exp(entropy))


def largest_share(log_weights: jax.Array, axis: Axis = 0, *, where: Flags | None = None) -> jax.Array:
    """The largest of the normalized weights; its inverse is an effective sample size too.

    Returns:
      Between 1/N and 1; 0 if every weight is zero or none counts.

    The arguments and errors are those of `normalized_weights`.

    >>> largest_share(jnp.array([0.0, 0.0, -jnp.inf]))
    Array(0.5, dtype=float32)
    """
    return jnp.max(normalized_weights(log_weights, axis, where=where), axis, initial=0.0)


def renyi_2(log_pi: jax.Array, log_mu: jax.Array, axis: Axis = -1) -> jax.Array:
    """Rényi divergence of order 2, `D₂(π‖μ) = log Σ_a π(a)² / μ(a) = log E_μ[ρ²]`, in nats.

    Cortes, Mansour & Mohri 2010. Its exponential is the second moment of the ratios, so that of `N`
    samples about `N exp(−D₂)` are effective.

    Args:
      log_pi: log-probabilities of all actions under the target policy, any shape.
      log_mu: the same under the behavior policy.
      axis: the axis (or axes) along which the actions lie; `None` for all.

    Returns:
      At least 0; infinity where μ excludes an action that π takes.

    Raises:
      ValueError: shapes differ.
      TypeError: an array is not floating.

    >>> renyi_2(jnp.log(jnp.array([1.0, 0.0])), jnp.log(jnp.array([0.5, 0.5])))
    Array(0.6931472, dtype=float32)
    """
    check_same_shape(log_pi=log_pi, log_mu=log_mu)
    log_pi, log_mu = precise(log_pi=log_pi, log_mu=log_mu)
    never = jnp.isneginf(log_pi)
    terms = jnp.where(never, -jnp.inf, 2.0 * jnp.where(never, 0.0, log_pi) - jnp.where(never, 0.0, log_mu))
    return log_sum_exp(terms, axis)


def renyi_2_estimate(log_rho: jax.Array, axis: Axis = 0, *, where: Flags | None = None) -> jax.Array:
    """The same from samples of μ: `log` of the mean of `ρ²`, without overflow.

    Cortes, Mansour & Mohri 2010. Heavy tails make it too small; `pareto_k` tells when.

    Args:
      log_rho: any shape, `log π(a|s) − log μ(a|s)` for actions sampled from μ.
      axis: the axis (or axes) over which samples lie; `None` for all.
      where: true for the samples that count, the shape of `log_rho`.

    >>> renyi_2_estimate(jnp.array([500.0, 500.0]))
    Array(1000., dtype=float32)
    """
    log_rho = counted_weights(log_rho, where)
    counts = jnp.ones_like(log_rho) if where is None else where.astype(log_rho.dtype)
    return log_sum_exp(2.0 * log_rho, axis) - jnp.log(jnp.maximum(jnp.sum(counts, axis), 1.0))


def chi_square(renyi_2: jax.Array) -> jax.Array:
    """`χ²(π‖μ) = exp(D₂) − 1`, the variance of the ratios, from a Rényi divergence of order 2.

    Van Erven & Harremoës 2014, https://arxiv.org/abs/1206.2459, section I.

    Args:
      renyi_2: D₂ in nats, as `renyi_2` or `renyi_2_estimate` gives it; any shape.

    >>> chi_square(jnp.log(jnp.array([3.0])))
    Array([2.], dtype=float32)
    """
    return jnp.expm1(renyi_2)


def gaussian_renyi_2(mean_pi: jax.Array, std_pi: jax.Array, mean_mu: jax.Array, std_mu: jax.Array) -> jax.Array:
    """Rényi divergence of order 2 of two normal distributions, `D₂(π‖μ)`, in closed form and in nats.

    Gil, Alajaji & Linder 2013. Two of unit width a gap δ apart give `δ²`: the effective sample
    size falls as `exp(−δ²)`. Independent dimensions add up.

    Args:
      mean_pi: any shape.
      std_pi: the same shape, above 0.
      mean_mu: the same shape.
      std_mu: the same shape, above 0.

    Returns:
      The shape of the arguments; infinity where `std_pi ≥ √2 std_mu`: the ratios' variance is infinite.

    Raises:
      ValueError: shapes differ.
      TypeError: an array is not floating.

    >>> gaussian_renyi_2(jnp.array(2.0), jnp.array(1.0), jnp.array(0.0), jnp.array(1.0))
    Array(4., dtype=float32)
    """
    check_same_shape(mean_pi=mean_pi, std_pi=std_pi, mean_mu=mean_mu, std_mu=std_mu)
    mean_pi, std_pi, mean_mu, std_mu = precise(mean_pi=mean_pi, std_pi=std_pi, mean_mu=mean_mu, std_mu=std_mu)
    variance = 2.0 * std_mu**2 - std_pi**2
    safe = jnp.where(variance > 0, variance, 1.0)
    divergence = (mean_pi - mean_mu) ** 2 / safe + 2.0 * jnp.log(std_mu) - jnp.log(std_pi) - 0.5 * jnp.log(safe)
    return jnp.where(variance > 0, divergence, jnp.inf)


def log_sum_exp(x: jax.Array, axis: Axis) -> jax.Array:
    """`log Σ exp(x)`; `−inf`, with a gradient of zero, where every term is."""
    largest = _largest(x, axis)
    total = jnp.sum(jnp.exp(relative_to_largest(x, axis)), axis)
    return jnp.where(total == 0, -jnp.inf, jnp.log(jnp.where(total == 0, 1.0, total))) + jnp.squeeze(largest, axis)


def relative_to_largest(log_weights: jax.Array, axis: Axis) -> jax.Array:
    """Log-weights less the largest, which is a constant to gradients: at most 0, and `−inf` where every weight is zero.

    Beside infinite weights, which count alike, all others are zero. NaN stays NaN.
    """
    largest = _largest(log_weights, axis)
    of_infinity = jnp.where(jnp.isposinf(log_weights), 0.0, -jnp.inf)
    return jnp.where(jnp.isposinf(largest), of_infinity, log_weights - jnp.where(jnp.isinf(largest), 0.0, largest))


def _largest(x: jax.Array, axis: Axis) -> jax.Array:
    """The largest of each, a constant to gradients; `−inf` where there is none."""
    return jax.lax.stop_gradient(jnp.max(x, axis, keepdims=True, initial=-jnp.inf))


def counted_weights(log_weights: jax.Array, where: Flags | None) -> jax.Array:
    """The log-weights, with weight zero for samples that do not count."""
    (log_weights,) = precise(log_weights=log_weights)
    check_same_shape(log_weights=log_weights, where=where)
    check_flags(where=where)
    return log_weights if where is None else jnp.where(where, log_weights, -jnp.inf)
