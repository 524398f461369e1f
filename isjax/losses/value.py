"""Regression of values on corrected targets."""

import jax
import jax.numpy as jnp

from isjax._checks import check_positive, check_same_shape, series
from isjax.ops.recurrence import scaled
from isjax.ops.reduction import mean_over_valid
from isjax.types import Flags, Scalar, Series


def value_loss(
    v_tm1: Series, target_tm1: Series, is_valid_t: Flags | None = None, *, weight_tm1: Series | None = None
) -> jax.Array:
    """`½ (target − V)²`, the mean over valid steps (Espeholt et al. 2018, section 4.2).

    Args:
      v_tm1: `[T, *B]`, values; gradients flow into these alone.
      target_tm1: `[T, *B]`, what they should become.
      is_valid_t: `[T, *B]`; steps where it is false neither count nor get gradients.
      weight_tm1: `[T, *B]`, factors of the steps, constant; the mean is over as many steps as without them.

    Raises:
      ValueError: shapes differ.
      TypeError: an array is not floating, or `is_valid_t` not boolean.

    >>> value_loss(jnp.array([1.0, 2.0]), jnp.array([3.0, 2.0]))
    Array(1., dtype=float32)
    """
    v_tm1, target_tm1 = series(v_tm1=v_tm1, target_tm1=target_tm1, is_valid_t=is_valid_t)
    error = jax.lax.stop_gradient(target_tm1) - v_tm1
    return weighted_mean(0.5 * jnp.square(error), weight_tm1, is_valid_t)


def weighted_mean(cost: jax.Array, weight_tm1: Series | None, is_valid_t: Flags | None) -> jax.Array:
    """The mean over valid steps of each step's cost times its weight, a constant."""
    if weight_tm1 is not None:
        check_same_shape(target_tm1=cost, weight_tm1=weight_tm1)
        (weight_tm1,) = series(weight_tm1=weight_tm1, is_valid_t=is_valid_t)
        cost = scaled(jax.lax.stop_gradient(weight_tm1), cost)
    return mean_over_valid(cost, is_valid_t)


def clipped_value_loss(
    v_tm1: Series, v_old_tm1: Series, target_tm1: Series, is_valid_t: Flags | None = None, *, clip_epsilon: Scalar
) -> jax.Array:
    """`½ max((target − V)², (target − V_clip)²)`, the mean over valid steps: the value loss of many PPO codes.

    `V_clip` is V, kept within ε of what it was: no gradient where V moved further than that in the right
    direction. It is not in the paper of PPO; Engstrom et al. 2020, https://arxiv.org/abs/2005.12729.

    Args:
      v_tm1: `[T, *B]`, values; gradients flow into these alone.
      v_old_tm1: `[T, *B]`, the values when the steps were collected.
      target_tm1: `[T, *B]`, what they should become.
      is_valid_t: `[T, *B]`; steps where it is false neither count nor get gradients.
      clip_epsilon: ε > 0, in the unit of the values.

    Raises:
      ValueError: shapes differ, or `clip_epsilon` is not above 0.
      TypeError: an array is not floating, or `is_valid_t` not boolean.

    >>> clipped_value_loss(jnp.array([1.0]), jnp.array([0.0]), jnp.array([2.0]), clip_epsilon=0.5)
    Array(1.125, dtype=float32)
    """
    check_positive(clip_epsilon=clip_epsilon)
    v_tm1, v_old_tm1, target_tm1 = series(
        v_tm1=v_tm1, v_old_tm1=v_old_tm1, target_tm1=target_tm1, is_valid_t=is_valid_t
    )
    v_old_tm1, target_tm1 = jax.lax.stop_gradient((v_old_tm1, target_tm1))
    clipped = v_old_tm1 + jnp.clip(v_tm1 - v_old_tm1, -clip_epsilon, clip_epsilon)
    error = jnp.maximum(jnp.square(target_tm1 - v_tm1), jnp.square(target_tm1 - clipped))
    return mean_over_valid(0.5 * error, is_valid_t)
