"""Policy losses that correct the states too: each step weighs the product of ratios that led to it."""

import jax
import jax.numpy as jnp

from isjax._checks import check_flags, check_positive, check_same_shape, series
from isjax.losses._rows import constant_ratio, off_policy_rows
from isjax.losses.policy import policy_gradient_loss
from isjax.ops.ratios import log_ratios, product_of_ratios
from isjax.ops.recurrence import backward_affine, scaled
from isjax.ops.reduction import mean_over_valid
from isjax.ops.weights import normalized_weights
from isjax.types import Flags, Scalar, Series


def product_of_ratios_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    same_episode_t: Flags | None = None,
    is_valid_t: Flags | None = None,
    *,
    truncation: Scalar | None = None,
    self_normalized: bool = False,
) -> jax.Array:
    """`−sg(ρ_{0:t}) A_t log π(a_t|s_t)`, the mean over valid steps: the off-policy policy gradient.

    `ρ_{0:t}` is the product of the ratios of the step's episode so far. With steps that start where episodes
    do and `A_t` the reward-to-go `Σ_{k≥t} γ^{k−t} r_{k+1} ρ_{t+1:k}`, or an action value of π, the gradient
    is unbiased; a baseline that depends on the state alone may be subtracted and leaves it so. With the
    plain reward-to-go `Σ_{k≥t} γ^{k−t} r_{k+1}`, what follows the step is valued as the old policy continued.
    As is the custom, a step's own `γ^t` is left out; put it into `A_t` for the gradient of the discounted
    return. The mean over steps is the sum over time divided by the mean number of steps of an episode.

    Args:
      log_pi_tm1: `[T, *B]`, log-probabilities of the actions taken, under the policy that learns; gradients
        flow into these alone. A step whose action is impossible (`−inf`) adds nothing, and nothing after it
        in its episode does if μ took it.
      log_mu_tm1: `[T, *B]`, the same under the policy that acted.
      advantage_tm1: `[T, *B]`, reward-to-go or action value of the step, less a baseline or not.
      same_episode_t: `[T, *B]`, false where a step ended its episode for either reason: the next one starts a
        new product. Left out, every stream is a single episode.
      is_valid_t: `[T, *B]`; steps where it is false neither count nor get gradients; their factor is one.
      truncation: bounds the products (Ionides 2008), above 0; left out, they saturate at `exp(40)` only.
      self_normalized: divides the products of a step by their mean over its streams (axes `*B`), after
        truncation: biased, consistent, never overflows; equal to one everywhere where there is one stream.

    Raises:
      ValueError: shapes differ, or `truncation` is not above 0.
      TypeError: an array is not floating, or a flag is not boolean.

    >>> log_pi, log_mu = jnp.log(jnp.array([0.5, 0.5])), jnp.log(jnp.array([0.25, 0.25]))
    >>> jax.grad(product_of_ratios_loss)(log_pi, log_mu, jnp.ones(2))
    Array([-1., -2.], dtype=float32)
    """
    check_positive(truncation=truncation)
    rows = off_policy_rows(log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t)
    weight = _products(rows.log_rho_tm1, same_episode_t, is_valid_t, truncation, self_normalized)
    return mean_over_valid(-weight * rows.advantage_tm1 * rows.log_pi_tm1, is_valid_t)


def per_decision_policy_gradient_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    r_t: Series,
    discount_t: Series,
    same_episode_t: Flags | None = None,
    is_valid_t: Flags | None = None,
    *,
    baseline_tm1: Series | None = None,
    truncation: Scalar | None = None,
    self_normalized: bool = False,
) -> jax.Array:
    """`−sg(Σ_{k≥t} γ^{k−t} ρ_{0:k} r_{k+1} − ρ_{0:t} b_t) log π(a_t|s_t)`, the mean over valid steps.

    The policy gradient with each reward weighted by the ratios of the actions before it and no others
    (Precup, Sutton & Singh 2000), as a sum over steps of rewards-to-go. Unbiased where steps start as episodes
    do: for the undiscounted return, or for a discounted one whose states count alike at every time, as is
    the custom (the factor `γ^t` of the step itself is left out).

    Args:
      log_pi_tm1: `[T, *B]`, log-probabilities of the actions taken, under the policy that learns; gradients
        flow into these alone. A step whose action is impossible (`−inf`) adds nothing.
      log_mu_tm1: `[T, *B]`, the same under the policy that acted.
      r_t: `[T, *B]`, rewards. Where a time limit or the unroll's end cuts an episode, add the discounted
        value of the state reached to the last one.
      discount_t: `[T, *B]`, γ, and 0 where the episode terminated.
      same_episode_t: `[T, *B]`, false where a step ended its episode for either reason: products and returns
        stop there. Left out, every stream is a single episode.
      is_valid_t: `[T, *B]`; steps where it is false neither count nor get gradients.
      baseline_tm1: `[T, *B]`, a function of the state the step starts from; constant.
      truncation: bounds the products, as in `product_of_ratios_loss`.
      self_normalized: divides the products of a step by their mean over its streams, likewise.

    Raises:
      ValueError: shapes differ, or `truncation` is not above 0.
      TypeError: an array is not floating, or a flag is not boolean.

    >>> log_pi, log_mu = jnp.log(jnp.array([0.5, 0.5])), jnp.log(jnp.array([0.25, 0.25]))
    >>> jax.grad(per_decision_policy_gradient_loss)(log_pi, log_mu, jnp.ones(2), jnp.ones(2))
    Array([-3., -2.], dtype=float32)
    """
    check_positive(truncation=truncation)
    check_same_shape(log_pi_tm1=log_pi_tm1, baseline_tm1=baseline_tm1)
    log_pi_tm1, log_mu_tm1, r_t, discount_t = series(
        log_pi_tm1=log_pi_tm1, log_mu_tm1=log_mu_tm1, r_t=r_t, discount_t=discount_t, is_valid_t=is_valid_t
    )
    weight = _products(log_ratios(log_pi_tm1, log_mu_tm1), same_episode_t, is_valid_t, truncation, self_normalized)
    gain = discount_t if same_episode_t is None else jnp.where(same_episode_t, discount_t, 0.0)
    advantage = backward_affine(gain, scaled(weight, r_t))
    if baseline_tm1 is not None:
        (baseline_tm1,) = series(baseline_tm1=baseline_tm1, is_valid_t=is_valid_t)
        advantage = advantage - scaled(weight, baseline_tm1)
    return policy_gradient_loss(log_pi_tm1, advantage, is_valid_t)


def _products(
    log_rho_tm1: Series,
    same_episode_t: Flags | None,
    is_valid_t: Flags | None,
    truncation: Scalar | None,
    self_normalized: bool,
) -> Series:
    """The constant weights `ρ_{0:t}`, truncated and normalized as asked for."""
    check_same_shape(log_pi_tm1=log_rho_tm1, same_episode_t=same_episode_t)
    check_flags(same_episode_t=same_episode_t)
    log_weight = product_of_ratios(jax.lax.stop_gradient(log_rho_tm1), is_valid_t, same_episode_t=same_episode_t)
    if not self_normalized:
        return constant_ratio(log_weight, truncation)
    if truncation is not None:
        log_weight = jnp.minimum(log_weight, jnp.log(truncation))
    streams = tuple(range(1, log_weight.ndim))
    valid = jnp.ones(log_weight.shape, bool) if is_valid_t is None else is_valid_t
    return normalized_weights(log_weight, streams, where=valid) * jnp.sum(valid, streams, keepdims=True)
