"""Is the importance-weighted estimate to be believed? Answers from log-weights alone."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from isjax._checks import check_flags, check_same_shape, precise
from isjax.ops.ratios import MAX_LOG_RATIO
from isjax.ops.reduction import count_valid, mean_over_valid
from isjax.ops.weights import counted_weights, relative_to_largest
from isjax.types import Flags, Metrics, Scalar

_FACTORS = (1.01, 1.05, 1.1, 1.25, 1.5, 2.0, 4.0, 10.0, 100.0)
RATIO_EDGES = (*(1.0 / factor for factor in reversed(_FACTORS)), *_FACTORS)
"""Between the bins of `ratio_histogram`: from 1/100 to 100, the finer the nearer to 1."""


def effective_sample_size(
    log_weights: jax.Array, axis: int | tuple[int, ...] | None = 0, *, where: Flags | None = None
) -> jax.Array:
    """`(Σw)² / Σw²`: how many equally weighted samples these weights are worth (Kish 1965).

    Args:
      log_weights: any shape; only differences matter, and any finite values are fine.
      axis: the axis (or axes) over which samples lie; `None` for all.
      where: true for the samples that count, the shape of `log_weights`.

    Returns:
      Between 1 and the number of samples; 0 if every weight is zero or none counts. Infinite weights count alike,
      and no finite one beside them; NaN among the samples gives NaN.

    >>> effective_sample_size(jnp.array([1000.0, 1000.0, -1000.0]))
    Array(2., dtype=float32)
    """
    w = jnp.exp(relative_to_largest(counted_weights(log_weights, where), axis))
    squares = jnp.sum(w * w, axis)
    return jnp.sum(w, axis) ** 2 / jnp.where(squares == 0, 1.0, squares)


class KLEstimates(NamedTuple):
    """Estimates of `KL(μ‖π)` in nats from actions that μ took, an estimate per sample."""

    k1: jax.Array
    """`−ℓ`: unbiased; single samples may be negative."""
    k2: jax.Array
    """`ℓ² / 2`: biased, low variance, never negative."""
    k3: jax.Array
    """`exp(ℓ) − 1 − ℓ`: unbiased and never negative."""


def kl_estimates(log_rho: jax.Array) -> KLEstimates:
    """Three estimates per sample of `KL(μ‖π)`, the divergence of the policy that acted from the target.

    J. Schulman, "Approximating KL divergence", 2020, http://joschu.net/blog/kl-approx.html.

    Args:
      log_rho: any shape, `log π(a|s) − log μ(a|s)` for actions sampled from μ.

    Returns:
      `KLEstimates`, each of the shape of `log_rho`; average them. k3 saturates at `exp(80)`, and an infinite ratio
      counts as that.

    >>> kl_estimates(jnp.array([0.5])).k2
    Array([0.125], dtype=float32)
    """
    (log_rho,) = precise(log_rho=log_rho)
    log_rho = jnp.where(jnp.isposinf(log_rho), MAX_LOG_RATIO, log_rho)
    bounded = jnp.minimum(log_rho, MAX_LOG_RATIO)
    k3 = jnp.expm1(bounded) - bounded
    return KLEstimates(k1=-log_rho, k2=0.5 * log_rho**2, k3=k3)


def ratio_histogram(log_rho: jax.Array, *, is_valid: Flags | None = None) -> jax.Array:
    """How many ratios lie between neighboring `RATIO_EDGES`, below the lowest and above the highest.

    Args:
      log_rho: any shape, `log π(a|s) − log μ(a|s)`.
      is_valid: the shape of `log_rho`; false for padding, which does not count.

    Returns:
      `[len(RATIO_EDGES) + 1]`, shares that add up to 1, the smallest ratios first; an edge belongs to the bin below
      it, and a NaN to the lowest. All are 0 where nothing counts.

    >>> ratio_histogram(jnp.log(jnp.array([1.0, 1.0, 3.0, 1e9])))[-9:]
    Array([0.  , 0.  , 0.  , 0.  , 0.  , 0.25, 0.  , 0.  , 0.25], dtype=float32)
    """
    (log_rho,) = precise(log_rho=log_rho)
    if is_valid is not None:
        check_same_shape(log_rho=log_rho, is_valid=is_valid)
        check_flags(is_valid=is_valid)
    counts = jnp.ones_like(log_rho, bool) if is_valid is None else is_valid
    everything = jnp.sum(counts, dtype=jnp.int32)
    edges = jnp.log(jnp.asarray(RATIO_EDGES))
    above = jax.vmap(lambda edge: jnp.sum((log_rho > edge) & counts, dtype=jnp.int32))(edges)
    within = jnp.append(everything, above) - jnp.append(above, 0)  # whole numbers: a bin that is empty is 0
    histogram = (within / jnp.maximum(everything, 1)).astype(log_rho.dtype)
    return jnp.where(jnp.any(jnp.isnan(log_rho), where=counts), jnp.nan, histogram)


def ratio_diagnostics(
    log_rho: jax.Array, *, clip_rho: Scalar = 1.0, clip_c: Scalar = 1.0, is_valid: Flags | None = None
) -> Metrics:
    """What one wants to know about the ratios of a batch, all before clipping.

    Args:
      log_rho: any shape, `log π(a|s) − log μ(a|s)`.
      clip_rho: ρ̄, for the share of ratios above it.
      clip_c: c̄, likewise.
      is_valid: the shape of `log_rho`; false for padding, which does not count.

    Returns:
      Scalars: `mean`, `std`, `min`, `max` of ρ; `ess_fraction` in (0, 1], the effective sample size over
      the number of samples; `clipped_rho` and `clipped_c`, the shares above the bounds; `kl_k1` and
      `kl_k3`, estimates of `KL(μ‖π)` in nats. Ratios saturate at `exp(80)`.

    >>> sorted(ratio_diagnostics(jnp.zeros(3)))
    ['clipped_c', 'clipped_rho', 'ess_fraction', 'kl_k1', 'kl_k3', 'max', 'mean', 'min', 'std']
    """
    (log_rho,) = precise(log_rho=log_rho)
    if is_valid is not None:
        check_same_shape(log_rho=log_rho, is_valid=is_valid)
        check_flags(is_valid=is_valid)
    inside = log_rho if is_valid is None else jnp.where(is_valid, log_rho, 0.0)
    smallest = jnp.min(log_rho, initial=jnp.inf, where=is_valid)
    largest = jnp.max(log_rho, initial=-jnp.inf, where=is_valid)
    ess = effective_sample_size(log_rho, None, where=is_valid)
    # Relative to the largest: the sum of large ratios overflows float32, and that of small ones vanishes.
    reference = jnp.where(jnp.isneginf(largest), 0.0, jnp.minimum(largest, MAX_LOG_RATIO))
    relative = jnp.exp(jnp.minimum(inside, reference) - reference)
    relative_mean = mean_over_valid(relative, is_valid)
    relative_std = jnp.sqrt(mean_over_valid((relative - relative_mean) ** 2, is_valid))
    kl = kl_estimates(inside)
    return {
        "mean": jnp.exp(reference) * relative_mean,
        "std": jnp.exp(reference) * relative_std,
        "min": jnp.exp(jnp.minimum(smallest, MAX_LOG_RATIO)),
        "max": jnp.exp(jnp.minimum(largest, MAX_LOG_RATIO)),
        "ess_fraction": ess / count_valid(log_rho, is_valid),
        "clipped_rho": mean_over_valid(inside > jnp.log(clip_rho), is_valid),
        "clipped_c": mean_over_valid(inside > jnp.log(clip_c), is_valid),
        "kl_k1": mean_over_valid(kl.k1, is_valid),
        "kl_k3": mean_over_valid(kl.k3, is_valid),
    }
