"""Policy losses on log-probabilities and advantages."""

import jax
import jax.numpy as jnp

from isjax._checks import series
from isjax.ops.reduction import mean_over_valid
from isjax.types import Flags, Series


def policy_gradient_loss(log_pi_tm1: Series, advantage_tm1: Series, is_valid_t: Flags | None = None) -> jax.Array:
    """`−A log π(a|s)`, the mean over valid rows; its gradient is the policy gradient's, to descend.

    Sutton & Barto 2018, eq. 13.11; off-policy with the clipped ratio inside the advantage, Espeholt et
    al. 2018, section 4.2.

    Args:
      log_pi_tm1: `[T, *B]`, log-probabilities of the actions taken; gradients flow into these alone. A
        row whose action is impossible (`−inf`) adds nothing, as its ratio is 0.
      advantage_tm1: `[T, *B]`.
      is_valid_t: `[T, *B]`; rows where it is false neither count nor get gradients.

    >>> policy_gradient_loss(jnp.array([-1.0, -0.5]), jnp.array([2.0, -2.0]))
    Array(0.5, dtype=float32)
    """
    log_pi_tm1, advantage_tm1 = series(log_pi_tm1=log_pi_tm1, advantage_tm1=advantage_tm1, is_valid_t=is_valid_t)
    log_pi_tm1 = jnp.where(jnp.isneginf(log_pi_tm1), 0.0, log_pi_tm1)
    return mean_over_valid(-jax.lax.stop_gradient(advantage_tm1) * log_pi_tm1, is_valid_t)


def entropy_loss(entropy_tm1: Series, is_valid_t: Flags | None = None) -> jax.Array:
    """Minus the mean entropy over valid rows.

    Args:
      entropy_tm1: `[T, *B]`, in nats.
      is_valid_t: `[T, *B]`; rows where it is false neither count nor get gradients.
    """
    (entropy_tm1,) = series(entropy_tm1=entropy_tm1, is_valid_t=is_valid_t)
    return -mean_over_valid(entropy_tm1, is_valid_t)
