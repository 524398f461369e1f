"""Means over the rows that count. Every loss and every metric is reduced by these two."""

import jax
import jax.numpy as jnp

from isjax.types import Flags


def count_valid(x: jax.Array, is_valid: Flags | None = None) -> jax.Array:
    """How many entries of `x` count, as a float of at least 1: an empty batch has a mean of 0."""
    if is_valid is None:
        return jnp.asarray(x.size, jnp.float32)
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
