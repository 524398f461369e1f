"""Density ratios that are linear in features, in closed form."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from isjax._checks import precise
from isjax.errors import FieldError
from isjax.ope.episodes import Estimate, Log, safe_log, weighted
from isjax.ope.influence import jackknifed
from isjax.ope.stationary import cut_rows
from isjax.ops.ratios import clipped_ratio
from isjax.types import Flags, Scalar, Series


class LinearRatio(NamedTuple):
    """A density ratio that is linear in features."""

    ratio_tm1: Series
    """`[T, N]`, `d^π_γ(s) / d^μ(s)` for the state that each row starts from, as a linear function: it may be negative.
    0 in padding and in rows that were cut."""
    coefficients: jax.Array
    """`[K]`."""


def linear_density_ratio(
    log_rho_tm1: Series,
    discount: Scalar,
    feature_tm1: jax.Array,
    is_valid_t: Flags | None = None,
    *,
    truncated_t: Flags | None = None,
    ridge: float = 0.0,
) -> LinearRatio:
    """The ratio of discounted visits under π to visits in the log, linear in features: `w(s) = φ(s)^T θ`.

    `θ` solves `E_μ[w(s) (φ(s) − γ ρ φ(s'))] = (1 − γ) E[φ(s_0)]`, the Galerkin form of the fixed point of `d^π_γ`:
    what DualDICE (Nachum et al. 2019, https://arxiv.org/abs/1906.04733), GenDICE and minimax weight learning
    (Uehara, Huang & Jiang 2020, https://arxiv.org/abs/1910.12809, section 4) come to for linear functions. With one
    feature a state it is the exact ratio of the empirical process.

    Args:
      log_rho_tm1: `[T, N]`, `log π(a|s) − log μ(a|s)`; `−inf` where the target policy never acts so.
      discount: γ in [0, 1).
      feature_tm1: `[T, N, K]`, φ of the state that each row starts from, with a constant among them if the ratio is
        to have one.
      is_valid_t: `[T, N]`, false for padding, which follows an episode and may hold anything.
      truncated_t: `[T, N]`, true where an episode was cut: such a last row does not count. Left out, every episode
        ended in a terminal state, whose features count as zeros.
      ridge: added to the diagonal of the system, as a share of its mean size; 0 gives the solution of least norm.

    Returns:
      A `LinearRatio`.

    Raises:
      ValueError: shapes do not fit, or an option is out of range.
      TypeError: an array is not floating, or a flag is not boolean.

    >>> one = jnp.ones((1, 2)); found = linear_density_ratio(0.0 * one, 0.5, one[..., None])
    >>> found.coefficients
    Array([0.5], dtype=float32)
    """
    zeros = jnp.zeros_like(log_rho_tm1)
    log = Log.checked(log_rho_tm1, zeros, discount, is_valid_t)
    rows = _linear_rows(log, log_rho_tm1, discount, feature_tm1, truncated_t, ridge)
    theta = _coefficients(rows, log.is_episode.astype(log.r_t.dtype))
    return LinearRatio(jnp.where(rows.counts_t, rows.feature_tm1 @ theta, 0.0), theta)


def linear_stationary_is(
    log_rho_tm1: Series,
    r_t: Series,
    discount: Scalar,
    feature_tm1: jax.Array,
    is_valid_t: Flags | None = None,
    *,
    truncated_t: Flags | None = None,
    ridge: float = 0.0,
) -> Estimate:
    """The value `E_μ[w(s) ρ r] / (1 − γ)` with the linear ratio of `linear_density_ratio`: LSTD's, seen from states.

    `feature_tm1` is `[T, N, K]`. The arguments and errors are those of `linear_density_ratio`, with rewards `r_t`.

    Returns:
      An `Estimate` of the value of the episodes' first states under the target policy, with the standard error of the
      infinitesimal jackknife.

    >>> one = jnp.ones((1, 2))
    >>> linear_stationary_is(0.0 * one, one, 0.5, one[..., None]).value
    Array(1., dtype=float32)
    """
    log = Log.checked(log_rho_tm1, r_t, discount, is_valid_t)
    rows = _linear_rows(log, log_rho_tm1, discount, feature_tm1, truncated_t, ridge)

    def value(count: jax.Array) -> jax.Array:
        ratio_tm1 = rows.feature_tm1 @ _coefficients(rows, count)
        total = jnp.sum(rows.counts_t * count[None])
        terms = jnp.where(rows.counts_t, ratio_tm1 * weighted(rows.rho_tm1, log.r_t), 0.0) * count[None]
        return jnp.sum(terms) / jnp.maximum(total, 1.0) / (1.0 - rows.discount)

    count = log.is_episode.astype(log.r_t.dtype)
    ratio_tm1 = jnp.maximum(rows.feature_tm1 @ _coefficients(rows, count), 0.0)
    weights = jnp.sum(jnp.where(rows.counts_t, ratio_tm1 * rows.rho_tm1, 0.0), 0)
    return jackknifed(value, safe_log(weights), log.is_episode)


class _LinearRows(NamedTuple):
    feature_tm1: jax.Array
    """`[T, N, K]`, zeros in rows that do not count."""
    difference_t: jax.Array
    """`[T, N, K]`, `φ(s) − γ ρ φ(s')`, likewise."""
    rho_tm1: Series
    counts_t: Flags
    discount: jax.Array
    start: jax.Array
    """`[N, K]`, features of first states."""
    ridge: float


def _linear_rows(
    log: Log, log_rho_tm1: Series, discount: Scalar, feature_tm1: jax.Array, truncated_t: Flags | None, ridge: float
) -> _LinearRows:
    if not 0.0 <= ridge < float("inf"):
        raise FieldError("ridge", "finite and at least 0", ridge)
    if isinstance(discount, int | float) and discount >= 1:
        raise FieldError("discount", "below 1 for a stationary estimate", discount)
    (feature_tm1,) = precise(feature_tm1=feature_tm1)
    if feature_tm1.ndim != 3 or feature_tm1.shape[:2] != log.r_t.shape:
        raise ValueError(
            f"feature_tm1 must be [T, N, K], but its shape is {list(feature_tm1.shape)} where [T, N] is "
            f"{list(log.r_t.shape)}."
        )
    valid = log.is_valid_t[..., None]
    feature_tm1 = jnp.where(valid, feature_tm1, 0.0)
    following = jnp.concatenate([feature_tm1[1:], jnp.zeros_like(feature_tm1[:1])])
    log_rho_tm1 = jnp.where(log.is_valid_t, jnp.asarray(log_rho_tm1, log.r_t.dtype), 0.0)
    rho_tm1 = clipped_ratio(log_rho_tm1, jnp.inf)
    counts_t = log.is_valid_t & ~cut_rows(log, truncated_t)
    gamma = jnp.asarray(discount, log.r_t.dtype)
    difference_t = jnp.where(counts_t[..., None], feature_tm1 - gamma * rho_tm1[..., None] * following, 0.0)
    return _LinearRows(
        jnp.where(counts_t[..., None], feature_tm1, 0.0), difference_t, rho_tm1, counts_t, gamma, feature_tm1[0], ridge
    )


def _coefficients(rows: _LinearRows, count: jax.Array) -> jax.Array:
    """θ `[K]`, where episode i is there `count[i]` times."""
    total = jnp.maximum(jnp.sum(rows.counts_t * count[None]), 1.0)
    matrix = jnp.einsum("tnj,tnk,n->jk", rows.difference_t, rows.feature_tm1, count) / total
    start = (1.0 - rows.discount) * (count @ rows.start) / jnp.maximum(jnp.sum(count), 1.0)
    if rows.ridge > 0:
        size = jnp.mean(jnp.abs(jnp.diagonal(matrix)))
        return jnp.linalg.solve(matrix + rows.ridge * size * jnp.eye(len(start), dtype=start.dtype), start)
    return jnp.linalg.pinv(matrix) @ start
