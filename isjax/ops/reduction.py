"""Means over the steps that count, by which every loss and every metric is reduced; and standardized numbers."""

import jax
import jax.numpy as jnp

from isjax.types import Flags

LEAST_DEVIATION = 1e-8
"""What a deviation that numbers are divided by is increased by."""


def count_valid(x: jax.Array, is_valid: Flags | None = None) -> jax.Array:
    """How many entries of `x` count, as a float of at least 1: an empty batch has a mean of 0."""
    if is_valid is None:
        return jnp.asarray(max(x.size, 1), jnp.float32)
    return jnp.maximum(jnp.sum(is_valid), 1).astype(jnp.float32)


def mean_over_valid(x: jax.Array, is_valid: Flags | None = None) -> jax.Array:
    """The mean of `x` over the entries where `is_valid` holds; padding is not in the denominator.

    Args:
      x: any shape; booleans give a share.
      is_valid: the shape of `x`; all entries count if left out.

    >>> mean_over_valid(jnp.array([1.0, 3.0, jnp.nan]), jnp.array([True, True, False]))
    Array(2., dtype=float32)
    """
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    total = jnp.sum(x, dtype=dtype, where=is_valid)
    return total / count_valid(x, is_valid).astype(dtype)


def standardized(x: jax.Array) -> jax.Array:
    """`(x − mean) / deviation`, and exactly 0 everywhere where the numbers are equal, up to their rounding.

    Any shape and any size: neither a sum nor a square overflows.

    >>> standardized(jnp.full(3, 0.1))
    Array([0., 0., 0.], dtype=float32)
    """
    numbers = jnp.finfo(x.dtype)
    # Relative to the largest, kept where its inverse is a normal number; then to one of them, since the mean of
    # equal numbers may be another number.
    scale = jnp.clip(jnp.max(jnp.abs(x), initial=0.0), 8 * numbers.tiny, numbers.max / 8)
    z = x / scale
    z = z - jnp.max(z, initial=-jnp.inf)
    z = z - mean_over_valid(z)
    variance = mean_over_valid(jnp.square(z))
    is_rounding = variance <= (4 * numbers.eps) ** 2
    deviation = jnp.sqrt(jnp.where(is_rounding, 1.0, variance))
    return jnp.where(is_rounding, 0.0, z / (deviation + LEAST_DEVIATION / scale))
