"""The divergence from a reference policy as a loss, from sampled tokens."""

from typing import get_args

import jax
import jax.numpy as jnp

from isjax._checks import check_same_shape, series
from isjax.errors import FieldError
from isjax.losses._rows import constant_ratio
from isjax.losses.aggregation import Aggregation, aggregate
from isjax.ops.diagnostics import kl_estimates
from isjax.ops.ratios import log_ratios
from isjax.ops.sampler import Estimator
from isjax.types import Flags, Scalar, Series


def kl_to_reference_loss(
    log_pi_tm1: Series,
    log_reference_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    log_mu_tm1: Series | None = None,
    estimator: Estimator = "k3",
    exact_gradient: bool = True,
    segment_ids_t: jax.Array | None = None,
    aggregation: Aggregation = "token-mean",
    max_length: Scalar | None = None,
) -> jax.Array:
    """An estimate of `KL(π‖π_ref)` from tokens that π sampled, with the divergence's own gradient.

    With `d = log π − log π_ref` of a sampled token, k1 is `d`, k2 `d² / 2` and k3 `exp(−d) − 1 + d` (J. Schulman 2020).
    In value k1 and k3 are unbiased, k3 with less variance; k2 is not. Differentiated as they stand it is the other
    way round: k2's gradient `d ∇log π` is unbiased; that of k1, `∇log π`, is 0 on average and only noise; that of k3,
    `(1 − exp(−d)) ∇log π`, is on average the gradient of `KL(π_ref‖π)` (Tang & Munos 2025,
    https://arxiv.org/abs/2506.09477). With `exact_gradient`, whatever the estimator, it is `d ∇log π`: that of the
    divergence, on average. All of this is token by token, in the states that were visited: how π changes which states
    these are does not enter; a reward `−β d` a token lets it.

    Args:
      log_pi_tm1: `[T, *B]`, log-probabilities of the tokens, under the policy that learns; gradients flow into these
        alone. A token that it excludes (`−inf`) adds nothing.
      log_reference_tm1: `[T, *B]`, the same under the reference.
      is_valid_t: `[T, *B]`; tokens where it is false neither count nor get gradients.
      log_mu_tm1: `[T, *B]`, the same under the policy that sampled them, where that is not π as it is now: values and
        gradients are weighted with the constant `π / μ` (DeepSeek-V3.2 2025, https://arxiv.org/abs/2512.02556), and
        stay unbiased.
      estimator: "k1", "k2" or "k3", for the value.
      exact_gradient: false for the gradient of the estimator itself, as GRPO has it with k3.
      segment_ids_t: `[T, *B]`, integers, where streams hold several sequences, see `aggregate`.
      aggregation: how tokens become one number, see `aggregate`.
      max_length: with the aggregation "fixed-length".

    Log-ratios are bounded to ±40 in what is differentiated, and ratios saturate at `exp(40)`.

    Raises:
      ValueError: shapes differ, or an option is out of range.
      TypeError: an array is of the wrong kind.

    >>> log_pi, log_reference = jnp.array([-1.0]), jnp.array([-1.5])
    >>> jax.value_and_grad(kl_to_reference_loss)(log_pi, log_reference)
    (Array(0.10653067, dtype=float32), Array([0.5], dtype=float32))
    """
    if estimator not in get_args(Estimator):
        raise FieldError("estimator", f"one of {', '.join(get_args(Estimator))}", repr(estimator))
    check_same_shape(log_pi_tm1=log_pi_tm1, log_reference_tm1=log_reference_tm1, log_mu_tm1=log_mu_tm1)
    log_pi, log_reference = series(log_pi_tm1=log_pi_tm1, log_reference_tm1=log_reference_tm1, is_valid_t=is_valid_t)
    possible = ~jnp.isneginf(log_pi)
    log_pi = jnp.where(possible, log_pi, 0.0)
    log_reference = jnp.where(possible, jax.lax.stop_gradient(log_reference), 0.0)
    d = jnp.clip(log_ratios(log_pi, log_reference), -40.0, 40.0)
    estimate = getattr(kl_estimates(-d), estimator)
    if exact_gradient:
        slope = kl_estimates(d).k2
        estimate = jax.lax.stop_gradient(estimate) + slope - jax.lax.stop_gradient(slope)
    if log_mu_tm1 is not None:
        (log_mu,) = series(log_mu_tm1=log_mu_tm1, is_valid_t=is_valid_t)
        log_rho = jnp.where(possible, log_ratios(log_pi, jax.lax.stop_gradient(log_mu)), -jnp.inf)
        estimate = constant_ratio(log_rho) * estimate
    return aggregate(
        estimate, is_valid_t, aggregation=aggregation, max_length=max_length, segment_ids_t=segment_ids_t
    ).mean
