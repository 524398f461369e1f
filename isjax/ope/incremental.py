"""Weights of fewer ratios: the last few before a reward, as many as the data ask for, or one weight a horizon."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from isjax._checks import check_count
from isjax.ope.episodes import (
    Estimate,
    Log,
    count_episodes,
    episodes,
    estimate,
    mean_estimate,
    safe_log,
    weighted,
)
from isjax.ope.estimator import Estimator, Family, register
from isjax.ope.model_assisted import model_values
from isjax.ope.per_decision import PER_DECISION
from isjax.ope.resampling import Part, Sample, mean_over_episodes, relative_weights
from isjax.ope.shrinkage import chosen_by_slope
from isjax.ope.trajectory import WHOLE_EPISODES
from isjax.ops.ratios import LARGEST_LOG_RATIO, clipped_ratio
from isjax.stats import check_level
from isjax.types import Flags, Scalar, Series


def windowed_is(
    log_rho_tm1: Series, r_t: Series, discount: Scalar, is_valid_t: Flags | None = None, *, window: int = 1
) -> Estimate:
    """Each reward weighed with the last `window` ratios alone, `(1/N) Σ_i Σ_t γ^t ρ_{t−h+1:t} r_{t+1}`: biased.

    With 1 it is the ratio of each step alone, which takes states (or the other slots of a slate) to be distributed
    as under the behavior policy: the independent estimator of slate recommendation, IIPS (Li et al. 2018,
    https://arxiv.org/abs/1804.10488), right where a reward depends on its own action only. With T or more it is
    `per_decision_is`.

    Args:
      log_rho_tm1: `[T, N]`, `log π(a|s) − log μ(a|s)`; `−inf` where the target policy never acts so.
      r_t: `[T, N]`, rewards.
      discount: γ in [0, 1], a scalar.
      is_valid_t: `[T, N]`, false for padding, which follows an episode and may hold anything.
      window: h, how many ratios a reward takes, at least 1.

    Returns:
      An `Estimate`; its standard error does not know of the bias.

    Raises:
      ValueError: the arrays are not all `[T, N]`, or an option is out of range.
      TypeError: an array is not floating, or `is_valid_t` is not boolean.

    >>> log_rho = jnp.log(jnp.array([[2.0], [4.0]])); r = jnp.ones((2, 1))
    >>> windowed_is(log_rho, r, 1.0, window=1).value
    Array(6., dtype=float32)
    """
    check_count(window=window)
    log = Log.checked(log_rho_tm1, r_t, discount, is_valid_t)
    log_rho_tm1 = episodes(log_rho_tm1, r_t, discount, is_valid_t).log_rho_tm1
    first = jnp.maximum(jnp.arange(len(log.r_t)) - window + 1, 0)
    return _with_step_weights(log, log_window_products(log_rho_tm1, first))


def log_window_products(log_rho_tm1: Series, first_t: jax.Array) -> Series:
    """`log ρ_{f(t):t}`, `[T, N]`: from the row `first_t` `[T]` on to the row itself; 0 where it lies behind it."""
    impossible = jnp.isneginf(log_rho_tm1)
    finite = jnp.where(impossible, 0.0, jnp.minimum(log_rho_tm1, LARGEST_LOG_RATIO))

    def up_to(x: jax.Array) -> jax.Array:
        total = jnp.cumsum(x, 0)
        return total - jnp.concatenate([jnp.zeros_like(total[:1]), total])[first_t]

    return jnp.where(up_to(impossible.astype(jnp.int32)) > 0, -jnp.inf, up_to(finite))


def _with_step_weights(log: Log, log_weight_t: Series) -> Estimate:
    """The mean over episodes of rewards with these weights `[T, N]`."""
    log_weight_t = jnp.where(log.is_episode[None], log_weight_t, -jnp.inf)
    per_episode = jnp.sum(weighted(log.discount_t * clipped_ratio(log_weight_t, jnp.inf), log.r_t), 0)
    return mean_estimate(per_episode, log.mean_over_steps(log_weight_t), log.is_episode)


def incremental_is(log_rho_tm1: Series, r_t: Series, discount: Scalar, is_valid_t: Flags | None = None) -> Estimate:
    """Incremental importance sampling, INCRIS: each reward drops the early ratios that it does not depend on.

    Guo, Thomas & Brunskill 2017, https://arxiv.org/abs/1703.03453, section 6. Dropping `ρ_{0:k−1}` from the weight
    of the reward at t costs the bias `C_k = Cov(ρ_{0:k−1}, ρ_{k:t} r_{t+1})`. Of all `k ≤ t` the one is taken whose
    estimated `C_k² + Var(ρ_{k:t} r_{t+1}) / N` is smallest; `k = 0` is per-decision. Takes `T² N` operations.

    The arguments, the result and the errors are those of `per_decision_is`; the standard error takes the choice as
    given, and does not know of its bias.

    >>> log_rho = jnp.log(jnp.array([[2.0], [4.0]])); r = jnp.ones((2, 1))
    >>> incremental_is(log_rho, r, 1.0).value
    Array(10., dtype=float32)
    """
    log = Log.checked(log_rho_tm1, r_t, discount, is_valid_t)
    log_rho_tm1 = episodes(log_rho_tm1, r_t, discount, is_valid_t).log_rho_tm1
    return _with_step_weights(log, log_window_products(log_rho_tm1, _first_kept(log, log_rho_tm1)))


def _first_kept(log: Log, log_rho_tm1: Series) -> jax.Array:
    """`[T]`, for each reward the first ratio that its weight keeps."""
    rows, n = len(log.r_t), count_episodes(log.is_episode, log.r_t)
    row = jnp.arange(rows)
    mean = functools.partial(jnp.mean, axis=1, where=log.is_episode[None])
    # What is dropped at k is the product of all ratios before it.
    dropped = jnp.concatenate([jnp.ones_like(log.r_t[:1]), clipped_ratio(log.log_product_t[:-1], jnp.inf)])

    def errors(k: jax.Array) -> jax.Array:
        """`[T]`, of dropping all before k, infinite for rewards before it."""
        kept = clipped_ratio(log_window_products(log_rho_tm1, jnp.broadcast_to(k, row.shape)), jnp.inf)
        x = weighted(kept, log.r_t)
        center = x - mean(x)[:, None]
        covariance = mean(center * (dropped[k] - jnp.mean(dropped[k], where=log.is_episode))[None])
        error = covariance**2 + mean(center**2) / jnp.maximum(n - 1.0, 1.0)
        return jnp.where((k <= row) & ~jnp.isnan(error), error, jnp.inf)

    # At k = 0 nothing is dropped, and there is no covariance; ties go to the fewest dropped.
    return jnp.argmin(jax.lax.map(errors, row), 0)


def per_horizon_weighted_is(
    log_rho_tm1: Series, r_t: Series, discount: Scalar, is_valid_t: Flags | None = None
) -> Estimate:
    """Per-horizon weighted importance sampling: weights are normalized among episodes of the same length.

    `Σ_l (n_l / N) Σ_{i: T_i = l} ρ_i G_i / Σ_{i: T_i = l} ρ_i`, PHWIS-Behavior of Doroudi, Thomas & Brunskill 2017,
    https://arxiv.org/abs/1704.00395, section 7: long episodes, whose products are more extreme, then neither drown
    nor dominate short ones. Consistent only if the target policy's episodes are as long as the behavior policy's.

    The arguments, the result and the errors are those of `weighted_is`.

    >>> log_rho = jnp.zeros((1, 2)); r = jnp.array([[4.0, 2.0]])
    >>> per_horizon_weighted_is(log_rho, r, 1.0).value
    Array(3., dtype=float32)
    """
    log = Log.checked(log_rho_tm1, r_t, discount, is_valid_t)
    length, rows = jnp.sum(log.is_valid_t, 0), len(log.r_t) + 1
    largest = jax.lax.stop_gradient(jax.ops.segment_max(log.log_weight, length, rows))
    relative = log.log_weight - jnp.where(jnp.isfinite(largest), largest, 0.0)[length]
    weight = jnp.exp(relative)
    total = jax.ops.segment_sum(weight, length, rows)[length]
    count = jax.ops.segment_sum(log.is_episode.astype(weight.dtype), length, rows)[length]
    within = weight / jnp.where(total > 0, total, 1.0)
    of_length = jax.ops.segment_sum(weighted(within, log.returns), length, rows)[length]
    n = count_episodes(log.is_episode, weight)
    # Both the mean within a length and the share of lengths are estimated.
    per_episode = of_length + count * weighted(within, log.returns - of_length)
    value = jnp.sum(jnp.where(log.is_episode, of_length, 0.0)) / n
    return estimate(value, per_episode, safe_log(count * within / n), log.is_episode)


def _resampled_horizons(sample: Sample) -> list[Part]:
    log = sample.log
    length = np.sum(log.is_valid_t, 0)
    lengths = np.unique(length[np.asarray(log.is_episode)])
    weight = relative_weights(np.where(length[None] == lengths[:, None], np.asarray(log.log_weight)[None], -np.inf))
    is_length = (length[None] == lengths[:, None]) * np.asarray(log.is_episode, np.float64)[None]
    returns = np.sum(np.exp(log.log_discount_t) * log.r_t, 0)

    def part(counts: np.ndarray) -> np.ndarray:
        above, below = counts @ (weight * returns).T, counts @ weight.T
        shares = counts @ is_length.T
        mean = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
        return np.sum(shares * mean, 1) / np.maximum(np.sum(shares, 1), 1.0)

    return [part]


def slope_horizon_is(
    log_rho_tm1: Series,
    r_t: Series,
    discount: Scalar,
    is_valid_t: Flags | None = None,
    *,
    v_tm1: Series | None = None,
    q_tm1: Series | None = None,
    level: float = 0.9,
) -> Estimate:
    """An estimate of fewer ratios, as many as `slope_choice` picks from the data.

    Su, Srinath & Krishnamurthy 2020, https://arxiv.org/abs/2002.07729, section 5. With a model the data are followed
    for h steps and then the model is believed: `Σ_{t<h} γ^t (ρ_{0:t} (r − q̂) + ρ_{0:t−1} v̂) + γ^h ρ_{0:h−1} v̂(s_h)`,
    from T (`doubly_robust`) to 0 (the model's word). Without one each reward takes the last h ratios
    (`windowed_is`), from T (`per_decision_is`) to 1.

    Args:
      log_rho_tm1: `[T, N]`, `log π(a|s) − log μ(a|s)`; `−inf` where the target policy never acts so.
      r_t: `[T, N]`, rewards.
      discount: γ in [0, 1], a scalar.
      is_valid_t: `[T, N]`, false for padding, which follows an episode and may hold anything.
      v_tm1: `[T, N]`, a model's value of the state that a row starts from, under the target policy.
      q_tm1: `[T, N]`, the same of that state and the action taken; both or neither.
      level: of the intervals that are compared, in (0, 1).

    Returns:
      The `Estimate` of the horizon chosen; its standard error takes the choice as given.

    Raises:
      ValueError: the arrays are not all `[T, N]`, or an option is out of range.
      TypeError: an array is not floating, or `is_valid_t` is not boolean.

    >>> slope_horizon_is(jnp.zeros((2, 4)), jnp.ones((2, 4)), 1.0).value
    Array(2., dtype=float32)
    """
    check_level(level)
    if (v_tm1 is None) != (q_tm1 is None):
        raise ValueError("v_tm1 and q_tm1 must be given together, but one of them is missing.")
    log = Log.checked(log_rho_tm1, r_t, discount, is_valid_t)
    log_rho_tm1 = episodes(log_rho_tm1, r_t, discount, is_valid_t).log_rho_tm1
    rows = len(log.r_t)
    if v_tm1 is None or q_tm1 is None:

        def by_window(window: jax.Array) -> Estimate:
            first = jnp.maximum(jnp.arange(rows) - window + 1, 0)
            return _with_step_weights(log, log_window_products(log_rho_tm1, first))

        return chosen_by_slope(jax.lax.map(by_window, jnp.arange(rows, 0, -1)), level=level)
    v_tm1, q_tm1 = model_values(log, v_tm1, q_tm1)
    weight_t = clipped_ratio(log.log_product_t, jnp.inf)
    before_t = jnp.concatenate([jnp.ones_like(weight_t[:1]), weight_t[:-1]])
    data = jnp.cumsum(weighted(log.discount_t * weight_t, log.r_t - q_tm1), 0)
    model = jnp.cumsum(weighted(log.discount_t * before_t, v_tm1), 0)
    end = jnp.zeros_like(data[:1])
    followed = jnp.concatenate([end, data]) + jnp.concatenate([model, model[-1:]])
    log_weights = log.mean_over_steps(log.log_product_t)
    by_horizon = jax.vmap(lambda x: mean_estimate(x, log_weights, log.is_episode))
    return chosen_by_slope(by_horizon(followed[::-1]), level=level)


def _mean_ratio(log: Log, discount: Scalar) -> jax.Array:
    """`[N]`, logarithms of each episode's ratios, averaged over all discounted steps; 0 behind a ratio of 0."""
    before = jnp.concatenate([jnp.zeros_like(log.log_product_t[:1]), log.log_product_t[:-1]])
    was_possible = ~jnp.isneginf(before)
    log_rho = log.log_product_t - jnp.where(was_possible, before, 0.0)
    return log.mean_over_steps(jnp.where(was_possible, log_rho, 0.0))


FEWER_RATIOS = "its interval does not know of the bias that fewer ratios bring"

PER_STEP_IS = register(
    Estimator(
        name="per_step_is",
        function=windowed_is,
        family=Family(log_weights=_mean_ratio, is_per_step=False),
        title="per-step ratio",
        resampling=mean_over_episodes,
        is_consistent=False,
        caveat=FEWER_RATIOS,
    )
)
PER_HORIZON_WEIGHTED_IS = register(
    Estimator(
        function=per_horizon_weighted_is,
        family=WHOLE_EPISODES,
        title="weighted per horizon",
        resampling=_resampled_horizons,
        is_default=False,
        caveat="episodes have to be as long under the target policy",
    )
)
INCREMENTAL_IS = register(
    Estimator(
        function=incremental_is,
        family=PER_DECISION,
        title="incremental",
        resampling=mean_over_episodes,
        is_default=False,
        caveat=FEWER_RATIOS,
    )
)
SLOPE_HORIZON_IS = register(
    Estimator(
        function=slope_horizon_is,
        family=PER_DECISION,
        title="horizon by SLOPE",
        resampling=mean_over_episodes,
        is_default=False,
        caveat=FEWER_RATIOS,
    )
)
