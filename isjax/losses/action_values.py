"""Regression of action values on their targets: Q-learning, SARSA, expected SARSA, double Q-learning, Q(σ).

All of them are `action_value_loss` of a target of `isjax.ops`, which any other target goes into as well:
`action_value_loss(q_tm1, a_tm1, ops.retrace(…))`.
"""

import jax
import jax.numpy as jnp

from isjax._checks import check_integer, check_positive, check_same_shape, series
from isjax.losses.value import weighted_mean
from isjax.ops.action_values import Ties, expected_sarsa_target, over_actions, q_learning_target, q_sigma, sarsa_target
from isjax.ops.policies import at_action, expected_q
from isjax.types import Flags, Scalar, Series


def action_value_loss(
    q_tm1: jax.Array,
    a_tm1: jax.Array,
    target_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    huber: Scalar | None = None,
    weight_tm1: Series | None = None,
) -> jax.Array:
    """`½ (target − Q(s, a))²`, or its Huber form, the mean over valid steps.

    Args:
      q_tm1: `[T, *B, A]`, values of all actions in the states that steps start from; gradients flow into those of the
        actions taken alone, and what the others are has no influence.
      a_tm1: `[T, *B]`, integers in [0, A), the actions taken.
      target_tm1: `[T, *B]`, what `Q(s, a)` should become; constant.
      is_valid_t: `[T, *B]`; steps where it is false neither count nor get gradients.
      huber: κ > 0: errors beyond it cost `κ (|error| − κ / 2)` (Huber 1964), their gradient is κ at most. Left out,
        all are squared; 1 is the error clipping of DQN (Mnih et al. 2015).
      weight_tm1: `[T, *B]`, factors of the steps, constant: the importance weights `(N P)^−β` of prioritized replay
        (Schaul et al. 2016, https://arxiv.org/abs/1511.05952, section 3.4), say. The mean is taken over steps, not
        over weights.

    Raises:
      ValueError: shapes differ, or `huber` is not above 0.
      TypeError: an array is not floating, a flag not boolean, or actions are not integers.

    >>> q, a, target = jnp.array([[0.0, 1.0], [2.0, 0.0]]), jnp.array([1, 0]), jnp.array([2.0, 5.0])
    >>> action_value_loss(q, a, target), action_value_loss(q, a, target, huber=1.0)
    (Array(2.5, dtype=float32), Array(1.5, dtype=float32))
    """
    check_positive(huber=huber)
    check_integer(a_tm1=a_tm1)
    check_same_shape(target_tm1=target_tm1, a_tm1=a_tm1)
    (target_tm1,) = series(target_tm1=target_tm1, is_valid_t=is_valid_t)
    taken = taken_action(a_tm1, is_valid_t, q_tm1=q_tm1)
    error = jax.lax.stop_gradient(target_tm1) - taken
    return weighted_mean(half_squared(error, huber), weight_tm1, is_valid_t)


def q_learning_loss(
    q_tm1: jax.Array,
    a_tm1: jax.Array,
    q_t: jax.Array,
    r_t: Series,
    discount_t: Series,
    is_valid_t: Flags | None = None,
    *,
    mask_t: jax.Array | None = None,
    huber: Scalar | None = None,
    weight_tm1: Series | None = None,
) -> jax.Array:
    """`½ (r + γ max_a Q(s', a) − Q(s, a))²`, the mean over valid steps: Q-learning's and DQN's loss.

    Watkins 1989; Sutton & Barto 2018, eq. 6.8; with a target network's `q_t` Mnih et al. 2015.

    Args:
      q_tm1: `[T, *B, A]`, as in `action_value_loss`; gradients flow into this alone.
      a_tm1: `[T, *B]`, integers in [0, A), the actions taken.
      q_t: `[T, *B, A]`, values of all actions in the states actually reached, of the same network or a target network:
        at a time limit in the final observation, never in the first one after the reset. Constant.
      r_t: `[T, *B]`, rewards.
      discount_t: `[T, *B]`, γ, and 0 where the episode terminated; there `q_t` may hold anything.
      is_valid_t: `[T, *B]`; steps where it is false neither count nor get gradients.
      mask_t: `[T, *B, A]`, true for the actions that are legal in the states reached; left out, all are.
      huber: see `action_value_loss`.
      weight_tm1: see `action_value_loss`.

    Raises:
      ValueError: shapes differ, or an option is out of range.
      TypeError: an array is not floating, a flag not boolean, or actions are not integers.

    >>> q = jnp.array([[0.0, 1.0]])
    >>> q_learning_loss(q, jnp.array([0]), q, jnp.array([0.5]), jnp.array([0.5]))
    Array(0.5, dtype=float32)
    """
    check_same_shape(q_tm1=q_tm1, q_t=q_t)
    target_tm1 = q_learning_target(q_t, r_t, discount_t, mask_t=mask_t, is_valid_t=is_valid_t)
    return action_value_loss(q_tm1, a_tm1, target_tm1, is_valid_t, huber=huber, weight_tm1=weight_tm1)


def double_q_learning_loss(
    q_tm1: jax.Array,
    a_tm1: jax.Array,
    q_t: jax.Array,
    selector_t: jax.Array,
    r_t: Series,
    discount_t: Series,
    is_valid_t: Flags | None = None,
    *,
    mask_t: jax.Array | None = None,
    ties: Ties = "average",
    huber: Scalar | None = None,
    weight_tm1: Series | None = None,
) -> jax.Array:
    """`½ (r + γ Q⁻(s', argmax_a Q(s', a)) − Q(s, a))²`, the mean over valid steps: double DQN's loss.

    van Hasselt et al. 2016, https://arxiv.org/abs/1509.06461, eq. 4.

    `q_t` `[T, *B, A]` are the target network's values in the states reached, and `selector_t` `[T, *B, A]` those of the
    network that learns, which choose the action; both constant. `ties` says what counts where it finds several best
    actions: "average" takes the mean of their values, "first" that of the first one. The other arguments and the
    errors are those of `q_learning_loss`.

    >>> q, target = jnp.array([[0.0, 1.0]]), jnp.array([[3.0, 2.0]])
    >>> double_q_learning_loss(q, jnp.array([0]), target, q, jnp.array([0.0]), jnp.array([0.5]))
    Array(0.5, dtype=float32)
    """
    check_same_shape(q_tm1=q_tm1, q_t=q_t)
    target_tm1 = q_learning_target(
        q_t, r_t, discount_t, selector_t=selector_t, mask_t=mask_t, ties=ties, is_valid_t=is_valid_t
    )
    return action_value_loss(q_tm1, a_tm1, target_tm1, is_valid_t, huber=huber, weight_tm1=weight_tm1)


def sarsa_loss(
    q_tm1: jax.Array,
    a_tm1: jax.Array,
    q_t: jax.Array,
    a_t: jax.Array,
    r_t: Series,
    discount_t: Series,
    is_valid_t: Flags | None = None,
    *,
    huber: Scalar | None = None,
    weight_tm1: Series | None = None,
) -> jax.Array:
    """`½ (r + γ Q(s', a') − Q(s, a))²`, the mean over valid steps: SARSA's loss, on-policy.

    Sutton & Barto 2018, eq. 6.7.

    `a_t` `[T, *B]` are the actions taken in the states actually reached: at a time limit one drawn in the final
    observation, never the first of the next episode. The other arguments and the errors are those of `q_learning_loss`.

    >>> q, a = jnp.array([[0.0, 1.0]]), jnp.array([0])
    >>> sarsa_loss(q, a, q, a + 1, jnp.array([0.5]), jnp.array([0.5]))
    Array(0.5, dtype=float32)
    """
    check_same_shape(q_tm1=q_tm1, q_t=q_t)
    target_tm1 = sarsa_target(q_t, a_t, r_t, discount_t, is_valid_t=is_valid_t)
    return action_value_loss(q_tm1, a_tm1, target_tm1, is_valid_t, huber=huber, weight_tm1=weight_tm1)


def expected_sarsa_loss(
    q_tm1: jax.Array,
    a_tm1: jax.Array,
    q_t: jax.Array,
    log_pi_t: jax.Array,
    r_t: Series,
    discount_t: Series,
    is_valid_t: Flags | None = None,
    *,
    huber: Scalar | None = None,
    weight_tm1: Series | None = None,
) -> jax.Array:
    """`½ (r + γ Σ_a π(a|s') Q(s', a) − Q(s, a))²`, the mean over valid steps: expected SARSA's loss.

    Sutton & Barto 2018, eq. 6.9; off-policy for any π, without a ratio.

    `log_pi_t` `[T, *B, A]` are log-probabilities of all actions in the states reached, under the policy to be
    evaluated (`ops.epsilon_greedy_log_probs`, `ops.softmax_log_probs`), constant. The other arguments and the errors
    are those of `q_learning_loss`.

    >>> q, half = jnp.array([[0.0, 1.0]]), jnp.log(jnp.array([[0.5, 0.5]]))
    >>> expected_sarsa_loss(q, jnp.array([0]), q, half, jnp.array([0.75]), jnp.array([0.5]))
    Array(0.5, dtype=float32)
    """
    check_same_shape(q_tm1=q_tm1, q_t=q_t)
    target_tm1 = expected_sarsa_target(q_t, log_pi_t, r_t, discount_t, is_valid_t=is_valid_t)
    return action_value_loss(q_tm1, a_tm1, target_tm1, is_valid_t, huber=huber, weight_tm1=weight_tm1)


def q_sigma_loss(
    q_tm1: jax.Array,
    a_tm1: jax.Array,
    q_t: jax.Array,
    log_pi_t: jax.Array,
    r_t: Series,
    discount_t: Series,
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    same_episode_t: Flags | None = None,
    is_valid_t: Flags | None = None,
    *,
    sigma: Scalar | Series,
    n: int | None = None,
    lambda_: Scalar | Series = 1.0,
    huber: Scalar | None = None,
    weight_tm1: Series | None = None,
) -> jax.Array:
    """`½ (G − Q(s, a))²` with Q(σ)'s return `G`, the mean over valid steps; tree backup at σ = 0.

    Sutton & Barto 2018, eq. 7.17, off-policy; see `ops.q_sigma`.

    Args:
      q_tm1: `[T, *B, A]`, as in `action_value_loss`; gradients flow into this alone, and not through the return.
      a_tm1: `[T, *B]`, integers in [0, A), the actions taken.
      q_t: `[T, *B, A]`, values of all actions in the states actually reached, of the same network or a target network.
      log_pi_t: `[T, *B, A]`, log-probabilities of all actions in the states reached, under the target policy.
      r_t: `[T, *B]`, rewards.
      discount_t: `[T, *B]`, γ, and 0 where the episode terminated; there `q_t` and `log_pi_t` may hold anything.
      log_pi_tm1: `[T, *B]`, log-probabilities of the actions taken, under the target policy.
      log_mu_tm1: `[T, *B]`, the same under the policy that acted.
      same_episode_t: `[T, *B]`, false where a step ended its episode for either reason.
      is_valid_t: `[T, *B]`; steps where it is false neither count nor get gradients.
      sigma: σ in [0, 1], see `ops.q_sigma`, as the next two.
      n: how many rewards a return sums; left out, all that there are.
      lambda_: λ in [0, 1], another factor of the trace.
      huber: see `action_value_loss`.
      weight_tm1: see `action_value_loss`.

    Raises:
      ValueError: shapes differ, or an option is out of range.
      TypeError: an array is not floating, a flag not boolean, or actions are not integers.

    >>> q, a, half = jnp.zeros((2, 2)), jnp.array([0, 1]), jnp.log(jnp.full((2, 2), 0.5))
    >>> one = jnp.ones(2)
    >>> q_sigma_loss(q, a, q, half, one, one, half[:, 0], half[:, 1], sigma=1.0)
    Array(1.25, dtype=float32)
    """
    check_same_shape(q_tm1=q_tm1, q_t=q_t, log_pi_t=log_pi_t)
    r_t, discount_t = series(r_t=r_t, discount_t=discount_t, is_valid_t=is_valid_t)
    q_t, log_pi_t = over_actions(discount_t, q_t=q_t, log_pi_t=log_pi_t)
    target_tm1 = q_sigma(
        jax.lax.stop_gradient(taken_action(a_tm1, is_valid_t, q_tm1=q_tm1)),
        expected_q(q_t, log_pi_t),
        r_t,
        discount_t,
        log_pi_tm1,
        log_mu_tm1,
        same_episode_t,
        sigma=sigma,
        n=n,
        is_valid_t=is_valid_t,
        lambda_=lambda_,
    )
    return action_value_loss(q_tm1, a_tm1, target_tm1, is_valid_t, huber=huber, weight_tm1=weight_tm1)


def taken_action(a_tm1: jax.Array, is_valid_t: Flags | None, **x_tm1: jax.Array) -> jax.Array:
    """Of the one array `[T, *B, A, ...]` what belongs to the actions taken, `[T, *B, ...]`; 0 in padding."""
    check_integer(a_tm1=a_tm1)
    check_same_shape(a_tm1=a_tm1, is_valid_t=is_valid_t)
    counts = jnp.ones(jnp.shape(a_tm1)) if is_valid_t is None else jnp.where(is_valid_t, 1.0, 0.0)
    (x,) = over_actions(counts, **x_tm1)
    return at_action(x, jnp.where(counts == 0.0, 0, a_tm1))


def half_squared(error: jax.Array, huber: Scalar | None) -> jax.Array:
    """`½ error²` up to κ, `κ (|error| − κ / 2)` beyond it."""
    if huber is None:
        return 0.5 * jnp.square(error)
    size = jnp.abs(error)
    near = jnp.minimum(size, jnp.asarray(huber, size.dtype))
    return 0.5 * jnp.square(near) + huber * (size - near)
