"""Action values: Retrace, errors and targets, and persistent Q-learning."""

import jax
import jax.numpy as jnp

from isjax._checks import along_time, check_flags, check_fraction, check_same_shape, precise, series
from isjax.compat.rlax._inputs import action_values, actions, heard, reached, stopped, taken
from isjax.compat.rlax.multistep import general_off_policy_returns_from_q_and_v
from isjax.ops.ratios import clipped_ratio
from isjax.ops.recurrence import scaled
from isjax.ops.returns import followed
from isjax.types import Flags, Scalar, Series


def retrace(
    q_tm1: jax.Array,
    q_t: jax.Array,
    a_tm1: jax.Array,
    a_t: jax.Array,
    r_t: Series,
    discount_t: Series,
    pi_t: jax.Array,
    mu_t: Series,
    lambda_: Scalar | Series,
    eps: Scalar = 1e-8,
    stop_target_gradients: bool | jax.Array = True,
    *,
    same_episode_t: Flags | None = None,
) -> Series:
    """Retrace(λ) errors, return less `q_tm1` of the action taken, from the values of all actions.

    Munos et al. 2016, https://arxiv.org/abs/1606.02647.

    Args:
      q_tm1: `[T, *B, A]`, action values that learn, in the states that steps start from.
      q_t: `[T, *B, A]`, action values to bootstrap from, in the states actually reached: at a time limit in
        the final observation, never in the first after the reset.
      a_tm1: `[T, *B]`, integers, the actions taken where steps start.
      a_t: `[T, *B]`, integers, the actions taken in the states reached. None was in the last step or where an
        episode ended: what stands there has no influence.
      r_t: `[T, *B]`, rewards.
      discount_t: `[T, *B]`, γ, and 0 where the episode terminated.
      pi_t: `[T, *B, A]`, the target policy's probabilities, in the states of `q_t`.
      mu_t: `[T, *B]`, the behavior policy's probabilities of `a_t`; without influence in the same steps.
      lambda_: λ in [0, 1]; a scalar, `[T]` or `[T, *B]`.
      eps: added to `mu_t`; 0 will do.
      stop_target_gradients: the returns are constants: gradients reach `q_tm1` only.
      same_episode_t: `[T, *B]`, false where a step ended its episode, for either reason: the step bootstraps
        from `q_t` and `pi_t`, and nothing of what comes later enters it.

    Returns:
      `[T, *B]`, float32 at least.

    Raises:
      ValueError: shapes differ, there is no step, or λ is out of range.
      TypeError: an array is not floating, the actions are not integers, or a flag is not boolean.

    >>> q = jnp.array([[1.0, 3.0], [2.0, 4.0]]); one = jnp.ones(2); a = jnp.array([0, 1])
    >>> retrace(q, q, a, a, one, one, 0.0 * q + 0.5, one, 1.0)
    Array([3.5, 0. ], dtype=float32)
    """
    q_tm1, q_t, pi_t = action_values(r_t, q_tm1=q_tm1, q_t=q_t, pi_t=pi_t)
    actions(r_t, a_tm1=a_tm1)
    target = retrace_targets(
        q_t, a_t, r_t, discount_t, pi_t, mu_t, lambda_, eps, stop_target_gradients, same_episode_t=same_episode_t
    )
    return target - taken(q_tm1, a_tm1)


def retrace_targets(
    q_t: jax.Array,
    a_t: jax.Array,
    r_t: Series,
    discount_t: Series,
    pi_t: jax.Array,
    mu_t: Series,
    lambda_: Scalar | Series,
    eps: Scalar = 1e-8,
    stop_target_gradients: bool | jax.Array = True,
    *,
    same_episode_t: Flags | None = None,
) -> Series:
    """Retrace(λ) targets, what the values of the actions taken should move to; rlax has the errors alone.

    Munos et al. 2016, https://arxiv.org/abs/1606.02647. The arguments, the shape of the result and the errors are
    those of `retrace`. `isjax.ops.retrace` takes log-ratios instead and the values of the actions taken.

    >>> q = jnp.array([[1.0, 3.0], [2.0, 4.0]]); one = jnp.ones(2)
    >>> retrace_targets(q, jnp.array([0, 1]), one, one, 0.0 * q + 0.5, one, 1.0)
    Array([4.5, 4. ], dtype=float32)
    """
    r_t, discount_t, mu_t = series(r_t=r_t, discount_t=discount_t, mu_t=mu_t)
    q_t, pi_t = reached(discount_t, *action_values(r_t, q_t=q_t, pi_t=pi_t))
    actions(r_t, a_t=a_t)
    check_fraction(lambda_=lambda_)
    matters = followed(same_episode_t, r_t, None) & (discount_t != 0)
    pi_a_t, mu_t = (heard(x, matters) for x in (taken(pi_t, a_t), mu_t))
    c_t = _ratio_up_to_one(pi_a_t, mu_t + eps) * along_time(r_t, lambda_=lambda_)
    v_t = jnp.sum(scaled(pi_t, q_t), axis=-1)
    target = general_off_policy_returns_from_q_and_v(
        taken(q_t, a_t)[:-1], v_t, r_t, discount_t, c_t[:-1], same_episode_t=same_episode_t
    )
    return stopped(target, stop_target_gradients)


def retrace_continuous(
    q_tm1: Series,
    q_t: Series,
    v_t: Series,
    r_t: Series,
    discount_t: Series,
    log_rhos: Series,
    lambda_: Scalar | Series,
    stop_target_gradients: bool | jax.Array = True,
    *,
    same_episode_t: Flags | None = None,
) -> Series:
    """Retrace(λ) errors, return less `q_tm1`, from the values of the actions taken.

    Munos et al. 2016, https://arxiv.org/abs/1606.02647. The return of `isjax.ops.retrace` less `q_tm1`, where
    `q_t` is `q_tm1[1:]`.

    Args:
      q_tm1: `[T, *B]`, `Q(s, a)` that learns, of the states that steps start from and the actions taken there.
      q_t: `[T − 1, *B]`, `Q(s, a)` of the states that all steps but the last lead to and of the actions taken
        there. None was taken where an episode ended: what stands there has no influence.
      v_t: `[T, *B]`, `Σ_a π(a|s) Q(s, a)` of the states actually reached: at a time limit that of the final
        observation, never that of the first after the reset.
      r_t: `[T, *B]`, rewards.
      discount_t: `[T, *B]`, γ, and 0 where the episode terminated.
      log_rhos: `[T − 1, *B]`, `log π(a|s) − log μ(a|s)` of the actions of `q_t`; without influence likewise.
      lambda_: λ in [0, 1]; a scalar, `[T − 1]` or `[T − 1, *B]`.
      stop_target_gradients: the returns are constants: gradients reach `q_tm1` only.
      same_episode_t: `[T, *B]`, false where a step ended its episode, for either reason: the step bootstraps
        from `v_t`, and nothing of what comes later enters it.

    Returns:
      `[T, *B]`, float32 at least.

    Raises:
      ValueError: shapes differ, there is no step, or λ is out of range.
      TypeError: an array is not floating, or a flag is not boolean.

    >>> one = jnp.ones(2)
    >>> retrace_continuous(one, one[:1], 2.0 * one, one, one, jnp.log(0.5 * one[:1]), 1.0)
    Array([3., 2.], dtype=float32)
    """
    q_tm1, r_t, discount_t = series(q_tm1=q_tm1, r_t=r_t, discount_t=discount_t)
    check_same_shape(**{"q_tm1[:-1]": q_tm1[:-1], "q_t": q_t, "log_rhos": log_rhos})
    check_same_shape(r_t=r_t, same_episode_t=same_episode_t)
    check_flags(same_episode_t=same_episode_t)
    check_fraction(lambda_=lambda_)
    (log_rhos,) = precise(log_rhos=log_rhos)
    if same_episode_t is not None:
        log_rhos = jnp.where(same_episode_t[:-1], log_rhos, 0.0)
    log_rhos = heard(log_rhos, discount_t[:-1] != 0)
    c_t = clipped_ratio(log_rhos, 1.0) * along_time(log_rhos, lambda_=lambda_)
    target = general_off_policy_returns_from_q_and_v(q_t, v_t, r_t, discount_t, c_t, same_episode_t=same_episode_t)
    return stopped(target, stop_target_gradients) - q_tm1


def persistent_q_learning(
    q_tm1: jax.Array,
    a_tm1: jax.Array,
    r_t: jax.Array,
    discount_t: jax.Array,
    q_t: jax.Array,
    action_gap_scale: Scalar,
    stop_target_gradients: bool | jax.Array = True,
    *,
    same_episode_t: Flags | None = None,
) -> jax.Array:
    """Persistent Q-learning errors `r + γ ((1 − α) max_a q_t + α q_t(a_tm1)) − q_tm1(a_tm1)`.

    Bellemare et al. 2016, https://arxiv.org/abs/1512.04860. An error is of one step alone: nothing of
    another step enters it, so that it is right at a time limit if `q_t` is.

    Args:
      q_tm1: `[*B, A]`, action values that learn, in the states that steps start from.
      a_tm1: `[*B]`, integers, the actions taken there.
      r_t: `[*B]`, rewards.
      discount_t: `[*B]`, γ, and 0 where the episode terminated: `q_t` has no influence there, whatever it holds.
      q_t: `[*B, A]`, action values to bootstrap from, in the states actually reached: at a time limit in the final
        observation, never in the first after the reset.
      action_gap_scale: α in [0, 1].
      stop_target_gradients: the targets are constants: gradients reach `q_tm1` only.
      same_episode_t: `[*B]`, as the functions of sequences take it, so that one call may serve them all; without
        influence here.

    Returns:
      `[*B]`, float32 at least.

    Raises:
      ValueError: shapes differ, or α is out of range.
      TypeError: an array is not floating, the actions are not integers, or a flag is not boolean.

    >>> q = jnp.array([1.0, 3.0])
    >>> persistent_q_learning(q, jnp.array(0), jnp.array(1.0), jnp.array(1.0), q, 0.5)
    Array(2., dtype=float32)
    """
    check_same_shape(q_tm1=q_tm1, q_t=q_t)
    check_same_shape(**{"r_t": r_t, "discount_t": discount_t, "q_tm1[..., 0]": q_tm1[..., 0]})
    check_same_shape(r_t=r_t, same_episode_t=same_episode_t)
    check_flags(same_episode_t=same_episode_t)
    check_fraction(action_gap_scale=action_gap_scale)
    actions(r_t, a_tm1=a_tm1)
    q_tm1, r_t, discount_t, q_t = precise(q_tm1=q_tm1, r_t=r_t, discount_t=discount_t, q_t=q_t)
    (q_t,) = reached(discount_t, q_t)
    a_tm1 = jnp.asarray(a_tm1)
    v_t = (1.0 - action_gap_scale) * jnp.max(q_t, axis=-1) + action_gap_scale * taken(q_t, a_tm1)
    return stopped(r_t + scaled(discount_t, v_t), stop_target_gradients) - taken(q_tm1, a_tm1)


def _ratio_up_to_one(pi: Series, mu: Series) -> Series:
    """`min(1, π / μ)`, and 1 where both are 0; no quotient is formed that the bound would discard."""
    is_above = (pi > mu) | (mu == 0)
    return jnp.where(is_above, 1.0, pi) / jnp.where(is_above, 1.0, mu)
