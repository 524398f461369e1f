"""Estimators that weigh whole returns: ordinary, weighted, truncated and discounting-aware."""

import jax
import jax.numpy as jnp
import numpy as np

from isjax._checks import check_positive
from isjax.ope.episodes import Estimate, Log, count_episodes, estimate, mean_estimate, safe_log, weighted
from isjax.ope.estimator import Estimator, Family
from isjax.ope.on_host import on_host
from isjax.ope.resampling import Part, Ratios, Sample, Truncated, mean_over_episodes, one_ratio, relative_weights
from isjax.ops.ratios import clipped_ratio
from isjax.ops.recurrence import backward_affine
from isjax.ops.weights import log_sum_exp, normalized_weights
from isjax.types import Flags, Scalar, Series


def ordinary_is(log_rho_tm1: Series, r_t: Series, discount: Scalar, is_valid_t: Flags | None = None) -> Estimate:
    """Ordinary importance sampling, `(1/N) Σ_i ρ_{i,0:T−1} G_i`: unbiased, with possibly infinite variance.

    Sutton & Barto 2018, eq. 5.5. The weights of whole episodes saturate at `exp(80)`: beyond it the value
    is too small, yet finite while returns stay below 6,000; an effective sample size of about 1 tells.

    Args:
      log_rho_tm1: `[T, N]`, `log π(a|s) − log μ(a|s)`; `−inf` where the target policy never acts so.
      r_t: `[T, N]`, rewards.
      discount: γ in [0, 1], a scalar.
      is_valid_t: `[T, N]`, false for padding, which follows an episode and may hold anything. A column
        without a valid step is no episode and does not count.

    Returns:
      An `Estimate` of the value of the episodes' first states under the target policy; 0 if every weight
      is zero.

    Raises:
      ValueError: the arrays are not all `[T, N]`, or the discount is not a number in [0, 1].
      TypeError: an array is not floating, or `is_valid_t` is not boolean.

    >>> log_rho = jnp.log(jnp.array([[2.0, 0.5], [1.0, 1.0]])); r = jnp.array([[1.0, 1.0], [1.0, 3.0]])
    >>> ordinary_is(log_rho, r, 1.0).value
    Array(3., dtype=float32)
    """
    log = Log.checked(log_rho_tm1, r_t, discount, is_valid_t)
    return _mean_of_weighted_returns(log, log.log_weight)


def weighted_is(log_rho_tm1: Series, r_t: Series, discount: Scalar, is_valid_t: Flags | None = None) -> Estimate:
    """Weighted importance sampling, `Σ_i ρ_i G_i / Σ_i ρ_i`: biased, consistent, within the returns seen.

    Sutton & Barto 2018, eq. 5.6; standard error by the delta method. Finite for any finite log-ratios; one
    constant added to all weights' logarithms changes nothing. One episode alone gives its own return.

    The arguments, the result and the errors are those of `ordinary_is`.

    >>> log_rho = jnp.log(jnp.array([[2.0, 0.5], [1.0, 1.0]])); r = jnp.array([[1.0, 1.0], [1.0, 3.5]])
    >>> weighted_is(log_rho, r, 1.0).value
    Array(2.5, dtype=float32)
    """
    log = Log.checked(log_rho_tm1, r_t, discount, is_valid_t)
    return ratio_estimate(normalized_weights(log.log_weight), log.returns, log)


def _resampled_ratio(sample: Sample) -> list[Part]:
    weight = relative_weights(np.asarray(sample.log.log_weight)[None])
    return [Ratios(np.ones(1), weight * _returns(sample.log), weight)]


def truncated_is(
    log_rho_tm1: Series,
    r_t: Series,
    discount: Scalar,
    is_valid_t: Flags | None = None,
    *,
    clip: Scalar | None = None,
) -> Estimate:
    """Truncated importance sampling, `(1/N) Σ_i min(ρ_i, τ) G_i`: biased, of finite variance.

    Ionides 2008, https://doi.org/10.1198/106186008X320456. `clip` is τ > 0; by default it is `√N` times the
    mean weight, which makes the estimate consistent. Truncated weights saturate as in `ordinary_is`.

    The other arguments, the result and the errors are those of `ordinary_is`.

    >>> log_rho = jnp.log(jnp.array([[8.0, 0.5]])); r = jnp.ones((1, 2))
    >>> truncated_is(log_rho, r, 1.0, clip=3.5).value
    Array(2., dtype=float32)
    """
    check_positive(clip=clip)
    log = Log.checked(log_rho_tm1, r_t, discount, is_valid_t)
    if clip is None:
        # √N · mean(ρ) is Σρ / √N.
        log_clip = log_sum_exp(log.log_weight, 0) - 0.5 * jnp.log(count_episodes(log.is_episode, log.r_t))
    else:
        log_clip = jnp.log(jnp.asarray(clip, log.r_t.dtype))
    return _mean_of_weighted_returns(log, jnp.minimum(log.log_weight, log_clip))


def _resampled_truncated(sample: Sample) -> list[Part]:
    weight = np.exp(np.minimum(np.asarray(sample.log.log_weight, np.float64), 700.0))
    return [Truncated(weight, _returns(sample.log), np.asarray(sample.log.is_episode, np.float64))]


def discounting_aware_is(
    log_rho_tm1: Series, r_t: Series, discount: Scalar, is_valid_t: Flags | None = None
) -> Estimate:
    """Discounting-aware importance sampling: unbiased, without the ratios that the discount makes irrelevant.

    Sutton & Barto 2018, eq. 5.9: discounting is read as a termination with probability `1 − γ` a step, and
    a flat return that ends at h takes the ratios before h alone. At γ = 1 it is `ordinary_is`; at γ = 0 it
    takes the first ratio only. Ratios saturate as in `ordinary_is`.

    The arguments, the result and the errors are those of `ordinary_is`.

    >>> log_rho = jnp.log(jnp.array([[2.0], [4.0]])); r = jnp.ones((2, 1))
    >>> discounting_aware_is(log_rho, r, 0.5).value
    Array(9., dtype=float32)
    """
    log = Log.checked(log_rho_tm1, r_t, discount, is_valid_t)
    log_share_t = log_shares(log, discount)
    flat_weight_t = jnp.exp(log_share_t) * clipped_ratio(log.log_product_t, jnp.inf)
    per_episode = jnp.sum(weighted(_reward_weights(flat_weight_t), log.r_t), 0)
    return mean_estimate(per_episode, log_sum_exp(log_share_t + log.log_product_t, 0), log.is_episode)


def weighted_discounting_aware_is(
    log_rho_tm1: Series, r_t: Series, discount: Scalar, is_valid_t: Flags | None = None
) -> Estimate:
    """Discounting-aware weighted importance sampling: the same sum over the sum of its weights.

    Sutton & Barto 2018, eq. 5.10: biased, consistent. Finite for any finite log-ratios.

    The arguments, the result and the errors are those of `ordinary_is`.

    >>> log_rho = jnp.log(jnp.array([[2.0], [4.0]])); r = jnp.ones((2, 1))
    >>> weighted_discounting_aware_is(log_rho, r, 0.5).value
    Array(1.8, dtype=float32)
    """
    log = Log.checked(log_rho_tm1, r_t, discount, is_valid_t)
    weight_t = _reward_weights(normalized_weights(log_shares(log, discount) + log.log_product_t, None))
    weight = weight_t[0]
    mean_return = jnp.sum(weighted(weight_t, log.r_t), 0) / jnp.where(weight > 0, weight, 1.0)
    return ratio_estimate(weight, mean_return, log)


def _resampled_discounting_aware(sample: Sample) -> list[Part]:
    log = sample.log
    log_share_t = on_host(log_shares, log, sample.discount)
    return one_ratio(relative_weights(log_share_t + log.log_product_t, None), np.cumsum(log.r_t, 0))


def ratio_estimate(weight: jax.Array, x: jax.Array, log: Log) -> Estimate:
    """`Σ_i weight_i x_i` for normalized weights `[N]` (which sum to 1, or are all 0), by the delta method."""
    value = jnp.sum(weighted(weight, x))
    return estimate(value, linearized(weight, x, value, log.is_episode), safe_log(weight), log.is_episode)


def linearized(weight: jax.Array, x: jax.Array, value: jax.Array, is_episode: Flags) -> jax.Array:
    """What each episode contributes to `value = Σ_i weight_i x_i`, arrays `[*B, N]` and `[*B]`.

    Owen 2013, "Monte Carlo theory, methods and examples", section 9.2: `value + N weight_i (x_i − value)`.
    """
    n = count_episodes(is_episode, weight)
    return value[..., None] + weighted(n * weight, x - value[..., None])


def _mean_of_weighted_returns(log: Log, log_weight: jax.Array) -> Estimate:
    """`(1/N) Σ_i w_i G_i`, for weights that saturate."""
    return mean_estimate(weighted(clipped_ratio(log_weight, jnp.inf), log.returns), log_weight, log.is_episode)


def _returns(log: Log) -> np.ndarray:
    """`[N]`, in NumPy."""
    return np.sum(np.exp(log.log_discount_t) * log.r_t, 0)


def log_shares(log: Log, discount: Scalar) -> Series:
    """Logarithm of the share of the flat return that ends with a step: `(1 − γ) γ^t`, in the last step `γ^t`."""
    follows_t = jnp.concatenate([log.is_valid_t[1:], jnp.zeros_like(log.is_valid_t[:1])])
    log_ends = safe_log(1.0 - jnp.asarray(discount, log.r_t.dtype))
    log_share_t = log.log_discount_t + jnp.where(follows_t, log_ends, 0.0)
    return jnp.where(log.is_valid_t, log_share_t, -jnp.inf)


def _reward_weights(flat_weight_t: Series) -> Series:
    """The weight of each reward: a flat return is the sum of all rewards up to its end."""
    return backward_affine(jnp.ones_like(flat_weight_t), flat_weight_t)


WHOLE_EPISODES = Family(log_weights=lambda log, discount: log.log_weight, is_per_step=False)
"""Each episode has one weight."""
DISCOUNTING_AWARE = Family(
    log_weights=lambda log, discount: log_sum_exp(log_shares(log, discount) + log.log_product_t, 0), is_per_step=True
)
"""Each episode has the weights of its flat returns."""

ORDINARY_IS = Estimator(function=ordinary_is, family=WHOLE_EPISODES, title="ordinary", resampling=mean_over_episodes)
WEIGHTED_IS = Estimator(function=weighted_is, family=WHOLE_EPISODES, title="weighted", resampling=_resampled_ratio)
TRUNCATED_IS = Estimator(
    function=truncated_is,
    family=WHOLE_EPISODES,
    title="truncated",
    resampling=_resampled_truncated,
    is_truncated=True,
)
DISCOUNTING_AWARE_IS = Estimator(
    function=discounting_aware_is,
    family=DISCOUNTING_AWARE,
    title="discounting aware",
    resampling=mean_over_episodes,
)
WEIGHTED_DISCOUNTING_AWARE_IS = Estimator(
    function=weighted_discounting_aware_is,
    family=DISCOUNTING_AWARE,
    title="weighted discounting aware",
    resampling=_resampled_discounting_aware,
)
