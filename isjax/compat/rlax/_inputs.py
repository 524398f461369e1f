"""What several of these functions do to their arguments and results."""

import math

import jax
import jax.numpy as jnp

from isjax._checks import check_integer, check_same_shape, check_time_axis, precise
from isjax.ops.ratios import MAX_LOG_RATIO
from isjax.types import Flags, Series


def saturated(ratio: jax.Array) -> jax.Array:
    """A ratio from 0 to infinity, at most `exp(80)`."""
    return jnp.minimum(ratio, math.exp(MAX_LOG_RATIO))


def stopped(x: jax.Array, is_stopped: bool | jax.Array) -> jax.Array:
    """`x`, a constant to gradients where `is_stopped`, which may be traced."""
    return jnp.where(is_stopped, jax.lax.stop_gradient(x), x)


def heard(x: jax.Array, matters: Flags) -> jax.Array:
    """`x`, with 0 for what is no number where it does not matter."""
    return jnp.where(jnp.isfinite(x) | matters, x, 0.0)


def values_before_and_after(values: Series, v_t: Series | None, same_episode_t: object) -> tuple[Series, Series]:
    """`v_tm1` and `v_t` `[T, *B]` out of `values` `[T + 1, *B]`, or `v_t` as it was given.

    Raises `ValueError` where only one of `v_t` and `same_episode_t` was given.
    """
    check_time_axis(values=values)
    if (v_t is None) != (same_episode_t is None):
        raise ValueError(
            "v_t and same_episode_t go together: where a time limit cut an episode, values has one place for the "
            "state reached and for the first of the next episode."
        )
    return values[:-1], values[1:] if v_t is None else v_t


def action_values(r_t: Series, **arrays: jax.Array) -> tuple[jax.Array, ...]:
    """The arrays `[T, *B, A]` in full precision, once they fit `r_t` `[T, *B]` and each other."""
    check_same_shape(**arrays)
    check_time_axis(**arrays)
    check_same_shape(r_t=r_t, **{f"{name}[..., 0]": x[..., 0] for name, x in arrays.items()})
    return precise(**arrays)


def reached(discount_t: Series, *arrays: jax.Array) -> tuple[jax.Array, ...]:
    """The arrays `[T, *B, ...]` of the states reached, with 0 for what is no number where the episode terminated."""
    goes_on = jnp.asarray(discount_t) != 0
    return tuple(heard(x, goes_on.reshape(goes_on.shape + (1,) * (x.ndim - goes_on.ndim))) for x in arrays)


def actions(r_t: Series, **arrays: jax.Array) -> None:
    """Raises unless the arrays are integers `[T, *B]` as `r_t`."""
    check_same_shape(r_t=r_t, **arrays)
    check_integer(**arrays)


def taken(x: jax.Array, action: jax.Array) -> Series:
    """The entries of `x` `[T, *B, A]` that belong to the actions `[T, *B]`."""
    return jnp.take_along_axis(x, action[..., None], axis=-1)[..., 0]
