"""MAGIC: between the model and the data, the mixture with the smallest estimated error."""

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri

from isjax.ope.episodes import Estimate, Log, count_episodes, estimate
from isjax.ope.estimator import Estimator, Family
from isjax.ope.model_assisted import model_values, step_contributions
from isjax.ope.per_decision import mean_step_weights, step_weights, total_step_weight
from isjax.types import Flags, Scalar, Series

BIAS_LEVEL = 0.9
"""The level of the interval outside of which a model's estimate counts as biased, as in the paper."""
ITERATIONS = 500


def magic(
    log_rho_tm1: Series,
    r_t: Series,
    discount: Scalar,
    is_valid_t: Flags | None = None,
    *,
    v_tm1: Series,
    q_tm1: Series,
    lengths: tuple[int, ...] | None = None,
) -> Estimate:
    """Model and guided importance sampling combined: blends weighted doubly robust estimates of many lengths.

    Thomas & Brunskill 2016, https://arxiv.org/abs/1604.00923. The estimate of length j follows the
    data for j steps and then believes the model; 0 is the model alone, T is `weighted_doubly_robust`. Their
    weights minimize estimated variance plus squared bias. The bias is the distance to a 90 % interval of the
    longest; here that interval and the covariances come from the delta method, where the paper resamples.

    Args:
      log_rho_tm1: `[T, N]`, `log π(a|s) − log μ(a|s)`; `−inf` where the target policy never acts so.
      r_t: `[T, N]`, rewards.
      discount: γ in [0, 1], a scalar.
      is_valid_t: `[T, N]`, false for padding, which follows an episode and may hold anything. A column
        without a valid step is no episode and does not count.
      v_tm1: `[T, N]`, the model's value of the state that a step starts from, under the target policy.
      q_tm1: `[T, N]`, the same of that state and the action taken.
      lengths: the lengths to blend, each in 0 … T; T is always among them. By default 0, T, and the powers
        of 2 in between.

    Returns:
      An `Estimate`; its standard error takes the blend as given.

    Raises:
      ValueError: the arrays are not all `[T, N]`, the discount is not a number in [0, 1], or a length is out
        of range.
      TypeError: an array is not floating, or `is_valid_t` is not boolean.

    >>> log_rho = jnp.zeros((2, 3)); r = jnp.ones((2, 3)); v = jnp.array([[2.0] * 3, [1.0] * 3])
    >>> magic(log_rho, r, 1.0, v_tm1=v, q_tm1=v).value
    Array(2., dtype=float32)
    """
    log = Log.checked(log_rho_tm1, r_t, discount, is_valid_t)
    rows = len(log.r_t)
    if lengths is None:
        lengths = (0, *(2**k for k in range(rows.bit_length()) if 2**k < rows))
    if not all(0 <= length <= rows for length in lengths):
        raise ValueError(f"lengths must lie in 0 … T = {rows}, but they are {lengths}.")
    at = jnp.array(sorted({*lengths, rows}))
    weight_t = step_weights(log)
    value_t, contribution_t = step_contributions(log, weight_t, *model_values(log, v_tm1, q_tm1))
    values, contributions = jnp.cumsum(value_t)[at], jnp.cumsum(contribution_t, 0)[at]
    total = total_step_weight(weight_t, log)
    longest = estimate(values[-1], contributions[-1], total, log.is_episode)
    margin = ndtri(0.5 + 0.5 * BIAS_LEVEL) * longest.standard_error
    bias = values - jnp.clip(values, longest.value - margin, longest.value + margin)
    deviation = jnp.where(log.is_episode[None], contributions - values[:, None], 0.0)
    n = count_episodes(log.is_episode, values)
    # A power of two near the largest, which rounds nothing: squares neither overflow nor vanish.
    largest = jax.lax.stop_gradient(jnp.maximum(jnp.max(jnp.abs(deviation)), jnp.max(jnp.abs(bias))))
    unit = jnp.ldexp(jnp.ones_like(largest), jnp.frexp(largest)[1] - 1)
    deviation, bias = deviation / unit, bias / unit
    covariance = deviation @ deviation.T / (n * jnp.maximum(n - 1.0, 1.0))
    blend = smallest_quadratic(covariance + bias[:, None] * bias[None])
    return estimate(blend @ values, blend @ contributions, total, log.is_episode)


def smallest_quadratic(a: jax.Array) -> jax.Array:
    """The weights `x ≥ 0`, `Σx = 1`, with the smallest `xᵀ a x`, for a positive semidefinite `a` `[J, J]`.

    Pairwise Frank–Wolfe steps with an exact line search (Lacoste-Julien & Jaggi 2015), from the last corner.
    """
    scale = jax.lax.stop_gradient(jnp.max(jnp.diagonal(a)))  # The minimum lies at the same place.
    a = a / jnp.where(scale > 0, scale, 1.0)

    def step(_: jax.Array, x: jax.Array) -> jax.Array:
        slope = a @ x
        to, away = jnp.argmin(slope), jnp.argmax(jnp.where(x > 0, slope, -jnp.inf))
        curvature = a[to, to] + a[away, away] - 2.0 * a[to, away]
        gain = slope[away] - slope[to]
        size = jnp.where(curvature > 0, gain / jnp.where(curvature > 0, curvature, 1.0), 0.0)
        size = jnp.clip(size, 0.0, x[away])
        return x.at[to].add(size).at[away].add(-size)

    return jax.lax.fori_loop(0, ITERATIONS, step, jnp.zeros_like(a[0]).at[-1].set(1.0))


MAGIC = Estimator(
    function=magic,
    family=Family(log_weights=mean_step_weights, is_per_step=False),  # A model takes the place of thin steps.
    title="magic",
    resampling=None,  # The blend would have to be found anew for each sample.
    needs_model=True,
    caveat="its interval takes the blend of model and data as given",
)
