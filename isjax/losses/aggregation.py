"""How the numbers of tokens become one: every loss on sequences takes one of these by name."""

from typing import Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp

from isjax._checks import check_positive, check_same_shape, precise
from isjax.errors import FieldError
from isjax.ops.sequences import count_sequences, sequence_lengths
from isjax.types import Flags, Scalar, Series

Aggregation: TypeAlias = Literal["token-mean", "sequence-mean-token-mean", "sequence-mean-token-sum", "fixed-length"]
"""The mean over all tokens (DAPO); the mean over sequences of the means (GRPO) or of the sums over their tokens; the
sum over all tokens over the number of sequences times a fixed length (Dr. GRPO)."""


class Aggregate(NamedTuple):
    """A sum and what it is divided by: those of several batches add up, each on its own."""

    sum: jax.Array
    """Of shape `[]`."""
    denominator: jax.Array
    """Of shape `[]`, a float; 0 where no token counts, and then the sum is 0."""

    @property
    def mean(self) -> jax.Array:
        """The sum over the denominator; 0 where no token counts."""
        return self.sum / jnp.where(self.denominator > 0, self.denominator, 1.0)


def aggregate(
    x_t: Series,
    is_valid_t: Flags | None = None,
    *,
    aggregation: Aggregation = "token-mean",
    max_length: Scalar | None = None,
    segment_ids_t: jax.Array | None = None,
) -> Aggregate:
    """The sum of `x` over tokens, weighted as asked for, and its denominator.

    - "token-mean": `Σ x / number of tokens`: long sequences count more.
    - "sequence-mean-token-mean": `Σ_i mean_t x / number of sequences`: sequences count alike, tokens of long ones
      less.
    - "sequence-mean-token-sum": `Σ x / number of sequences`: tokens count alike, in every batch.
    - "fixed-length": `Σ x / (number of sequences · L_max)`: the same, over a constant.

    Sequences without a valid token are padding and do not count.

    Args:
      x_t: `[T, *B]`, floating.
      is_valid_t: `[T, *B]`; tokens where it is false neither count nor get gradients, whatever they hold.
      aggregation: one of the four.
      max_length: L_max > 0, with "fixed-length" alone.
      segment_ids_t: `[T, *B]`, integers, where streams hold several sequences one after the other.

    Raises:
      ValueError: shapes differ, or the options do not go together.
      TypeError: an array is of the wrong kind.

    >>> x, valid = jnp.array([[1.0, 4.0], [3.0, jnp.nan]]), jnp.array([[True, True], [True, False]])
    >>> aggregate(x, valid)
    Aggregate(sum=Array(8., dtype=float32), denominator=Array(3., dtype=float32))
    >>> aggregate(x, valid, aggregation="sequence-mean-token-mean").mean
    Array(3., dtype=float32)
    """
    check_same_shape(x_t=x_t, is_valid_t=is_valid_t, segment_ids_t=segment_ids_t)
    (x_t,) = precise(x_t=x_t)
    counts = jnp.ones(x_t.shape, bool) if is_valid_t is None else is_valid_t
    x_t = jnp.where(counts, x_t, 0.0)
    if aggregation == "sequence-mean-token-mean":
        x_t = x_t / sequence_lengths(counts, segment_ids_t, x_t.dtype)
    denominator = denominator_of(counts, aggregation=aggregation, max_length=max_length, segment_ids_t=segment_ids_t)
    return Aggregate(jnp.sum(x_t), denominator.astype(x_t.dtype))


def denominator_of(
    is_valid_t: Flags,
    *,
    aggregation: Aggregation,
    max_length: Scalar | None = None,
    segment_ids_t: jax.Array | None = None,
) -> jax.Array:
    """What `aggregate` divides by, a float32 of shape `[]`; arguments and errors are those there.

    >>> denominator_of(jnp.array([[True, True], [True, False]]), aggregation="fixed-length", max_length=8)
    Array(16., dtype=float32)
    """
    if aggregation not in get_args(Aggregation):
        raise FieldError("aggregation", f"one of {', '.join(get_args(Aggregation))}", repr(aggregation))
    check_positive(max_length=max_length)
    if (max_length is not None) != (aggregation == "fixed-length"):
        rule = "given with {aggregation} fixed-length, and with no other"
        raise FieldError("max_length", rule, "left out" if max_length is None else max_length)
    if aggregation == "token-mean":
        return jnp.sum(is_valid_t, dtype=jnp.int32).astype(jnp.float32)
    number = count_sequences(is_valid_t, segment_ids_t).astype(jnp.float32)
    return number if max_length is None else number * max_length
