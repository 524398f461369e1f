"""Losses that keep the learning policy near the one that acted: by clipping, or by a KL penalty."""

import jax
import jax.numpy as jnp

from isjax._checks import check_positive, check_same_shape, series
from isjax._renamed import takes_former_argument
from isjax.losses._rows import Rows, constant_ratio, cost, off_policy_rows, ratio
from isjax.losses.policy import surrogate_loss
from isjax.ops.diagnostics import effective_sample_size
from isjax.ops.ratios import log_ratios
from isjax.ops.reduction import count_valid, mean_over_valid
from isjax.types import Flags, Scalar, Series

BETA_RANGE = (2.0**-20, 2.0**20)
"""What `adapt_beta` keeps β within: about 1e-6 to 1e6."""


@takes_former_argument("log_prox_tm1", "log_proximal_tm1")
def ppo_clip_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    clip_epsilon: Scalar = 0.2,
    log_proximal_tm1: Series | None = None,
) -> jax.Array:
    """`−min(ρ A, clip(ρ, 1 − ε, 1 + ε) A)`, the mean over valid steps: the clipped objective of PPO.

    Schulman et al. 2017, https://arxiv.org/abs/1707.06347, eq. 7. With a proximal policy it is decoupled
    (Hilton, Cobbe & Schulman 2022, https://arxiv.org/abs/2110.00641): `−sg(π_prox / μ) min(r A, clip(r) A)`
    with `r = π / π_prox`, so that the policy that acted may be older than the one to stay near.

    Args:
      log_pi_tm1: `[T, *B]`, log-probabilities of the actions taken, under the policy that learns; gradients
        flow into these alone. A step whose action is impossible (`−inf`) adds nothing.
      log_mu_tm1: `[T, *B]`, the same under the policy that acted.
      advantage_tm1: `[T, *B]`.
      is_valid_t: `[T, *B]`; steps where it is false neither count nor get gradients.
      clip_epsilon: ε > 0.
      log_proximal_tm1: `[T, *B]`, the same under the proximal policy; left out, that is the one that acted.

    Ratios saturate at `exp(40)`, where their gradient is 0.

    Raises:
      ValueError: shapes differ, or `clip_epsilon` is not above 0.
      TypeError: an array is not floating, or `is_valid_t` not boolean.

    >>> ppo_clip_loss(jnp.log(jnp.array([1.5, 1.5])), jnp.zeros(2), jnp.array([1.0, -1.0]))
    Array(0.14999998, dtype=float32)
    """
    check_positive(clip_epsilon=clip_epsilon)
    check_same_shape(log_pi_tm1=log_pi_tm1, log_mu_tm1=log_mu_tm1, log_proximal_tm1=log_proximal_tm1)
    rows = off_policy_rows(
        log_pi_tm1, log_mu_tm1 if log_proximal_tm1 is None else log_proximal_tm1, advantage_tm1, is_valid_t
    )
    objective = clipped_objective(rows, 1.0 - clip_epsilon, 1.0 + clip_epsilon)
    if log_proximal_tm1 is not None:
        near, mu = series(log_proximal_tm1=log_proximal_tm1, log_mu_tm1=log_mu_tm1, is_valid_t=is_valid_t)
        objective = constant_ratio(log_ratios(near, mu)) * objective
    return -mean_over_valid(objective, is_valid_t)


def clipped_objective(rows: Rows, low: Scalar, high: Scalar) -> Series:
    """`min(ρ A, clip(ρ, low, high) A)`, step by step."""
    rho = ratio(rows.log_rho_tm1)
    return jnp.minimum(rho * rows.advantage_tm1, jnp.clip(rho, low, high) * rows.advantage_tm1)


def kl_penalty_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    kl_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    beta: Scalar,
) -> jax.Array:
    """`−ρ A + β KL(μ‖π)`, the mean over valid steps: PPO with a penalty in place of clipping.

    Schulman et al. 2017, https://arxiv.org/abs/1707.06347, eq. 8; `adapt_beta` chooses β as section 4 does.

    Args:
      log_pi_tm1: `[T, *B]`, log-probabilities of the actions taken, under the policy that learns. A step
        whose action is impossible (`−inf`) adds nothing to the first term.
      log_mu_tm1: `[T, *B]`, the same under the policy that acted.
      advantage_tm1: `[T, *B]`.
      kl_tm1: `[T, *B]`, `KL(μ‖π)` in the step's state, in nats, exact or an estimate. Gradients flow into
        this and into `log_pi_tm1`.
      is_valid_t: `[T, *B]`; steps where it is false neither count nor get gradients.
      beta: β, at least 0.

    Ratios saturate at `exp(40)`, where their gradient is 0.

    Raises:
      ValueError: shapes differ.
      TypeError: an array is not floating, or `is_valid_t` not boolean.

    >>> kl_penalty_loss(jnp.zeros(1), jnp.zeros(1), jnp.ones(1), jnp.array([0.5]), beta=2.0)
    Array(0., dtype=float32)
    """
    check_same_shape(log_pi_tm1=log_pi_tm1, kl_tm1=kl_tm1)
    (kl_tm1,) = series(kl_tm1=kl_tm1, is_valid_t=is_valid_t)
    surrogate = surrogate_loss(log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t)
    return surrogate + cost(beta, mean_over_valid(kl_tm1, is_valid_t))


def adapt_beta(beta: Scalar, kl: Scalar, kl_target: Scalar) -> jax.Array:
    """The next β of `kl_penalty_loss`: half where `kl < target / 1.5`, double where `kl > 1.5 target`.

    Schulman et al. 2017, https://arxiv.org/abs/1707.06347, section 4. The result stays within `2^−20` and
    `2^20`; where `kl` is NaN, β stays. Everything may be traced.

    Args:
      beta: β > 0, any shape.
      kl: the mean KL divergence that the last β led to, of the same shape.
      kl_target: the divergence aimed at, above 0.

    Raises:
      ValueError: `kl_target` is a number that is not above 0.

    >>> adapt_beta(jnp.ones(3), jnp.array([0.001, 0.01, 0.1]), 0.01)
    Array([0.5, 1. , 2. ], dtype=float32)
    """
    check_positive(kl_target=kl_target)
    factor = jnp.where(kl < kl_target / 1.5, 0.5, jnp.where(kl > 1.5 * kl_target, 2.0, 1.0))
    return jnp.clip(beta * factor, *BETA_RANGE)


def p3o_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    kl_tm1: Series | None = None,
) -> jax.Array:
    """`−sg(min(ρ, c)) A log π + λ KL(μ‖π)`, the mean over valid steps, with `c = ESS / n` and `λ = 1 − ESS / n`.

    The off-policy part of P3O, Fakoor, Chaudhari & Smola 2019, https://arxiv.org/abs/1905.01756: the
    effective sample size of the batch's own ratios sets both constants, so that there is nothing to tune.
    At π = μ it is the plain policy gradient; add `policy_gradient_loss` of fresh steps for the other part.

    Args:
      log_pi_tm1: `[T, *B]`, log-probabilities of the actions taken, under the policy that learns. A step
        whose action is impossible (`−inf`) adds nothing.
      log_mu_tm1: `[T, *B]`, the same under the policy that acted.
      advantage_tm1: `[T, *B]`.
      is_valid_t: `[T, *B]`; steps where it is false neither count nor get gradients.
      kl_tm1: `[T, *B]`, `KL(μ‖π)` in the step's state, in nats, with its gradient. Left out, it is estimated
        by `log μ − log π`, whose value and gradient are unbiased; a batch's mean may be negative.

    Raises:
      ValueError: shapes differ.
      TypeError: an array is not floating, or `is_valid_t` not boolean.

    >>> p3o_loss(jnp.array([-1.0, -2.0]), jnp.array([-1.0, -2.0]), jnp.array([1.0, 1.0]))
    Array(1.5, dtype=float32)
    """
    check_same_shape(log_pi_tm1=log_pi_tm1, kl_tm1=kl_tm1)
    rows = off_policy_rows(log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t)
    log_rho = jax.lax.stop_gradient(rows.log_rho_tm1)
    ess = effective_sample_size(log_rho, None, where=is_valid_t)
    share = jnp.minimum(ess / count_valid(log_rho, is_valid_t), 1.0)
    policy = mean_over_valid(-constant_ratio(log_rho, share) * rows.advantage_tm1 * rows.log_pi_tm1, is_valid_t)
    if kl_tm1 is None:
        kl = jnp.where(rows.possible_tm1, -rows.log_rho_tm1, 0.0)
    else:
        (kl,) = series(kl_tm1=kl_tm1, is_valid_t=is_valid_t)
    return policy + cost(1.0 - share, mean_over_valid(kl, is_valid_t))
