"""Whole losses: what an agent differentiates, from its own log-probabilities and values."""

import math
from typing import Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp

from isjax._checks import check_positive, check_same_shape, series
from isjax._renamed import takes_former_argument
from isjax.losses._rows import constant_ratio, cost
from isjax.losses.policy import entropy_loss, policy_gradient_loss
from isjax.losses.proximal import ppo_clip_loss
from isjax.losses.value import clipped_value_loss, value_loss
from isjax.ops.diagnostics import ratio_diagnostics
from isjax.ops.ratios import log_ratios
from isjax.ops.recurrence import scaled
from isjax.ops.reduction import mean_over_valid
from isjax.ops.vtrace import vtrace
from isjax.types import Flags, Metrics, Scalar, Series

Correction: TypeAlias = Literal["v-trace", "one-step", "epsilon", "none"]
"""The four off-policy corrections that Espeholt et al. 2018 compare."""


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
    correction: Correction = "v-trace",
    weight_tm1: Series | None = None,
) -> tuple[jax.Array, Metrics]:
    """IMPALA's loss: V-trace policy gradient + `½ (v_s − V)²` − entropy, each the mean over valid steps.

    Espeholt et al. 2018, https://arxiv.org/abs/1802.01561, section 4.2. Gradients flow into
    `log_pi_tm1`, `v_tm1` and `entropy_tm1`; targets, advantages and ratios are constants.

    Args:
      log_pi_tm1: `[T, *B]`, log-probabilities of the actions taken, under the policy that learns.
      log_mu_tm1: `[T, *B]`, the same under the policy that acted; stored when it acted.
      v_tm1: `[T, *B]`, values of the states that steps start from.
      v_t: `[T, *B]`, values of the states actually reached: at a time limit that of the final
        observation, never that of the first observation after the reset.
      r_t: `[T, *B]`, rewards.
      discount_t: `[T, *B]`, γ, and 0 where the episode terminated (see `ops.endings`).
      same_episode_t: `[T, *B]`, false where a step ended its episode for either reason. May be left out
        if no step was cut by a time limit.
      entropy_tm1: `[T, *B]`, entropies of the learning policy, in nats; left out, there is no bonus.
      is_valid_t: `[T, *B]`, false for padding: such steps neither count nor get gradients.
      lambda_: λ in [0, 1]; a scalar, `[T]` or `[T, *B]`.
      clip_rho: ρ̄ > 0.
      clip_c: c̄ > 0.
      clip_pg_rho: bound of the policy gradient's ratio.
      value_cost: factor of the value loss.
      entropy_cost: factor of the entropy.
      correction: "v-trace", or one of the variants of section 5.2.2 to compare with, whose targets are
        on-policy n-step returns (λ-returns for λ < 1). "none": the plain policy gradient. "epsilon": the same
        of `log(π + 1e−6)`. "one-step": the advantage times the step's own ratio, which `clip_pg_rho` bounds
        (`inf` for the paper's). The other two bounds play no part in them.
      weight_tm1: `[T, *B]`, factors of the steps' shares of the policy's and the value's loss, constant: with those of
        `ops.emphasis` this is an emphatic actor-critic (Imani et al. 2018; Jiang et al. 2021).

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
    check_positive(clip_rho=clip_rho, clip_c=clip_c, clip_pg_rho=clip_pg_rho)
    if correction not in get_args(Correction):
        raise ValueError(f"correction must be one of {', '.join(get_args(Correction))}, but it is {correction!r}.")
    log_rho_tm1 = jax.lax.stop_gradient(log_ratios(log_pi_tm1, log_mu_tm1))
    bounds = (clip_rho, clip_c, clip_pg_rho) if correction == "v-trace" else (1.0, 1.0, 1.0)
    corrected = vtrace(
        v_tm1,
        v_t,
        r_t,
        discount_t,
        log_rho_tm1 if correction == "v-trace" else jnp.zeros_like(log_rho_tm1),
        same_episode_t,
        is_valid_t=is_valid_t,
        lambda_=lambda_,
        clip_rho=bounds[0],
        clip_c=bounds[1],
        clip_pg_rho=bounds[2],
    )
    advantage_tm1 = corrected.advantage_tm1
    if correction == "one-step":
        advantage_tm1 = constant_ratio(log_rho_tm1, clip_pg_rho) * advantage_tm1
    elif correction == "epsilon":
        log_pi_tm1 = _floored(log_pi_tm1, is_valid_t)
    if weight_tm1 is not None:
        check_same_shape(log_pi_tm1=log_pi_tm1, weight_tm1=weight_tm1)
        (weight_tm1,) = series(weight_tm1=weight_tm1, is_valid_t=is_valid_t)
        advantage_tm1 = scaled(weight_tm1, advantage_tm1)
    policy = policy_gradient_loss(log_pi_tm1, advantage_tm1, is_valid_t)
    value = value_loss(v_tm1, corrected.target_tm1, is_valid_t, weight_tm1=weight_tm1)
    diagnostics = ratio_diagnostics(log_rho_tm1, clip_rho=clip_rho, clip_c=clip_c, is_valid=is_valid_t)
    return _total(policy, value, entropy_tm1, is_valid_t, value_cost, entropy_cost, diagnostics)


def a2c_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    v_tm1: Series,
    target_tm1: Series,
    entropy_tm1: Series | None = None,
    *,
    is_valid_t: Flags | None = None,
    value_cost: Scalar = 1.0,
    entropy_cost: Scalar = 0.01,
) -> tuple[jax.Array, Metrics]:
    """A2C's loss, `−A log π + ½ (target − V)²` − entropy, each the mean over valid steps: no correction at all.

    Mnih et al. 2016, https://arxiv.org/abs/1602.01783. Right for steps of the learning policy itself; the
    metrics show how far the steps are from that. Gradients flow into `log_pi_tm1`, `v_tm1` and `entropy_tm1`.

    Args:
      log_pi_tm1: `[T, *B]`, log-probabilities of the actions taken, under the policy that learns.
      log_mu_tm1: `[T, *B]`, the same under the policy that acted; for the metrics only.
      advantage_tm1: `[T, *B]`, as `ops.gae` gives them.
      v_tm1: `[T, *B]`, values of the states that steps start from.
      target_tm1: `[T, *B]`, what the values should become.
      entropy_tm1: `[T, *B]`, entropies of the learning policy, in nats; left out, there is no bonus.
      is_valid_t: `[T, *B]`, false for padding: such steps neither count nor get gradients.
      value_cost: factor of the value loss.
      entropy_cost: factor of the entropy.

    Returns:
      The scalar loss, and the metrics of `impala_loss`.

    Raises:
      ValueError: shapes differ.
      TypeError: an array is not floating, or `is_valid_t` not boolean.

    >>> a2c_loss(jnp.zeros(2) - 1.0, jnp.zeros(2) - 1.0, jnp.ones(2), jnp.zeros(2), jnp.ones(2))[0]
    Array(1.5, dtype=float32)
    """
    check_same_shape(log_pi_tm1=log_pi_tm1, v_tm1=v_tm1, entropy_tm1=entropy_tm1)
    policy = policy_gradient_loss(log_pi_tm1, advantage_tm1, is_valid_t)
    value = value_loss(v_tm1, target_tm1, is_valid_t)
    log_rho_tm1 = jax.lax.stop_gradient(log_ratios(log_pi_tm1, log_mu_tm1))
    diagnostics = ratio_diagnostics(log_rho_tm1, is_valid=is_valid_t)
    return _total(policy, value, entropy_tm1, is_valid_t, value_cost, entropy_cost, diagnostics)


@takes_former_argument("log_prox_tm1", "log_proximal_tm1")
def ppo_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    v_tm1: Series,
    target_tm1: Series,
    entropy_tm1: Series | None = None,
    *,
    is_valid_t: Flags | None = None,
    clip_epsilon: Scalar = 0.2,
    log_proximal_tm1: Series | None = None,
    v_old_tm1: Series | None = None,
    value_cost: Scalar = 1.0,
    entropy_cost: Scalar = 0.01,
) -> tuple[jax.Array, Metrics]:
    """PPO's loss: `ppo_clip_loss` + `½ (target − V)²` − entropy, each the mean over valid steps.

    Schulman et al. 2017, https://arxiv.org/abs/1707.06347, eq. 9. Gradients flow into `log_pi_tm1`, `v_tm1`
    and `entropy_tm1`.

    Args:
      log_pi_tm1: `[T, *B]`, log-probabilities of the actions taken, under the policy that learns.
      log_mu_tm1: `[T, *B]`, the same under the policy that acted.
      advantage_tm1: `[T, *B]`.
      v_tm1: `[T, *B]`, values of the states that steps start from.
      target_tm1: `[T, *B]`, what the values should become.
      entropy_tm1: `[T, *B]`, entropies of the learning policy, in nats; left out, there is no bonus.
      is_valid_t: `[T, *B]`, false for padding: such steps neither count nor get gradients.
      clip_epsilon: ε > 0, of the ratio and, with `v_old_tm1`, of the values.
      log_proximal_tm1: `[T, *B]`, log-probabilities under the proximal policy, see `ppo_clip_loss`.
      v_old_tm1: `[T, *B]`, values when the steps were collected: then the value loss is `clipped_value_loss`.
      value_cost: factor of the value loss.
      entropy_cost: factor of the entropy.

    Returns:
      The scalar loss, and the metrics of `impala_loss`; their bounds are `1 + ε`. `ratio/clipped` is the share
      of steps whose ratio, of π to the policy to stay near, is outside `[1 − ε, 1 + ε]`.

    Raises:
      ValueError: shapes differ, or `clip_epsilon` is not above 0.
      TypeError: an array is not floating, or `is_valid_t` not boolean.

    >>> x = jnp.zeros(2)
    >>> loss, metrics = ppo_loss(jnp.log(jnp.array([1.5, 1.0])), x, x + 1.0, x, x + 1.0)
    >>> loss, metrics["ratio/clipped"]
    (Array(-0.6, dtype=float32), Array(0.5, dtype=float32))
    """
    check_same_shape(log_pi_tm1=log_pi_tm1, v_tm1=v_tm1, entropy_tm1=entropy_tm1)
    policy = ppo_clip_loss(
        log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t, clip_epsilon=clip_epsilon, log_proximal_tm1=log_proximal_tm1
    )
    if v_old_tm1 is None:
        value = value_loss(v_tm1, target_tm1, is_valid_t)
    else:
        value = clipped_value_loss(v_tm1, v_old_tm1, target_tm1, is_valid_t, clip_epsilon=clip_epsilon)
    bound = 1.0 + clip_epsilon
    log_rho_tm1 = jax.lax.stop_gradient(log_ratios(log_pi_tm1, log_mu_tm1))
    diagnostics = ratio_diagnostics(log_rho_tm1, clip_rho=bound, clip_c=bound, is_valid=is_valid_t)
    log_near_tm1 = log_rho_tm1 if log_proximal_tm1 is None else log_ratios(log_pi_tm1, log_proximal_tm1)
    outside = jnp.abs(constant_ratio(log_near_tm1) - 1.0) > clip_epsilon
    diagnostics["clipped"] = mean_over_valid(outside, is_valid_t)
    return _total(policy, value, entropy_tm1, is_valid_t, value_cost, entropy_cost, diagnostics)


def _total(
    policy: jax.Array,
    value: jax.Array,
    entropy_tm1: Series | None,
    is_valid_t: Flags | None,
    value_cost: Scalar,
    entropy_cost: Scalar,
    diagnostics: Metrics,
) -> tuple[jax.Array, Metrics]:
    """The sum of the parts, and what there is to report of them."""
    loss = policy + cost(value_cost, value)
    metrics = {"loss/policy": policy, "loss/value": value}
    if entropy_tm1 is not None:
        minus_entropy = entropy_loss(entropy_tm1, is_valid_t)
        loss = loss + cost(entropy_cost, minus_entropy)
        metrics["loss/entropy"] = -minus_entropy
    metrics |= {f"ratio/{name}": x for name, x in diagnostics.items()}
    return loss, jax.lax.stop_gradient(metrics)


def _floored(log_pi_tm1: Series, is_valid_t: Flags | None) -> Series:
    """`log(π + 1e−6)` of Espeholt et al. 2018, section 5.2.2; an impossible action stays impossible."""
    (log_pi_tm1,) = series(log_pi_tm1=log_pi_tm1, is_valid_t=is_valid_t)
    possible = ~jnp.isneginf(log_pi_tm1)
    return jnp.where(possible, jnp.logaddexp(jnp.where(possible, log_pi_tm1, 0.0), math.log(1e-6)), -jnp.inf)
