"""Policy losses that weigh `log π` with numbers: the policy gradient, and its forms for old data."""

import jax
import jax.numpy as jnp

from isjax._checks import check_positive, series
from isjax.losses._rows import constant_ratio, off_policy_rows, ratio
from isjax.ops.reduction import mean_over_valid
from isjax.types import Flags, Scalar, Series


def policy_gradient_loss(log_pi_tm1: Series, advantage_tm1: Series, is_valid_t: Flags | None = None) -> jax.Array:
    """`−A log π(a|s)`, the mean over valid steps; its gradient is the policy gradient's, to descend.

    Sutton & Barto 2018, eq. 13.11; off-policy with the clipped ratio inside the advantage, Espeholt et
    al. 2018, section 4.2.

    Args:
      log_pi_tm1: `[T, *B]`, log-probabilities of the actions taken; gradients flow into these alone. A
        step whose action is impossible (`−inf`) adds nothing, as its ratio is 0.
      advantage_tm1: `[T, *B]`.
      is_valid_t: `[T, *B]`; steps where it is false neither count nor get gradients.

    >>> policy_gradient_loss(jnp.array([-1.0, -0.5]), jnp.array([2.0, -2.0]))
    Array(0.5, dtype=float32)
    """
    log_pi_tm1, advantage_tm1 = series(log_pi_tm1=log_pi_tm1, advantage_tm1=advantage_tm1, is_valid_t=is_valid_t)
    possible = ~jnp.isneginf(log_pi_tm1)
    log_pi_tm1, advantage_tm1 = (jnp.where(possible, x, 0.0) for x in (log_pi_tm1, advantage_tm1))
    return mean_over_valid(-jax.lax.stop_gradient(advantage_tm1) * log_pi_tm1, is_valid_t)


def entropy_loss(entropy_tm1: Series, is_valid_t: Flags | None = None) -> jax.Array:
    """Minus the mean entropy over valid steps, to be added with a small factor: it keeps a policy exploring.

    Williams & Peng 1991; Mnih et al. 2016, https://arxiv.org/abs/1602.01783, section 4.

    Args:
      entropy_tm1: `[T, *B]`, in nats.
      is_valid_t: `[T, *B]`; steps where it is false neither count nor get gradients.

    Raises:
      ValueError: shapes differ.
      TypeError: `entropy_tm1` is not floating, or `is_valid_t` not boolean.

    >>> entropy_loss(jnp.array([0.5, 0.7, jnp.nan]), jnp.array([True, True, False]))
    Array(-0.6, dtype=float32)
    """
    (entropy_tm1,) = series(entropy_tm1=entropy_tm1, is_valid_t=is_valid_t)
    return -mean_over_valid(entropy_tm1, is_valid_t)


def per_step_ratio_loss(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    clip_rho: Scalar | None = None,
) -> jax.Array:
    """`−sg(min(ρ̄, ρ)) A log π(a|s)`, the mean over valid steps: REINFORCE with each step's own ratio.

    The off-policy policy gradient of Degris, White & Sutton 2012, https://arxiv.org/abs/1205.4839: states
    stay distributed as the old policy visits them. Biased for the return of π, of low variance;
    `product_of_ratios_loss` corrects the states too.

    Args:
      log_pi_tm1: `[T, *B]`, log-probabilities of the actions taken, under the policy that learns; gradients
        flow into these alone. A step whose action is impossible (`−inf`) adds nothing.
      log_mu_tm1: `[T, *B]`, the same under the policy that acted.
      advantage_tm1: `[T, *B]`, the return or action value of the step, less a baseline or not.
      is_valid_t: `[T, *B]`; steps where it is false neither count nor get gradients.
      clip_rho: ρ̄ > 0; left out, ratios saturate at `exp(40)` only.

    Raises:
      ValueError: shapes differ, or `clip_rho` is not above 0.
      TypeError: an array is not floating, or `is_valid_t` not boolean.

    >>> per_step_ratio_loss(jnp.array([-1.0]), jnp.log(jnp.array([0.25])), jnp.array([2.0]), clip_rho=1.0)
    Array(2., dtype=float32)
    """
    check_positive(clip_rho=clip_rho)
    rows = off_policy_rows(log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t)
    rho = constant_ratio(rows.log_rho_tm1, clip_rho)
    return mean_over_valid(-rho * rows.advantage_tm1 * rows.log_pi_tm1, is_valid_t)


def awr_loss(
    log_pi_tm1: Series,
    advantage_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    temperature: Scalar,
    max_weight: Scalar = 20.0,
) -> jax.Array:
    """`−sg(min(exp(A / β), w)) log π(a|s)`, the mean over valid steps: advantage-weighted regression.

    Peng et al. 2019, https://arxiv.org/abs/1910.00177. It needs no ratio and imitates every action that was
    taken, the better ones more. The exponent is clipped before `exp`.

    Args:
      log_pi_tm1: `[T, *B]`, log-probabilities of the actions taken; gradients flow into these alone. A step
        whose action is impossible (`−inf`) adds nothing.
      advantage_tm1: `[T, *B]`, return less the old policy's value.
      is_valid_t: `[T, *B]`; steps where it is false neither count nor get gradients.
      temperature: β > 0, in the unit of the advantage.
      max_weight: w > 0.

    Raises:
      ValueError: shapes differ, or an option is not above 0.
      TypeError: an array is not floating, or `is_valid_t` not boolean.

    >>> awr_loss(jnp.array([-1.0, -1.0]), jnp.array([0.0, 1000.0]), temperature=1.0)
    Array(10.5, dtype=float32)
    """
    check_positive(temperature=temperature, max_weight=max_weight)
    log_pi_tm1, advantage_tm1 = series(log_pi_tm1=log_pi_tm1, advantage_tm1=advantage_tm1, is_valid_t=is_valid_t)
    weight = constant_ratio(advantage_tm1 / temperature, max_weight)
    return policy_gradient_loss(log_pi_tm1, weight, is_valid_t)


def surrogate_loss(
    log_pi_tm1: Series, log_mu_tm1: Series, advantage_tm1: Series, is_valid_t: Flags | None = None
) -> jax.Array:
    """`−ρ A` with a ratio to differentiate, the mean over valid steps: minus the surrogate objective.

    Schulman et al. 2017, https://arxiv.org/abs/1707.06347, eq. 6. At π = μ its gradient is the policy
    gradient; how far it can be trusted away from there, `ops.surrogate_error_bound` says.

    Args:
      log_pi_tm1: `[T, *B]`, log-probabilities of the actions taken, under the policy that learns; gradients
        flow into these alone. A step whose action is impossible (`−inf`) adds nothing.
      log_mu_tm1: `[T, *B]`, the same under the policy that acted.
      advantage_tm1: `[T, *B]`.
      is_valid_t: `[T, *B]`; steps where it is false neither count nor get gradients.

    Ratios saturate at `exp(40)`, where their gradient is 0.

    Raises:
      ValueError: shapes differ.
      TypeError: an array is not floating, or `is_valid_t` not boolean.

    >>> jax.grad(surrogate_loss)(jnp.zeros(2), jnp.zeros(2), jnp.array([1.0, -2.0]))
    Array([-0.5,  1. ], dtype=float32)
    """
    rows = off_policy_rows(log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t)
    return mean_over_valid(-ratio(rows.log_rho_tm1) * rows.advantage_tm1, is_valid_t)
