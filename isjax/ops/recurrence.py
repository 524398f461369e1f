"""The one backward recurrence that every trace, return and doubly robust estimator calls."""

import jax
import jax.numpy as jnp

from isjax._checks import series
from isjax.types import Series


def backward_affine(gain_t: Series, bias_t: Series, *, associative: bool = False) -> Series:
    """Solves `x_t = bias_t + gain_t · x_{t+1}` backwards in time, with `x_T = 0`.

    Where a gain is zero, nothing of what comes later enters. A last state's value enters through the
    last bias.

    Args:
      gain_t: `[T, *B]`.
      bias_t: `[T, *B]`.
      associative: solve in `log2(T)` parallel sweeps (`jax.lax.associative_scan`) instead of `T` steps
        (`jax.lax.scan`). The same numbers up to rounding; worth trying for long `T` on accelerators.

    Returns:
      `x` `[T, *B]`, float32 at least.

    Raises:
      ValueError: the shapes differ, or there is no row.
      TypeError: an array is not floating.

    >>> backward_affine(jnp.array([0.5, 0.5, 0.5]), jnp.array([1.0, 1.0, 1.0]))
    Array([1.75, 1.5 , 1.  ], dtype=float32)
    """
    gain_t, bias_t = series(gain_t=gain_t, bias_t=bias_t)
    if associative:
        return jax.lax.associative_scan(_compose, (gain_t, bias_t), reverse=True)[1]

    def step(x_next, row):
        gain, bias = row
        x = bias + gain * x_next
        return x, x

    # Built from both arrays, so that inside `shard_map` it varies over every axis that they vary over.
    end = jnp.zeros_like(gain_t[0] * bias_t[0])
    return jax.lax.scan(step, end, (gain_t, bias_t), reverse=True)[1]


def _compose(later: tuple[Series, Series], earlier: tuple[Series, Series]) -> tuple[Series, Series]:
    """Two affine maps in a row; a reversed `associative_scan` hands over the later one first."""
    (gain_later, bias_later), (gain, bias) = later, earlier
    return gain * gain_later, bias + gain * bias_later
