"""A policy-gradient loss from ratios."""

import jax
import jax.numpy as jnp

from isjax._checks import series
from isjax.compat.rlax._inputs import saturated, stopped
from isjax.ops.reduction import mean_over_valid
from isjax.types import Flags, Scalar, Series


def clipped_surrogate_pg_loss(
    prob_ratios_t: Series,
    adv_t: Series,
    epsilon: Scalar,
    use_stop_gradient: bool | jax.Array = True,
    *,
    is_valid_t: Flags | None = None,
) -> jax.Array:
    """PPO's clipped surrogate `−min(ρ A, clip(ρ, 1 − ε, 1 + ε) A)`, the mean over valid steps.

    Schulman et al. 2017, https://arxiv.org/abs/1707.06347, eq. 7. No step sees another, so episode ends do
    not matter here and there is no `same_episode_t`: they matter to the advantages. Where ρ is the `exp` of
    a log-ratio, take `isjax.ops.clipped_ratio(log_rho, jnp.inf)`: the gradient of an `exp` that overflowed
    is lost before it gets here.

    Args:
      prob_ratios_t: `[T, *B]`, `π(a|s) / μ(a|s)`, at least 0; from `exp(80)` on they count as that, with a
        gradient of 0.
      adv_t: `[T, *B]`, advantages.
      epsilon: ε, at least 0.
      use_stop_gradient: the advantages are constants.
      is_valid_t: `[T, *B]`; steps where it is false neither count nor get gradients.

    Returns:
      A scalar to minimize.

    Raises:
      ValueError: shapes differ, or there is no step.
      TypeError: an array is not floating, or the flag is not boolean.

    >>> clipped_surrogate_pg_loss(jnp.array([3.0, 0.5]), jnp.array([1.0, 1.0]), 0.5)
    Array(-1., dtype=float32)
    """
    rho, advantage = series(prob_ratios_t=prob_ratios_t, adv_t=adv_t, is_valid_t=is_valid_t)
    rho, advantage = saturated(rho), stopped(advantage, use_stop_gradient)
    free, clipped = rho * advantage, jnp.clip(rho, 1.0 - epsilon, 1.0 + epsilon) * advantage
    # Where both are equal, as inside the bounds, the gradient is that of the clipped one alone.
    return -mean_over_valid(jnp.where(free < clipped, free, clipped), is_valid_t)
