"""What the estimators take and give: logged episodes `[T, N]`, and an estimate with its uncertainty."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from isjax._checks import check_flags, check_fraction, check_same_shape, series
from isjax.ops.diagnostics import effective_sample_size
from isjax.ops.ratios import product_of_ratios
from isjax.ops.reduction import count_valid, mean_over_valid
from isjax.ops.weights import log_sum_exp
from isjax.types import Flags, Scalar, Series


class Estimate(NamedTuple):
    """The value of a policy, estimated from `N` episodes."""

    value: jax.Array
    """`[]`."""
    standard_error: jax.Array
    """`[]`; infinity where nothing can be said: fewer than two episodes, or no weight on any."""
    effective_sample_size: jax.Array
    """`[]`, between 1 and N: Kish's, of the weights that the estimate gives to the episodes' rewards. 0 if
    every weight is zero."""
    per_episode: jax.Array
    """`[N]`: what each episode contributes. Their mean is the value, their spread its standard error; for a
    self-normalized estimate they are the linearization (its influence values plus the value)."""
    is_episode: Flags
    """`[N]`: false for a column without a single valid step, which does not count."""
    log_weight: jax.Array | None = None
    """`[N]`: logarithms, up to a constant for self-normalized estimates, of the weights behind the effective
    sample size; `−inf` for a weight of zero."""
    log_step_weight_t: jax.Array | None = None
    """`[T, N]`: the same of each step, by estimators whose weights are not products of ratios."""


class Episodes(NamedTuple):
    """Logged episodes, `[T, N]` each; the first, second and last argument of an estimator."""

    log_rho_tm1: Series
    r_t: Series
    is_valid_t: Flags


class Log(NamedTuple):
    """Episodes that were checked, as the estimators see them."""

    log_product_t: Series
    """`log ρ_{0:t}`; past its end an episode keeps the product it ended with."""
    r_t: Series
    """Zero past the end, and behind a discount of 0."""
    log_discount_t: Series
    """`[T, 1]`, `t log γ`; 0 in the first step even if γ is 0."""
    is_valid_t: Flags
    is_episode: Flags
    """`[N]`."""

    @classmethod
    def checked(cls, log_rho_tm1: Series, r_t: Series, discount: Scalar, is_valid_t: Flags | None) -> "Log":
        """Raises what the estimators promise to raise."""
        log_rho_tm1, r_t, valid_t = episodes(log_rho_tm1, r_t, discount, is_valid_t)
        t = jnp.arange(len(r_t), dtype=r_t.dtype)[:, None]
        log_discount_t = jnp.where(t == 0, 0.0, t * safe_log(jnp.asarray(discount, r_t.dtype)))
        log = cls(product_of_ratios(log_rho_tm1, valid_t), r_t, log_discount_t, valid_t, jnp.any(valid_t, 0))
        return log._replace(r_t=log.counted(r_t))

    def counted(self, x_t: Series) -> Series:
        """`x_t`, but 0 in steps that a discount of 0 silences, whatever stands there."""
        return jnp.where(jnp.isneginf(self.log_discount_t), 0.0, x_t)

    @property
    def discount_t(self) -> Series:
        """`[T, 1]`, `γ^t`."""
        return jnp.exp(self.log_discount_t)

    @property
    def returns(self) -> jax.Array:
        """`[N]`, `Σ_t γ^t r_{t+1}`."""
        return jnp.sum(self.discount_t * self.r_t, 0)

    @property
    def log_weight(self) -> jax.Array:
        """`[N]`, `log ρ_{0:T−1}` of each whole episode; `−inf` for a column that is none."""
        return jnp.where(self.is_episode, self.log_product_t[-1], -jnp.inf)

    def mean_over_steps(self, log_weight_t: Series) -> jax.Array:
        """`[N]`, logarithm of the mean of weights `[T, N]` over all discounted steps that some episode reaches."""
        counts = self.is_episode[None] & jnp.any(self.is_valid_t, 1, keepdims=True)
        log_share_t = jnp.broadcast_to(jnp.where(counts, self.log_discount_t, -jnp.inf), log_weight_t.shape)
        log_length = jnp.max(log_sum_exp(log_share_t, 0))
        weight = log_sum_exp(jnp.where(counts, log_weight_t + self.log_discount_t, -jnp.inf), 0)
        return weight - jnp.where(jnp.isneginf(log_length), 0.0, log_length)

    @property
    def log_row_weight_t(self) -> Series:
        """`log γ^t ρ_{0:t}`; `−inf` in columns that are no episode and in steps that all episodes ended before."""
        counts = self.is_episode[None] & jnp.any(self.is_valid_t, 1, keepdims=True)
        return jnp.where(counts, self.log_product_t + self.log_discount_t, -jnp.inf)


def episodes(log_rho_tm1: Series, r_t: Series, discount: Scalar, is_valid_t: Flags | None) -> Episodes:
    """The arrays in full precision, with zeros for padding.

    Raises:
      ValueError: the arrays are not all `[T, N]`, or the discount is not a number in [0, 1].
      TypeError: an array is not floating, or `is_valid_t` is not boolean.
    """
    log_rho_tm1, r_t = series(log_rho_tm1=log_rho_tm1, r_t=r_t, is_valid_t=is_valid_t)
    if log_rho_tm1.ndim != 2 or log_rho_tm1.shape[1] == 0:
        raise ValueError(f"log_rho_tm1 must be [T, N] with N ≥ 1, but its shape is {list(log_rho_tm1.shape)}.")
    if jnp.ndim(discount) != 0:
        raise ValueError(f"discount must be a scalar, but its shape is {list(jnp.shape(discount))}.")
    check_fraction(discount=discount)
    if isinstance(discount, float) and discount < 1 and log_rho_tm1.dtype.type(discount) == 1:
        rule = "discount must be 1, or far enough from it for float32 (jax_enable_x64 gives float64)"
        raise ValueError(f"{rule}, but it is {discount!r}.")
    return Episodes(log_rho_tm1, r_t, jnp.ones_like(r_t, bool) if is_valid_t is None else jnp.asarray(is_valid_t))


def count_episodes(is_episode: Flags, like: jax.Array) -> jax.Array:
    """How many episodes there are, at least 1, in the precision of `like`."""
    return count_valid(is_episode, is_episode).astype(like.dtype)


def safe_log(x: jax.Array) -> jax.Array:
    """The logarithm, `−inf` at 0 with a gradient of 0 there."""
    return jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 1.0)), -jnp.inf)


def weighted(weight: jax.Array, x: jax.Array) -> jax.Array:
    """`weight · x`, and 0 where the weight is 0, even if `x` is infinite or no number there."""
    return weight * jnp.where(weight != 0, x, 0.0)


def mean_estimate(per_episode: jax.Array, log_weights: jax.Array, is_episode: Flags) -> Estimate:
    """The estimate that is a plain mean over episodes.

    Args:
      per_episode: `[N]`.
      log_weights: `[N]`, logarithms of the weights that the rewards of each episode got.
      is_episode: `[N]`.
    """
    # Relative to the largest: the sum of large products overflows float32 before any of them does.
    scale = jax.lax.stop_gradient(jnp.max(jnp.abs(per_episode), initial=0.0, where=is_episode))
    scale = jnp.where(scale > 0, scale, 1.0)
    value = scale * mean_over_valid(per_episode / scale, is_episode)
    return estimate(value, per_episode, log_weights, is_episode)


def estimate(value: jax.Array, per_episode: jax.Array, log_weights: jax.Array, is_episode: Flags) -> Estimate:
    """The estimate with the standard error that the spread of `per_episode` `[N]` implies."""
    n = count_episodes(is_episode, per_episode)
    ess = effective_sample_size(log_weights, where=is_episode)
    per_episode = jnp.where(is_episode, per_episode, 0.0)
    deviation = jnp.where(is_episode, per_episode - value, 0.0)
    scale = jax.lax.stop_gradient(jnp.max(jnp.abs(deviation)))
    scale = jnp.where(scale > 0, scale, 1.0)
    variance = jnp.sum((deviation / scale) ** 2) / (n * jnp.maximum(n - 1.0, 1.0))
    spread = jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1.0)), 0.0)
    standard_error = jnp.where((n > 1) & (ess > 0), scale * spread, jnp.inf)
    log_weights = jnp.where(is_episode, log_weights, -jnp.inf)
    return Estimate(value, standard_error, ess, per_episode, is_episode, log_weights)


def from_visits(
    is_visit_t: Flags,
    log_rho_tm1: Series,
    r_t: Series,
    is_valid_t: Flags | None = None,
    *,
    every: bool = False,
    size: int | None = None,
) -> Episodes:
    """What follows each visit to a state, as episodes of their own: any estimator then gives that state's value.

    Sutton & Barto 2018, section 5.5: weights run from the visit on, and the estimate averages over visits,
    the set 𝒯(s). Every-visit episodes overlap, which the standard error of the estimate does not know.

    Args:
      is_visit_t: `[T, N]`, true where a step starts from the state in question.
      log_rho_tm1: `[T, N]`, `log π(a|s) − log μ(a|s)`.
      r_t: `[T, N]`, rewards.
      is_valid_t: `[T, N]`, false for padding.
      every: every visit, not only the first of each episode.
      size: how many columns the result has; visits beyond are left out. By default enough for all: `N`, or
        `T · N` for every visit.

    Returns:
      `Episodes`, `[T, size]` each; columns without a visit hold no valid step, and do not count.

    Raises:
      ValueError: the arrays are not all `[T, N]`.
      TypeError: an array is not floating, or a flag is not boolean.

    >>> flag = jnp.array([[False], [True], [True]])
    >>> from_visits(flag, jnp.ones((3, 1)), jnp.array([[1.0], [2.0], [3.0]])).r_t.T
    Array([[2., 3., 0.]], dtype=float32)
    """
    log_rho_tm1, r_t, valid_t = episodes(log_rho_tm1, r_t, 1.0, is_valid_t)
    check_same_shape(is_visit_t=is_visit_t, r_t=r_t)
    check_flags(is_visit_t=is_visit_t)
    rows, columns = r_t.shape
    row = jnp.arange(rows)[:, None]
    is_start_t = is_visit_t & valid_t
    if not every:
        is_start_t = is_start_t & (row == jnp.argmax(is_start_t, 0)[None])
    size = (rows * columns if every else columns) if size is None else size
    if size < 1:
        raise ValueError(f"size must be at least 1, but it is {size}.")
    start, column = jnp.nonzero(is_start_t, size=size, fill_value=rows)
    index, column = row + start[None], jnp.minimum(column, columns - 1)[None]
    at = (jnp.minimum(index, rows - 1), column)
    valid_t = (index < rows) & valid_t[at]
    return Episodes(jnp.where(valid_t, log_rho_tm1[at], 0.0), jnp.where(valid_t, r_t[at], 0.0), valid_t)


def n_step_episodes(
    log_rho_tm1: Series,
    r_t: Series,
    discount: Scalar,
    is_valid_t: Flags | None = None,
    *,
    n: int,
    v_t: Series | None = None,
) -> Episodes:
    """The first `n` steps of each episode, with a value standing in for the rest: n-step estimates.

    The n-th reward becomes `r + γ V(s_n)` (Sutton & Barto 2018, eq. 7.9 for the first state of an episode).

    Args:
      log_rho_tm1: `[T, N]`, `log π(a|s) − log μ(a|s)`.
      r_t: `[T, N]`, rewards.
      discount: γ in [0, 1], the one that the estimator is given.
      is_valid_t: `[T, N]`, false for padding.
      n: how many steps to keep, at least 1.
      v_t: `[T, N]`, values of the states reached, 0 for a terminal state; left out, the return is cut.

    Returns:
      `Episodes`, `[min(n, T), N]` each.

    Raises:
      ValueError: the arrays are not all `[T, N]`, or an option is out of range.
      TypeError: an array is not floating, or a flag is not boolean.

    >>> x = jnp.ones((3, 1))
    >>> n_step_episodes(x, x, 0.5, n=2, v_t=4.0 * x).r_t.T
    Array([[1., 3.]], dtype=float32)
    """
    if not isinstance(n, int) or n < 1:
        raise ValueError(f"n must be at least 1, a whole number, but it is {n}.")
    log_rho_tm1, r_t, valid_t = episodes(log_rho_tm1, r_t, discount, is_valid_t)
    if v_t is not None and n <= len(r_t):
        check_same_shape(v_t=v_t, r_t=r_t)
        (v_t,) = series(v_t=v_t, is_valid_t=valid_t)
        r_t = r_t.at[n - 1].add(weighted(jnp.asarray(discount, r_t.dtype), v_t[n - 1]))
    return Episodes(log_rho_tm1[:n], r_t[:n], valid_t[:n])
