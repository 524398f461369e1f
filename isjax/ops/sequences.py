"""Sums over the sequences of a batch: one to a stream, or several packed into it one after the other."""

import jax
import jax.numpy as jnp

from isjax._checks import check_flags, check_integer, check_same_shape, check_time_axis
from isjax.types import Flags, Series


def total_by_sequence(x: Series, segment_ids_t: jax.Array | None = None) -> Series:
    """For every token the sum of `x` over its sequence.

    Args:
      x: `[T, *B]`, zeros where tokens do not count.
      segment_ids_t: `[T, *B]`, integers; a new sequence begins wherever the number changes. Left out, every stream
        is one sequence.

    Returns:
      `[T, *B]`, equal for all tokens of a sequence; `[1, *B]`, which goes with them, where every stream is one.

    Raises:
      ValueError: shapes differ, or there is no time axis.
      TypeError: `segment_ids_t` does not hold integers.

    >>> total_by_sequence(jnp.array([1.0, 2.0, 5.0]), jnp.array([7, 7, 9]))
    Array([3., 3., 5.], dtype=float32)
    """
    if segment_ids_t is None:
        check_time_axis(x=x)
        return jnp.sum(x, 0, keepdims=True)
    return _by_segment(jax.ops.segment_sum, x, segment_ids_t)


def largest_by_sequence(x: Series, segment_ids_t: jax.Array | None = None) -> Series:
    """For every token the largest `x` of its sequence; arguments, shapes and errors as in `total_by_sequence`.

    >>> largest_by_sequence(jnp.array([1.0, 2.0, 5.0]), jnp.array([7, 7, 9]))
    Array([2., 2., 5.], dtype=float32)
    """
    if segment_ids_t is None:
        check_time_axis(x=x)
        return jnp.max(x, 0, keepdims=True)
    return _by_segment(jax.ops.segment_max, x, segment_ids_t)


def sequence_lengths(is_valid_t: Flags, segment_ids_t: jax.Array | None = None, dtype=jnp.float32) -> Series:
    """For every token the number of valid tokens of its sequence, as floats of at least 1; shapes as there.

    >>> sequence_lengths(jnp.array([True, True, False]))
    Array([2.], dtype=float32)
    """
    check_flags(is_valid_t=is_valid_t)
    return jnp.maximum(total_by_sequence(is_valid_t.astype(dtype), segment_ids_t), 1.0)


def count_sequences(is_valid_t: Flags, segment_ids_t: jax.Array | None = None) -> jax.Array:
    """How many sequences have a valid token, an integer of shape `[]`; it may be 0.

    >>> count_sequences(jnp.array([True, True, False, True]), jnp.array([1, 1, 2, 3]))
    Array(2, dtype=int32)
    """
    check_flags(is_valid_t=is_valid_t)
    if segment_ids_t is None:
        return jnp.sum(jnp.any(is_valid_t, axis=0), dtype=jnp.int32)
    # The first valid token of each: the one at which the number of valid ones so far in its sequence becomes 1.
    place = jnp.arange(len(is_valid_t)).reshape((-1,) + (1,) * (is_valid_t.ndim - 1))
    later = jnp.where(is_valid_t, -place, -len(is_valid_t))
    is_first = is_valid_t & (largest_by_sequence(later, segment_ids_t) == -place)
    return jnp.sum(is_first, dtype=jnp.int32)


def _by_segment(reduce, x: Series, segment_ids_t: jax.Array) -> Series:
    """`reduce` over runs of equal numbers, for every token of them."""
    check_same_shape(x=x, segment_ids_t=segment_ids_t)
    check_time_axis(segment_ids_t=segment_ids_t)
    check_integer(segment_ids_t=segment_ids_t)
    length = len(x)
    ids = jnp.asarray(segment_ids_t).reshape(length, -1)
    begins = jnp.concatenate([jnp.zeros_like(ids[:1], bool), ids[1:] != ids[:-1]])
    run = jnp.cumsum(begins, axis=0, dtype=jnp.int32)

    def of_stream(x, run):
        return reduce(x, run, num_segments=length, indices_are_sorted=True)[run]

    return jax.vmap(of_stream, 1, 1)(x.reshape(length, -1), run).reshape(x.shape)
