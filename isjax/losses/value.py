"""Regression of values on corrected targets."""

import jax
import jax.numpy as jnp

from isjax._checks import series
from isjax.ops.reduction import mean_over_valid
from isjax.types import Flags, Series


def value_loss(v_tm1: Series, target_tm1: Series, is_valid_t: Flags | None = None) -> jax.Array:
    """`½ (target − V)²`, the mean over valid rows (Espeholt et al. 2018, section 4.2).

    Args:
      v_tm1: `[T, *B]`, values; gradients flow into these alone.
      target_tm1: `[T, *B]`, what they should become.
      is_valid_t: `[T, *B]`; rows where it is false neither count nor get gradients.

    >>> value_loss(jnp.array([1.0, 2.0]), jnp.array([3.0, 2.0]))
    Array(1., dtype=float32)
    """
    v_tm1, target_tm1 = series(v_tm1=v_tm1, target_tm1=target_tm1, is_valid_t=is_valid_t)
    error = jax.lax.stop_gradient(target_tm1) - v_tm1
    return mean_over_valid(0.5 * jnp.square(error), is_valid_t)
