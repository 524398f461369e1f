"""Values of policies that are rewarded for their entropy as well, and their corrected returns."""

import jax
import jax.numpy as jnp

from isjax._checks import check_positive, check_same_shape, series
from isjax.ops.action_values import over_actions
from isjax.ops.q_traces import retrace
from isjax.types import Flags, Scalar, Series


def soft_value(q: jax.Array, log_pi: Series, is_valid_t: Flags | None = None, *, temperature: Scalar) -> Series:
    """`min_i Q_i(s, a) − α log π(a|s)` of an action sampled from π: the value of the state, entropy included.

    Haarnoja et al. 2018b, https://arxiv.org/abs/1812.05905, eq. 3, and the minimum of section 6 (Fujimoto et al. 2018).
    No gradient is stopped here.

    Args:
      q: `[T, *B, N]`, what N critics say of the sampled action.
      log_pi: `[T, *B]`, its log-probability; after squashing, with the Jacobian.
      is_valid_t: `[T, *B]`, false for padding: such steps give 0, whatever they hold.
      temperature: α > 0, in the unit of rewards per nat.

    Raises:
      ValueError: shapes differ, or `temperature` is not above 0.
      TypeError: an array is not floating, or `is_valid_t` not boolean.

    >>> soft_value(jnp.array([[3.0, 2.0]]), jnp.array([-1.0]), temperature=0.5)
    Array([2.5], dtype=float32)
    """
    check_positive(temperature=temperature)
    (log_pi,) = series(log_pi=log_pi, is_valid_t=is_valid_t)
    return jnp.min(by_critic(log_pi, is_valid_t, q=q), axis=-1) - temperature * log_pi


def soft_retrace(
    q_tm1: jax.Array,
    q_t: jax.Array,
    log_pi_t: Series,
    r_t: Series,
    discount_t: Series,
    log_rho_tm1: Series,
    same_episode_t: Flags | None = None,
    *,
    is_valid_t: Flags | None = None,
    temperature: Scalar,
    lambda_: Scalar | Series = 1.0,
    associative: bool | None = None,
) -> Series:
    """Retrace(λ) of rewards and entropies: `ops.retrace` with soft values and the least of the critics.

    Their fixed point is that of the soft Bellman operator, `Q(s, a) = r + γ E[Q(s', a') − α log π(a'|s')]`, whatever
    policy acted: Munos et al. 2016, https://arxiv.org/abs/1606.02647; Haarnoja et al. 2018b,
    https://arxiv.org/abs/1812.05905, eq. 2 and 3. With λ = 0 they are SAC's targets, `r_t + γ (min_i Q_i − α log π)`.

    Args:
      q_tm1: `[T, *B, N]`, what N critics (of a target network) say of the actions taken; without influence at λ = 0.
      q_t: `[T, *B, N]`, what they say of an action sampled from the policy that learns in the state actually reached:
        at a time limit in the final observation, never in the first one after the reset.
      log_pi_t: `[T, *B]`, the log-probability of that sampled action.
      r_t: `[T, *B]`, rewards.
      discount_t: `[T, *B]`, γ, and 0 where the episode terminated; there `q_t` and `log_pi_t` may hold anything.
      log_rho_tm1: `[T, *B]`, `log π(a|s) − log μ(a|s)` of the actions taken.
      same_episode_t: see `retrace`, as for what follows.
      is_valid_t: false for padding: such steps give 0, whatever they hold.
      temperature: α > 0, in the unit of rewards per nat.
      lambda_: λ in [0, 1].
      associative: how to solve the recurrence.

    Returns:
      `[T, *B]`, the returns that every critic should move to, float32 at least.

    Raises:
      ValueError: shapes differ, or an option is out of range.
      TypeError: an array is not floating, or a flag is not boolean.

    >>> q, half = jnp.zeros((2, 2)), jnp.full(2, 0.5)
    >>> soft_retrace(q, q, jnp.array([-1.0, 1.0]), half, half, jnp.zeros(2), temperature=0.5)
    Array([0.875, 0.25 ], dtype=float32)
    """
    check_same_shape(q_tm1=q_tm1, q_t=q_t)
    v_t = soft_value(q_t, log_pi_t, is_valid_t, temperature=temperature)
    return retrace(
        jnp.min(by_critic(v_t, is_valid_t, q_tm1=q_tm1), axis=-1),
        v_t,
        r_t,
        discount_t,
        log_rho_tm1,
        same_episode_t,
        is_valid_t=is_valid_t,
        lambda_=lambda_,
        associative=associative,
    )


def by_critic(like: Series, is_valid_t: Flags | None, **q: jax.Array) -> jax.Array:
    """The one array `[T, *B, N]` beside `like` `[T, *B]`, float32 at least; 0 in padding, whatever it holds there."""
    return over_actions(jnp.ones(like.shape) if is_valid_t is None else jnp.where(is_valid_t, 1.0, 0.0), **q)[0]
