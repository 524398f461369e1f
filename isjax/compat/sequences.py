"""Losses and corrections for trainers of sequences: arrays `[B, T]`, masks of numbers, one advantage a sequence.

Such trainers put the batch first, mark tokens with 1.0 and padding with 0.0, hold one advantage a sequence, add up sums
and denominators over small batches, and may pack several sequences into a row. These adapters turn any loss of
`isjax.losses` that takes `aggregation`, and any correction of `isjax.ops`, into functions of such arrays. Options of
their own are settled with `functools.partial`.
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from isjax._checks import check_arrays, check_integer, check_same_shape, describe, precise
from isjax.errors import FieldError
from isjax.losses.aggregation import Aggregate, denominator_of

__all__ = ["batch_major", "batch_major_op", "per_token"]

_ARRAYS = "_tm1"
"""How the names of arrays of numbers end."""


def batch_major(loss: Callable[..., jax.Array]) -> Callable[..., Aggregate]:
    """A loss of `isjax.losses` as a function of `[B, T]` arrays that returns a sum and its denominator.

    The function takes the loss's arrays by position, in its order (log π of the policy that learns, log-probabilities
    under the old one, advantages), and by name:

    - `mask`, `[B, T]`: 1 for tokens that count and 0 for the others, of any dtype; left out, all count. What stands in
      padding, NaN too, is inert in values and gradients.
    - `weight`, `[B, T]` or `[B]`: `π_old / μ` and the like, constant.
    - `segment_ids`, `[B, T]` integers, where rows hold several sequences one after the other: a new one begins
      wherever the number changes. Advantages are then `[B, T]`; see `per_token`.

    An array `[B]` or `[B, 1]` holds a number for each sequence. The denominator is the loss's own aggregation's: sums
    and denominators of small batches add up to those of a large one, and the loss is the one over the other
    (`.mean` of a single batch). It is 0 where no token counts, and so is the sum.

    Args:
      loss: takes `is_valid_t` and `aggregation`, as all in `isjax.losses.sequence` and its neighbors do; or a partial
        of one, with its options.

    Raises:
      ValueError: the loss has no aggregation; or, in the call, shapes differ or an array is missing.
      TypeError: in the call, an array is of the wrong kind.

    >>> from functools import partial
    >>> from isjax import losses
    >>> dapo = batch_major(partial(losses.dapo_loss, dual_clip=3.0))
    >>> log_pi, mask = jnp.full((2, 3), -1.0), jnp.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    >>> total, denominator = dapo(log_pi, log_pi, jnp.array([1.0, -1.0]), mask=mask)
    >>> float(total), float(denominator)
    (-1.0, 3.0)
    """
    parameters = inspect.signature(loss).parameters
    if "aggregation" not in parameters:
        raise FieldError("loss", "one that takes an aggregation", getattr(loss, "__name__", repr(loss)))
    names = _array_names(parameters)
    how = {name: parameters[name].default for name in ("aggregation", "max_length")}

    def of_batch(
        *arrays: jax.Array,
        mask: jax.Array | None = None,
        weight: jax.Array | None = None,
        segment_ids: jax.Array | None = None,
    ) -> Aggregate:
        given = _named(names, arrays) | ({} if weight is None else {"weight_tm1": weight})
        turned, is_valid_t, segment_ids_t = _time_major(given, mask, segment_ids)
        value = loss(**turned, is_valid_t=is_valid_t, segment_ids_t=segment_ids_t)
        denominator = denominator_of(is_valid_t, segment_ids_t=segment_ids_t, **how).astype(value.dtype)
        return Aggregate(value * denominator, denominator)

    return of_batch


def batch_major_op(op: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """A correction of `isjax.ops` (`truncated_weights`, `acceptance_mask`, …) as a function of `[B, T]` arrays.

    The function takes the correction's arrays by position and `mask` and `segment_ids` by name, as in `batch_major`,
    and returns `[B, T]`.

    Args:
      op: takes `is_valid_t` and `segment_ids_t`; or a partial of one, with its options.

    >>> from functools import partial
    >>> from isjax import ops
    >>> weights = batch_major_op(partial(ops.truncated_weights, level="sequence", truncation=3.0))
    >>> weights(jnp.log(jnp.array([[2.0, 2.0], [0.5, jnp.nan]])), mask=jnp.array([[1, 1], [1, 0]]))
    Array([[3. , 3. ],
           [0.5, 1. ]], dtype=float32)
    """
    names = _array_names(inspect.signature(op).parameters)

    def of_batch(*arrays: jax.Array, mask: jax.Array | None = None, segment_ids: jax.Array | None = None) -> jax.Array:
        turned, is_valid_t, segment_ids_t = _time_major(_named(names, arrays), mask, segment_ids)
        return op(**turned, is_valid_t=is_valid_t, segment_ids_t=segment_ids_t).T

    return of_batch


def per_token(of_sequences: jax.Array, segment_ids: jax.Array) -> jax.Array:
    """Numbers of packed sequences as numbers of their tokens: advantages, say.

    Args:
      of_sequences: `[B, S]`, of the sequences 1 to S of each row, in order.
      segment_ids: `[B, T]`, integers from 1 to S; 0 for padding.

    Returns:
      `[B, T]`; 0 in padding.

    Raises:
      ValueError: there are not as many rows in both.
      TypeError: `segment_ids` does not hold integers.

    >>> per_token(jnp.array([[0.5, -1.0]]), jnp.array([[1, 1, 2, 0]]))
    Array([[ 0.5,  0.5, -1. ,  0. ]], dtype=float32)
    """
    check_integer(segment_ids=segment_ids)
    (of_sequences,) = precise(of_sequences=of_sequences)
    ids = jnp.asarray(segment_ids)
    if of_sequences.ndim != 2 or ids.ndim != 2 or len(of_sequences) != len(ids):
        given = describe(of_sequences=of_sequences, segment_ids=ids)
        raise ValueError(f"of_sequences [B, S] and segment_ids [B, T] must have equal B, but got: {given}.")
    places = jnp.clip(ids - 1, 0, of_sequences.shape[1] - 1)
    return jnp.where(ids > 0, jnp.take_along_axis(of_sequences, places, 1), 0.0)


def _array_names(parameters: Any) -> tuple[str, ...]:
    """Of the arrays that a function takes by position, without its mask."""
    return tuple(
        name
        for name, parameter in parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and name.endswith(_ARRAYS)
    )


def _named(names: tuple[str, ...], arrays: tuple[jax.Array, ...]) -> dict[str, jax.Array]:
    if len(arrays) != len(names):
        raise ValueError(f"These arrays are expected by position: {', '.join(names)}; but {len(arrays)} were given.")
    return dict(zip(names, arrays, strict=True))


def _time_major(
    given: dict[str, jax.Array], mask: jax.Array | None, segment_ids: jax.Array | None
) -> tuple[dict[str, jax.Array], jax.Array, jax.Array | None]:
    """The arrays `[T, B]`, what counts, and the numbers of segments."""
    check_arrays(**given)
    log_pi, shape = next(iter(given)), np.shape(next(iter(given.values())))
    if len(shape) != 2:
        raise FieldError(log_pi.removesuffix(_ARRAYS), "[B, T]", f"of shape {list(shape)}")
    turned = {name: _of_tokens(name.removesuffix(_ARRAYS), x, shape).T for name, x in given.items()}
    for name, x in (("mask", mask), ("segment_ids", segment_ids)):
        if x is not None and np.shape(x) != shape:
            check_same_shape(**{log_pi.removesuffix(_ARRAYS): next(iter(given.values())), name: x})
    return turned, _is_valid(mask, shape).T, None if segment_ids is None else jnp.asarray(segment_ids).T


def _of_tokens(name: str, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """`[B, T]` from `[B, T]`, `[B, 1]` or `[B]`."""
    x = jnp.asarray(x)
    if x.shape not in (shape, (shape[0], 1), shape[:1]):
        raise FieldError(name, f"{list(shape)}, [{shape[0]}, 1] or [{shape[0]}]", f"of shape {list(x.shape)}")
    return jnp.broadcast_to(x if x.ndim == 2 else x[:, None], shape)


def _is_valid(mask: jax.Array | None, shape: tuple[int, ...]) -> jax.Array:
    if mask is None:
        return jnp.ones(shape, bool)
    if isinstance(mask, np.ndarray) and not np.all((mask == 0) | (mask == 1)):
        raise FieldError("mask", "of 0 and 1 alone", mask[(mask != 0) & (mask != 1)][0])
    return jnp.asarray(mask) > 0
