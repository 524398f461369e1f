"""The policy gradient from old data with each row weighed by the ratio of its state, and that of its action."""

import jax
import jax.numpy as jnp

from isjax._checks import check_positive, series
from isjax.losses._rows import constant_ratio, off_policy_rows
from isjax.ops.ratios import MAX_LOG_RATIO
from isjax.ops.reduction import mean_over_valid
from isjax.ops.weights import normalized_weights
from isjax.types import Flags, Scalar, Series


def state_ratio_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    log_state_ratio_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    truncation: Scalar | None = None,
    clip_rho: Scalar | None = None,
    self_normalized: bool = False,
) -> jax.Array:
    """`−sg(w(s_t) ρ_t) A_t log π(a_t|s_t)`, the mean over valid rows, with `w = d^π_t / d^μ_t`.

    The off-policy policy gradient with the ratio of state distributions itself where `product_of_ratios_loss` takes
    the product of ratios, a one-sample estimate of it (Liu, Swaminathan, Agarwal & Brunskill 2019,
    https://arxiv.org/abs/1904.08473). With the true ratio and `A_t` an action value of π the gradient is unbiased,
    and its variance does not grow with products; `ope.state_ratios` estimates the ratio for integer states, and
    `ope.linear_density_ratio` for features. With a ratio of 1 (zeros) it is `per_step_ratio_loss`.
    As is the custom, a row's own `γ^t` is left out; put it into `A_t` for the gradient of the discounted return.

    Args:
      log_pi_tm1: `[T, *B]`, log-probabilities of the actions taken, under the policy that learns; gradients
        flow into these alone. A row whose action is impossible (`−inf`) adds nothing.
      log_mu_tm1: `[T, *B]`, the same under the policy that acted.
      advantage_tm1: `[T, *B]`, reward-to-go or action value of the row under π, less a baseline or not. A reward-to-go
        of the behavior policy's rewards has to carry the ratios of what follows.
      log_state_ratio_tm1: `[T, *B]`, `log w`; a constant; `−inf` for a state that π does not come to.
      is_valid_t: `[T, *B]`; rows where it is false neither count nor get gradients.
      truncation: bounds `w`, above 0; left out, it saturates at `exp(40)` only.
      clip_rho: bounds `ρ`, likewise.
      self_normalized: divides `w ρ` by its mean over all valid rows, after both bounds.

    Raises:
      ValueError: shapes differ, or a bound is not above 0.
      TypeError: an array is not floating, or `is_valid_t` not boolean.

    >>> log_pi, log_mu = jnp.log(jnp.array([0.5, 0.5])), jnp.log(jnp.array([0.25, 0.25]))
    >>> jax.grad(state_ratio_loss)(log_pi, log_mu, jnp.ones(2), jnp.log(jnp.array([1.0, 2.0])))
    Array([-1., -2.], dtype=float32)
    """
    check_positive(truncation=truncation, clip_rho=clip_rho)
    log_state_ratio_tm1, _ = series(
        log_state_ratio_tm1=log_state_ratio_tm1, log_pi_tm1=log_pi_tm1, is_valid_t=is_valid_t
    )
    rows = off_policy_rows(log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t)
    log_rho = _bounded(rows.log_rho_tm1, clip_rho) + _bounded(log_state_ratio_tm1, truncation)
    if self_normalized:
        valid = jnp.ones(log_rho.shape, bool) if is_valid_t is None else is_valid_t
        weight = normalized_weights(jax.lax.stop_gradient(log_rho), None, where=valid) * jnp.sum(valid)
    else:
        weight = constant_ratio(log_rho)
    silent = weight == 0  # of a state that π does not come to, whatever its advantage is
    advantage = jnp.where(silent, 0.0, rows.advantage_tm1)
    return mean_over_valid(-weight * advantage * rows.log_pi_tm1, is_valid_t)


def _bounded(log_ratio: Series, bound: Scalar | None) -> Series:
    """The logarithm of a ratio, at most that of a bound, and never so large that a sum with another overflows."""
    return jnp.minimum(log_ratio, MAX_LOG_RATIO if bound is None else jnp.minimum(jnp.log(bound), MAX_LOG_RATIO))
