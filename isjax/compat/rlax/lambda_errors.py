"""Errors of values by λ-returns: TD(λ), SARSA(λ), Peng's and Watkins's Q(λ)."""

import jax
import jax.numpy as jnp

from isjax._checks import series
from isjax.compat.rlax._inputs import action_values, actions, reached, stopped, taken
from isjax.compat.rlax.returns import lambda_returns
from isjax.types import Flags, Scalar, Series


def td_lambda(
    v_tm1: Series,
    r_t: Series,
    discount_t: Series,
    v_t: Series,
    lambda_: Scalar | Series,
    stop_target_gradients: bool | jax.Array = True,
    *,
    same_episode_t: Flags | None = None,
) -> Series:
    """TD(λ) errors, `lambda_returns` less `v_tm1`.

    Sutton & Barto 2018, section 12.8.

    `v_tm1` `[T, *B]` are the values that learn, of the states that steps start from; with `stop_target_gradients`
    gradients reach nothing else. The other arguments, the result and the errors are those of `lambda_returns`.

    >>> one = jnp.ones(2)
    >>> td_lambda(one, one, one, one, 0.5)
    Array([1.5, 1. ], dtype=float32)
    """
    v_tm1, r_t, discount_t, v_t = series(v_tm1=v_tm1, r_t=r_t, discount_t=discount_t, v_t=v_t)
    target = lambda_returns(r_t, discount_t, v_t, lambda_, same_episode_t=same_episode_t)
    return stopped(target, stop_target_gradients) - v_tm1


def sarsa_lambda(
    q_tm1: jax.Array,
    a_tm1: jax.Array,
    r_t: Series,
    discount_t: Series,
    q_t: jax.Array,
    a_t: jax.Array,
    lambda_: Scalar | Series,
    stop_target_gradients: bool | jax.Array = True,
    *,
    same_episode_t: Flags | None = None,
) -> Series:
    """SARSA(λ) errors: `lambda_returns` of the values of the actions taken, less those of `q_tm1`.

    Sutton & Barto 2018, section 12.7.

    Args:
      q_tm1: `[T, *B, A]`, action values that learn, in the states that steps start from.
      a_tm1: `[T, *B]`, integers, the actions taken there.
      r_t: `[T, *B]`, rewards.
      discount_t: `[T, *B]`, γ, and 0 where the episode terminated.
      q_t: `[T, *B, A]`, action values to bootstrap from, in the states actually reached: at a time limit in the final
        observation, never in the first after the reset.
      a_t: `[T, *B]`, integers, the actions taken in the states reached. In the last step and at a time limit one that
        the policy draws in the final observation, never that of the next episode; the mean over the policy is had by
        giving it for `q_t` of every action.
      lambda_: λ, at least 0; a scalar, `[T]` or `[T, *B]`.
      stop_target_gradients: the returns are constants: gradients reach `q_tm1` only.
      same_episode_t: `[T, *B]`, false where a step ended its episode, for either reason: the step bootstraps from `q_t`
        and `a_t`, and nothing of what comes later enters it.

    Returns:
      `[T, *B]`, float32 at least.

    Raises:
      ValueError: shapes differ, or there is no step.
      TypeError: an array is not floating, the actions are not integers, or a flag is not boolean.

    >>> q = jnp.array([[1.0, 3.0], [2.0, 4.0]]); one = jnp.ones(2); a = jnp.array([0, 1])
    >>> sarsa_lambda(q, a, one, one, q, a, 1.0)
    Array([5., 1.], dtype=float32)
    """
    q_tm1, q_t = action_values(r_t, q_tm1=q_tm1, q_t=q_t)
    actions(r_t, a_tm1=a_tm1, a_t=a_t)
    target = lambda_returns(r_t, discount_t, taken(q_t, a_t), lambda_, same_episode_t=same_episode_t)
    return stopped(target, stop_target_gradients) - taken(q_tm1, a_tm1)


def q_lambda(
    q_tm1: jax.Array,
    a_tm1: jax.Array,
    r_t: Series,
    discount_t: Series,
    q_t: jax.Array,
    lambda_: Scalar | Series,
    stop_target_gradients: bool | jax.Array = True,
    *,
    same_episode_t: Flags | None = None,
) -> Series:
    """Peng's or Watkins's Q(λ) errors: `q_lambda_targets` less the values of `q_tm1` of the actions taken.

    `q_tm1` `[T, *B, A]` are the action values that learn, in the states that steps start from, `a_tm1` `[T, *B]`
    integers, the actions taken there. The other arguments, the result and the errors are those of `q_lambda_targets`.

    >>> q = jnp.array([[1.0, 3.0], [2.0, 4.0]]); one = jnp.ones(2); a = jnp.array([0, 1])
    >>> q_lambda(q, a, one, one, q, 1.0)
    Array([5., 1.], dtype=float32)
    """
    q_tm1, q_t = action_values(r_t, q_tm1=q_tm1, q_t=q_t)
    actions(r_t, a_tm1=a_tm1)
    target = q_lambda_targets(r_t, discount_t, q_t, lambda_, stop_target_gradients, same_episode_t=same_episode_t)
    return target - taken(q_tm1, a_tm1)


def q_lambda_targets(
    r_t: Series,
    discount_t: Series,
    q_t: jax.Array,
    lambda_: Scalar | Series,
    stop_target_gradients: bool | jax.Array = True,
    *,
    same_episode_t: Flags | None = None,
) -> Series:
    """Peng's or Watkins's Q(λ) targets, `lambda_returns` of the greatest action values; rlax has the errors alone.

    Peng & Williams 1996 where λ is one number: there is no correction for actions that are not greedy. Watkins 1989
    where λ is 0 in the steps that lead to such an action. For the Q(λ) of Harutyunyan et al. 2016, which is corrected,
    take `general_off_policy_returns_from_action_values` with λ for `c_t`.

    Args:
      r_t: `[T, *B]`, rewards.
      discount_t: `[T, *B]`, γ, and 0 where the episode terminated.
      q_t: `[T, *B, A]`, action values to bootstrap from, in the states actually reached: at a time limit in the final
        observation, never in the first after the reset.
      lambda_: λ, at least 0; a scalar, `[T]` or `[T, *B]`.
      stop_target_gradients: the targets are constants.
      same_episode_t: `[T, *B]`, false where a step ended its episode, for either reason: the step bootstraps from
        `q_t`, and nothing of what comes later enters it.

    Returns:
      `[T, *B]`, what the values of the actions taken should move to, float32 at least.

    Raises:
      ValueError: shapes differ, or there is no step.
      TypeError: an array is not floating, or a flag is not boolean.

    >>> q = jnp.array([[1.0, 3.0], [2.0, 4.0]]); one = jnp.ones(2)
    >>> q_lambda_targets(one, one, q, 0.0)
    Array([4., 5.], dtype=float32)
    """
    r_t, discount_t = series(r_t=r_t, discount_t=discount_t)
    (q_t,) = reached(discount_t, *action_values(r_t, q_t=q_t))
    v_t = jnp.max(q_t, axis=-1)
    return lambda_returns(r_t, discount_t, v_t, lambda_, stop_target_gradients, same_episode_t=same_episode_t)
