"""Whole losses: what an agent differentiates, from its own log-probabilities and values."""

import jax

from isjax._checks import check_same_shape
from isjax.losses.policy import entropy_loss, policy_gradient_loss
from isjax.losses.value import value_loss
from isjax.ops.diagnostics import ratio_diagnostics
from isjax.ops.ratios import log_ratios
from isjax.ops.vtrace import vtrace
from isjax.types import Flags, Metrics, Scalar, Series


def impala_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    v_tm1: Series,
    v_t: Series,
    r_t: Series,
    discount_t: Series,
    same_episode_t: Flags | None = None,
    entropy_tm1: Series | None = None,
    *,
    is_valid_t: Flags | None = None,
    lambda_: Scalar | Series = 1.0,
    clip_rho: Scalar = 1.0,
    clip_c: Scalar = 1.0,
    clip_pg_rho: Scalar = 1.0,
    value_cost: Scalar = 1.0,
    entropy_cost: Scalar = 0.01,
) -> tuple[jax.Array, Metrics]:
    """IMPALA's loss: V-trace policy gradient + `½ (v_s − V)²` − entropy, each the mean over valid rows.

    Espeholt et al. 2018, https://arxiv.org/abs/1802.01561, section 4.2. Gradients flow into
    `log_pi_tm1`, `v_tm1` and `entropy_tm1`; targets, advantages and ratios are constants.

    Args:
      log_pi_tm1: `[T, *B]`, log-probabilities of the actions taken, under the policy that learns.
      log_mu_tm1: `[T, *B]`, the same under the policy that acted; stored when it acted.
      v_tm1: `[T, *B]`, values of the states that rows start from.
      v_t: `[T, *B]`, values of the states actually reached: at a time limit that of the final
        observation, never that of the first observation after the reset.
      r_t: `[T, *B]`, rewards.
      discount_t: `[T, *B]`, γ, and 0 where the episode terminated (see `ops.endings`).
      same_episode_t: `[T, *B]`, false where a row ended its episode for either reason. May be left out
        if no row was cut by a time limit.
      entropy_tm1: `[T, *B]`, entropies of the learning policy, in nats; left out, there is no bonus.
      is_valid_t: `[T, *B]`, false for padding: such rows neither count nor get gradients.
      lambda_: λ in [0, 1]; a scalar, `[T]` or `[T, *B]`.
      clip_rho: ρ̄ > 0.
      clip_c: c̄ > 0.
      clip_pg_rho: bound of the policy gradient's ratio.
      value_cost: factor of the value loss.
      entropy_cost: factor of the entropy.

    Returns:
      The scalar loss, and metrics: `loss/policy`, `loss/value`, `loss/entropy` (the mean entropy itself)
      and `ratio/…` (see `ops.ratio_diagnostics`).

    Raises:
      ValueError: shapes differ, or an option is out of range.
      TypeError: an array is not floating, or a flag is not boolean.

    >>> x = jnp.zeros((5, 2))
    >>> loss, metrics = impala_loss(x, x, x, x, x + 1.0, x + 0.99)
    >>> loss.shape, metrics["ratio/ess_fraction"]
    ((), Array(1., dtype=float32))
    """
    check_same_shape(log_pi_tm1=log_pi_tm1, entropy_tm1=entropy_tm1)
    log_rho_tm1 = jax.lax.stop_gradient(log_ratios(log_pi_tm1, log_mu_tm1))
    corrected = vtrace(
        v_tm1,
        v_t,
        r_t,
        discount_t,
        log_rho_tm1,
        same_episode_t,
        is_valid_t=is_valid_t,
        lambda_=lambda_,
        clip_rho=clip_rho,
        clip_c=clip_c,
        clip_pg_rho=clip_pg_rho,
    )
    policy = policy_gradient_loss(log_pi_tm1, corrected.advantage_tm1, is_valid_t)
    value = value_loss(v_tm1, corrected.target_tm1, is_valid_t)
    loss = policy + value_cost * value
    metrics = {"loss/policy": policy, "loss/value": value}
    if entropy_tm1 is not None:
        minus_entropy = entropy_loss(entropy_tm1, is_valid_t)
        loss = loss + entropy_cost * minus_entropy
        metrics["loss/entropy"] = -minus_entropy
    diagnostics = ratio_diagnostics(log_rho_tm1, clip_rho=clip_rho, clip_c=clip_c, is_valid=is_valid_t)
    metrics |= {f"ratio/{name}": x for name, x in diagnostics.items()}
    return loss, jax.lax.stop_gradient(metrics)
