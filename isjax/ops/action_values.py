"""Targets of action values: Q-learning, double Q-learning, SARSA, expected SARSA, and Q(σ).

With `v_t = expected_q(q_t, log_pi_t)` every operator of `isjax.ops` that takes `v_t` is one of action values:
`retrace`, `tree_backup`, `q_lambda`, `lambda_returns` (SARSA(λ), Peng's Q(λ)), `n_step_off_policy`. Targets are
`[T, *B]` and belong to the actions that steps start with; TD errors are `target_tm1 − at_action(q_tm1, a_tm1)`.
"""

import jax
import jax.numpy as jnp

from isjax._checks import (
    along_time,
    check_count,
    check_flags,
    check_fraction,
    check_integer,
    check_same_shape,
    precise,
    series,
)
from isjax.ops.policies import Ties, at_action, check_mask, expected_q, greedy_log_probs
from isjax.ops.q_traces import general_off_policy_q
from isjax.ops.ratios import clipped_ratio, log_ratios
from isjax.ops.recurrence import backward_affine, scaled
from isjax.ops.returns import decay, followed
from isjax.types import Flags, Scalar, Series


def q_learning_target(
    q_t: jax.Array,
    r_t: Series,
    discount_t: Series,
    *,
    selector_t: jax.Array | None = None,
    mask_t: jax.Array | None = None,
    ties: Ties = "average",
    is_valid_t: Flags | None = None,
) -> Series:
    """`r + γ max_a Q(s', a)`; with `selector_t` the target of double Q-learning.

    Watkins 1989; Sutton & Barto 2018, eq. 6.8. Double: `r + γ Q(s', argmax_a Q_selector(s', a))`, van Hasselt et al.
    2016, https://arxiv.org/abs/1509.06461, eq. 4, where the selector is the network that learns and `q_t` is the
    target network's. One step needs no importance ratio, whatever policy acted. No gradient is stopped here.

    Args:
      q_t: `[T, *B, A]`, values of all actions in the states actually reached: at a time limit in the final
        observation, never in the first one after the reset.
      r_t: `[T, *B]`, rewards.
      discount_t: `[T, *B]`, γ, and 0 where the episode terminated; there `q_t` may hold anything.
      selector_t: `[T, *B, A]`, values that choose the action; those of `q_t` if left out.
      mask_t: `[T, *B, A]`, true for the actions that are legal in the states reached; left out, all are. A state
        without any has value 0.
      ties: "average" takes the mean of what `q_t` says of equally good actions, "first" what it says of the first one.
      is_valid_t: `[T, *B]`, false for padding: such steps give 0, whatever they hold.

    Returns:
      `[T, *B]`, what `Q(s, a)` should move to, float32 at least.

    Raises:
      ValueError: shapes differ, or `ties` is unknown.
      TypeError: an array is not floating, or a flag is not boolean.

    >>> q_learning_target(jnp.array([[1.0, 2.0]]), jnp.array([0.5]), jnp.array([0.5]))
    Array([1.5], dtype=float32)
    """
    check_same_shape(q_t=q_t, selector_t=selector_t)
    selector_t = q_t if selector_t is None else selector_t
    r_t, discount_t = series(r_t=r_t, discount_t=discount_t, is_valid_t=is_valid_t)
    q_t, selector_t = over_actions(discount_t, q_t=q_t, selector_t=selector_t)
    check_mask(q_t, mask_t=mask_t)
    return r_t + scaled(discount_t, expected_q(q_t, greedy_log_probs(selector_t, mask_t, ties=ties)))


def sarsa_target(
    q_t: jax.Array, a_t: jax.Array, r_t: Series, discount_t: Series, *, is_valid_t: Flags | None = None
) -> Series:
    """`r + γ Q(s', a')` with the action `a'` that the learning policy took in the state reached.

    Sutton & Barto 2018, eq. 6.7.

    Args:
      q_t: `[T, *B, A]`, as in `q_learning_target`.
      a_t: `[T, *B]`, integers, actions taken in the states actually reached. At a time limit that is one drawn in the
        final observation, never the next episode's first: `next_action_value` takes an expectation there instead.
      r_t: `[T, *B]`, rewards.
      discount_t: `[T, *B]`, γ, and 0 where the episode terminated; there `q_t` and `a_t` may hold anything.
      is_valid_t: `[T, *B]`, false for padding: such steps give 0, whatever they hold.

    The result and the errors are those of `q_learning_target`.

    >>> sarsa_target(jnp.array([[1.0, 2.0]]), jnp.array([0]), jnp.array([0.5]), jnp.array([0.5]))
    Array([1.], dtype=float32)
    """
    r_t, discount_t = series(r_t=r_t, discount_t=discount_t, is_valid_t=is_valid_t)
    (q_t,) = over_actions(discount_t, q_t=q_t)
    check_integer(a_t=a_t)
    check_same_shape(r_t=r_t, a_t=a_t)
    return r_t + scaled(discount_t, at_action(q_t, jnp.where(discount_t == 0.0, 0, a_t)))


def expected_sarsa_target(
    q_t: jax.Array, log_pi_t: jax.Array, r_t: Series, discount_t: Series, *, is_valid_t: Flags | None = None
) -> Series:
    """`r + γ Σ_a π(a|s') Q(s', a)`: the mean of SARSA's target over the next action, for any policy π.

    Sutton & Barto 2018, eq. 6.9; van Seijen et al. 2009. One step needs no importance ratio, whatever policy acted.

    `log_pi_t` `[T, *B, A]` are log-probabilities of all actions in the states reached, under the policy to be
    evaluated. The other arguments, the result and the errors are those of `q_learning_target`.

    >>> half = jnp.log(jnp.array([[0.5, 0.5]]))
    >>> expected_sarsa_target(jnp.array([[1.0, 2.0]]), half, jnp.array([0.5]), jnp.array([0.5]))
    Array([1.25], dtype=float32)
    """
    r_t, discount_t = series(r_t=r_t, discount_t=discount_t, is_valid_t=is_valid_t)
    q_t, log_pi_t = over_actions(discount_t, q_t=q_t, log_pi_t=log_pi_t)
    return r_t + scaled(discount_t, expected_q(q_t, log_pi_t))


def next_action_value(
    q_t: jax.Array,
    a_tm1: jax.Array,
    log_pi_t: jax.Array,
    same_episode_t: Flags | None = None,
    *,
    is_valid_t: Flags | None = None,
) -> Series:
    """SARSA's `v_t` from an unroll: the value of the action that the next step took, an expectation where none is.

    What to bootstrap from in `lambda_returns` for SARSA(λ) and in `n_step_off_policy(…, kind="sarsa")`.

    Args:
      q_t: `[T, *B, A]`, values of all actions in the states actually reached.
      a_tm1: `[T, *B]`, integers, the actions that steps start with.
      log_pi_t: `[T, *B, A]`, log-probabilities of all actions in the states reached; used where no step of the same
        episode follows, which is at every end and in the last step.
      same_episode_t: `[T, *B]`, false where a step ended its episode for either reason.
      is_valid_t: `[T, *B]`, false for padding: such steps give 0, whatever they hold.

    Returns:
      `[T, *B]`, float32 at least. In a step that terminated it is of no use, and NaN where `q_t` is: its discount is 0.

    Raises:
      ValueError: shapes differ.
      TypeError: an array is not floating, a flag not boolean, or `a_tm1` does not hold integers.

    >>> q, half = jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.log(jnp.full((2, 2), 0.5))
    >>> next_action_value(q, jnp.array([0, 1]), half)
    Array([2. , 3.5], dtype=float32)
    """
    check_same_shape(q_t=q_t, log_pi_t=log_pi_t)
    check_integer(a_tm1=a_tm1)
    check_same_shape(a_tm1=a_tm1, is_valid_t=is_valid_t)
    check_flags(is_valid_t=is_valid_t)
    like = jnp.ones(jnp.shape(a_tm1)) if is_valid_t is None else jnp.where(is_valid_t, 1.0, 0.0)
    q_t, log_pi_t = over_actions(like, q_t=q_t, log_pi_t=log_pi_t)
    follows = followed(same_episode_t, like, is_valid_t)
    a_t = jnp.where(follows, jnp.roll(a_tm1, -1, axis=0), 0)
    mean = expected_q(*(jnp.where(follows[..., None], 0.0, x) for x in (q_t, log_pi_t)))
    return jnp.where(follows, at_action(q_t, a_t), mean)


def q_sigma(
    q_tm1: Series,
    v_t: Series,
    r_t: Series,
    discount_t: Series,
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    same_episode_t: Flags | None = None,
    *,
    sigma: Scalar | Series,
    n: int | None = None,
    is_valid_t: Flags | None = None,
    lambda_: Scalar | Series = 1.0,
    associative: bool | None = None,
) -> Series:
    """Q(σ): between sampling with importance ratios (σ = 1) and tree backup (σ = 0), step by step.

    Sutton & Barto 2018, eq. 7.17: `G_t = r_t + γ (v_t + (σ ρ + (1 − σ) π) (G_{t+1} − Q_{t+1}))`, where σ, ρ and π are
    those of the next action. De Asis et al. 2018, https://arxiv.org/abs/1703.01327. At σ = 1 it is
    `importance_sampled_q` (eq. 7.14), at σ = 0 `tree_backup` (eq. 7.16). Ratios saturate at `exp(80)`. No gradient is
    stopped here.

    Args:
      q_tm1: `[T, *B]`, `Q(s, a)` of the states that steps start from and the actions taken there.
      v_t: `[T, *B]`, `Σ_a π(a|s) Q(s, a)` of the states actually reached, see `expected_q`.
      r_t: `[T, *B]`, rewards.
      discount_t: `[T, *B]`, γ, and 0 where the episode terminated.
      log_pi_tm1: `[T, *B]`, log-probabilities of the actions taken, under the target policy.
      log_mu_tm1: `[T, *B]`, the same under the policy that acted.
      same_episode_t: `[T, *B]`, false where a step ended its episode for either reason. May be left out
        if no step was cut by a time limit.
      sigma: σ in [0, 1]; a scalar, `[T]` or `[T, *B]`; step t's is for the action that step t starts with.
      n: how many rewards a return sums, at least 1, as in the book; left out, all up to the episode's or the unroll's
        end. Memory grows as `n · T`.
      is_valid_t: `[T, *B]`, false for padding: such steps give 0, whatever they hold.
      lambda_: λ in [0, 1]; a scalar, `[T]` or `[T, *B]`; multiplies the trace, as in `retrace`.
      associative: how to solve the recurrence, see `backward_affine`.

    Returns:
      `[T, *B]`, the returns that `q_tm1` should move to, float32 at least.

    Raises:
      ValueError: shapes differ, or an option is out of range.
      TypeError: an array is not floating, or a flag is not boolean.

    >>> x, log_pi, log_mu = jnp.zeros(2), jnp.log(jnp.array([0.5, 0.5])), jnp.log(jnp.array([0.5, 0.25]))
    >>> [q_sigma(x, x, x + 1.0, x + 1.0, log_pi, log_mu, sigma=sigma)[0].item() for sigma in (0.0, 0.5, 1.0)]
    [1.5, 2.25, 3.0]
    """
    check_fraction(sigma=sigma)
    q_tm1, v_t, r_t, discount_t, log_pi_tm1, log_mu_tm1 = series(
        q_tm1=q_tm1,
        v_t=v_t,
        r_t=r_t,
        discount_t=discount_t,
        log_pi_tm1=log_pi_tm1,
        log_mu_tm1=log_mu_tm1,
        is_valid_t=is_valid_t,
    )
    sigma = along_time(q_tm1, sigma=sigma)
    rho = clipped_ratio(log_ratios(log_pi_tm1, log_mu_tm1), jnp.inf)
    c_tm1 = sigma * rho + (1.0 - sigma) * clipped_ratio(log_pi_tm1, 1.0)
    if n is None:
        rows = (q_tm1, v_t, r_t, discount_t, c_tm1, same_episode_t)
        return general_off_policy_q(*rows, is_valid_t=is_valid_t, lambda_=lambda_, associative=associative)
    check_count(n=n)
    c_t = jnp.concatenate([c_tm1[1:], jnp.zeros_like(c_tm1[:1])])
    gain = scaled(decay(discount_t, lambda_, same_episode_t, is_valid_t), c_t)
    return q_tm1 + _n_terms(gain, r_t + scaled(discount_t, v_t) - q_tm1, min(n, len(gain)))


def _n_terms(gain: Series, td: Series, n: int) -> Series:
    """`Σ_{k<n} (Π_{t≤i<t+k} gain_i) td_{t+k}`, where the last row's gain is 0."""
    index = jnp.minimum(jnp.arange(n)[:, None] + jnp.arange(len(gain))[None], len(gain) - 1)
    return backward_affine(gain[index], td[index])[0]


def over_actions(like: Series, **arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Arrays `[T, *B, A, ...]`, float32 at least, and 0 wherever `like` `[T, *B]` is, whatever they hold there."""
    for name, x in arrays.items():
        (x,) = precise(**{name: x})
        if x.ndim <= like.ndim or x.shape[: like.ndim] != like.shape or x.shape[like.ndim] == 0:
            shape = ", ".join([*(str(k) for k in like.shape), "A"])
            raise ValueError(f"{name} must be [T, *B, A], here [{shape}], but its shape is {list(x.shape)}.")
    counts = like != 0.0
    return tuple(
        jnp.where(counts.reshape(counts.shape + (1,) * (x.ndim - counts.ndim)), x, 0.0) for x in precise(**arrays)
    )
