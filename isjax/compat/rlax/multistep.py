"""Multistep returns and temporal-difference errors."""

import jax
import jax.numpy as jnp

from isjax._checks import check_flags, check_same_shape, precise, series
from isjax.compat.rlax._inputs import (
    action_values,
    actions,
    heard,
    reached,
    saturated,
    stopped,
    taken,
    values_before_and_after,
)
from isjax.ops.recurrence import backward_affine, scaled
from isjax.ops.returns import decay, gae
from isjax.types import Flags, Scalar, Series


def importance_corrected_td_errors(
    r_t: Series,
    discount_t: Series,
    rho_tm1: Series,
    lambda_: Scalar | Series,
    values: Series,
    stop_target_gradients: bool | jax.Array = False,
    *,
    same_episode_t: Flags | None = None,
    v_t: Series | None = None,
) -> Series:
    """Errors `ρ_t (δ_t + γ λ_t error_{t+1})` with `δ_t = r_t + γ V(s_{t+1}) − V(s_t)`; ratios are not clipped.

    Sutton et al. 2014, http://proceedings.mlr.press/v32/sutton14.html. The return less the value of
    `isjax.ops.per_decision_control_variate`, which takes log-ratios.

    Args:
      r_t: `[T, *B]`, rewards.
      discount_t: `[T, *B]`, γ, and 0 where the episode terminated.
      rho_tm1: `[T, *B]`, `π(a|s) / μ(a|s)`, at least 0.
      lambda_: λ in [0, 1]; a scalar, `[T]` or `[T, *B]`; step t's is for the step from it to the next.
      values: `[T + 1, *B]`, values of the states that steps start from, and of the state that the last leads
        to.
      stop_target_gradients: the targets, errors plus values, are constants.
      same_episode_t: `[T, *B]`, false where a step ended its episode, for either reason: nothing of what
        comes later enters the step.
      v_t: `[T, *B]`, values of the states actually reached, in place of `values[1:]`: at a time limit that
        of the final observation, where `values` holds that of the first after the reset. Has to be given
        along with `same_episode_t`, and only then.

    Returns:
      `[T, *B]`, what to move the values by, float32 at least.

    Raises:
      ValueError: shapes differ, λ is out of range, or only one of `same_episode_t` and `v_t` was given.
      TypeError: an array is not floating, or a flag is not boolean.

    >>> one = jnp.ones(2)
    >>> importance_corrected_td_errors(one, one, jnp.array([0.5, 3.0]), 1.0, jnp.zeros(3))
    Array([2., 3.], dtype=float32)
    """
    v_tm1, v_t = values_before_and_after(values, v_t, same_episode_t)
    arrays = {"r_t": r_t, "discount_t": discount_t, "rho_tm1": rho_tm1, "values[:-1]": v_tm1, "v_t": v_t}
    r_t, discount_t, rho_tm1, v_tm1, v_t = series(**arrays)
    rho_tm1 = saturated(rho_tm1)
    gain = scaled(decay(discount_t, lambda_, same_episode_t), rho_tm1)
    errors = backward_affine(gain, rho_tm1 * (r_t + scaled(discount_t, v_t) - v_tm1))
    return jnp.where(stop_target_gradients, jax.lax.stop_gradient(errors + v_tm1) - v_tm1, errors)


def truncated_generalized_advantage_estimation(
    r_t: Series,
    discount_t: Series,
    lambda_: Scalar | Series,
    values: Series,
    stop_target_gradients: bool | jax.Array = False,
    *,
    same_episode_t: Flags | None = None,
    v_t: Series | None = None,
) -> Series:
    """Generalized advantage estimates over an unroll: `isjax.ops.gae`.

    Schulman et al. 2016, https://arxiv.org/abs/1506.02438, eq. 16. With `stop_target_gradients` no gradient
    passes at all. The other arguments and the errors are those of `importance_corrected_td_errors`, `v_t`
    included, which has to be given along with `same_episode_t`.

    >>> one = jnp.ones(2)
    >>> truncated_generalized_advantage_estimation(one, one, 0.5, jnp.zeros(3))
    Array([1.5, 1. ], dtype=float32)
    """
    v_tm1, v_t = values_before_and_after(values, v_t, same_episode_t)
    r_t, discount_t, v_tm1, v_t = series(**{"r_t": r_t, "discount_t": discount_t, "values[:-1]": v_tm1, "v_t": v_t})
    return stopped(gae(v_tm1, v_t, r_t, discount_t, same_episode_t, lambda_=lambda_), stop_target_gradients)


def general_off_policy_returns_from_action_values(
    q_t: jax.Array,
    a_t: jax.Array,
    r_t: Series,
    discount_t: Series,
    c_t: Series,
    pi_t: jax.Array,
    stop_target_gradients: bool | jax.Array = False,
    *,
    same_episode_t: Flags | None = None,
) -> Series:
    """Returns of state-action pairs for any trace factor, from the values of all actions.

    `general_off_policy_returns_from_q_and_v` with `v = Σ_a π(a|s) q(s, a)`. Munos et al. 2016,
    https://arxiv.org/abs/1606.02647.

    Args:
      q_t: `[T, *B, A]`, action values in the states actually reached: at a time limit in the final
        observation, never in the first after the reset.
      a_t: `[T, *B]`, integers, the actions taken there. None was in the last step or where an episode ended:
        what stands there has no influence.
      r_t: `[T, *B]`, rewards.
      discount_t: `[T, *B]`, γ, and 0 where the episode terminated.
      c_t: `[T, *B]`, trace factors of `a_t`, at least 0; without influence in the same steps.
      pi_t: `[T, *B, A]`, the target policy's probabilities, in the states of `q_t`.
      stop_target_gradients: the returns are constants.
      same_episode_t: `[T, *B]`, false where a step ended its episode, for either reason: the step bootstraps
        from `q_t` and `pi_t`, and nothing of what comes later enters it.

    Returns:
      `[T, *B]`, the returns of the states and actions that steps start from, float32 at least.

    Raises:
      ValueError: shapes differ, or there is no step.
      TypeError: an array is not floating, the actions are not integers, or a flag is not boolean.

    >>> q = jnp.array([[1.0, 3.0], [2.0, 4.0]]); one = jnp.ones(2)
    >>> general_off_policy_returns_from_action_values(q, jnp.array([0, 1]), one, one, one, 0.0 * q + 0.5)
    Array([6., 4.], dtype=float32)
    """
    r_t, discount_t = series(r_t=r_t, discount_t=discount_t)
    q_t, pi_t = reached(discount_t, *action_values(r_t, q_t=q_t, pi_t=pi_t))
    actions(r_t, a_t=a_t)
    check_same_shape(r_t=r_t, c_t=c_t)
    q_a_t, v_t = taken(q_t, a_t), jnp.sum(scaled(pi_t, q_t), axis=-1)
    return general_off_policy_returns_from_q_and_v(
        q_a_t[:-1], v_t, r_t, discount_t, c_t[:-1], stop_target_gradients, same_episode_t=same_episode_t
    )


def general_off_policy_returns_from_q_and_v(
    q_t: Series,
    v_t: Series,
    r_t: Series,
    discount_t: Series,
    c_t: Series,
    stop_target_gradients: bool | jax.Array = False,
    *,
    same_episode_t: Flags | None = None,
) -> Series:
    """Returns `G_t = r_t + γ (v_t + c_t (G_{t+1} − q_t))`, for any trace factor, as `isjax.ops.general_off_policy_q`.

    Munos et al. 2016, https://arxiv.org/abs/1606.02647. `c_t` is `ρ` for importance sampling, `λ` for Q(λ),
    `λ π(a|s)` for tree backup and `λ min(1, ρ)` for Retrace.

    Args:
      q_t: `[T − 1, *B]`, `Q(s, a)` of the states that all steps but the last lead to and of the actions taken
        there. None was taken where an episode ended: what stands there has no influence.
      v_t: `[T, *B]`, `Σ_a π(a|s) Q(s, a)` of the states actually reached: at a time limit that of the final
        observation, never that of the first after the reset.
      r_t: `[T, *B]`, rewards.
      discount_t: `[T, *B]`, γ, and 0 where the episode terminated.
      c_t: `[T − 1, *B]`, trace factors of the actions of `q_t`, at least 0; without influence likewise.
      stop_target_gradients: the returns are constants.
      same_episode_t: `[T, *B]`, false where a step ended its episode, for either reason: the step bootstraps
        from `v_t`, and nothing of what comes later enters it.

    Returns:
      `[T, *B]`, the returns of the states and actions that steps start from, float32 at least.

    Raises:
      ValueError: shapes differ, or there is no step.
      TypeError: an array is not floating, or a flag is not boolean.

    >>> one = jnp.ones(2)
    >>> general_off_policy_returns_from_q_and_v(one[:1], 2.0 * one, one, one, 0.5 * one[:1])
    Array([4., 3.], dtype=float32)
    """
    v_t, r_t, discount_t = series(v_t=v_t, r_t=r_t, discount_t=discount_t)
    check_same_shape(**{"v_t[:-1]": v_t[:-1], "q_t": q_t, "c_t": c_t})
    check_same_shape(r_t=r_t, same_episode_t=same_episode_t)
    check_flags(same_episode_t=same_episode_t)
    q_t, c_t = precise(q_t=q_t, c_t=c_t)
    # Nothing follows the last step: a factor of 0 ends the trace.
    q_t, c_t = (jnp.concatenate([x, jnp.zeros_like(v_t[:1])]) for x in (q_t, saturated(c_t)))
    if same_episode_t is not None:
        q_t, c_t = (jnp.where(same_episode_t, x, 0.0) for x in (q_t, c_t))
    q_t, c_t = (heard(x, discount_t != 0) for x in (q_t, c_t))
    bias = r_t + scaled(discount_t, v_t - scaled(c_t, q_t))
    return stopped(backward_affine(scaled(discount_t, c_t), bias), stop_target_gradients)
