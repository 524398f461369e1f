"""The one backward recurrence that every trace, return and doubly robust estimator calls."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from isjax._checks import series
from isjax.types import Series, Tree


def backward_affine(gain_t: Series, bias_t: Series, *, associative: bool | None = None) -> Series:
    """Solves `x_t = bias_t + gain_t · x_{t+1}` backwards in time, with `x_T = 0`.

    Where a gain is zero, nothing of what comes later enters, NaN and infinity included. A last state's value
    enters through the last bias.

    Args:
      gain_t: `[T, *B]`.
      bias_t: `[T, *B]`.
      associative: solve in `log2(T)` parallel sweeps (`jax.lax.associative_scan`) instead of `T` steps
        (`jax.lax.scan`); the same numbers up to rounding. By default sweeps on accelerators, where every step
        is a kernel to launch, and steps on a CPU.

    Returns:
      `x` `[T, *B]`, float32 at least.

    Raises:
      ValueError: the shapes differ, or there is no step.
      TypeError: an array is not floating.

    >>> backward_affine(jnp.array([0.5, 0.5, 0.5]), jnp.array([1.0, 1.0, 1.0]))
    Array([1.75, 1.5 , 1.  ], dtype=float32)
    """
    gain_t, bias_t = series(gain_t=gain_t, bias_t=bias_t)
    return backward_rows((gain_t, bias_t), lambda row: row, lambda row, x, x_next: x, associative=associative)


def backward_rows(
    rows: Tree,
    affine: Callable[[Any], tuple[Series, Series]],
    result: Callable[[Any, Series, Series], Tree],
    *,
    associative: bool | None = None,
) -> Tree:
    """The same recurrence, with gains and biases made of steps on the way, and results of its solution.

    One pass over memory instead of one for each intermediate array: on a CPU that is most of the time.

    Args:
      rows: a tree of arrays `[T, *B]`, and of `[]` for what is the same in every step.
      affine: a step to its gain and bias; elementwise, since it sees `[*B]` or all of `[T, *B]` at once.
      result: `(step, x_t, x_{t+1})` to what is wanted of the step, elementwise too; `x_T = 0`.
      associative: see `backward_affine`.

    Returns:
      What `result` gives, `[T, *B]`.
    """
    if jax.default_backend() != "cpu" if associative is None else associative:
        x = jax.lax.associative_scan(_compose, affine(rows), reverse=True)[1]
        return result(rows, x, jnp.concatenate([x[1:], jnp.zeros_like(x[:1])]))
    leaves, tree = jax.tree.flatten(rows)

    def whole(moving: Any) -> Any:
        """A step, with what does not move put back in its place."""
        each = iter(moving)
        return tree.unflatten([next(each) if x.ndim else x for x in leaves])

    def step(x_next, moving):
        row = whole(moving)
        gain, bias = affine(row)
        x = _mapped(gain, bias, x_next)
        return x, result(row, x, x_next)

    moving = [x for x in leaves if x.ndim]
    gain, bias = affine(whole([x[0] for x in moving]))
    # Built from both, so that inside `shard_map` it varies over every axis that they vary over.
    end = jnp.zeros_like(gain * bias)
    # Differentiated, a step is done again rather than everything in it being stored; otherwise this does nothing.
    return jax.lax.scan(jax.checkpoint(step, prevent_cse=False), end, moving, reverse=True)[1]


@jax.custom_jvp
def _mapped(gain: jax.Array, bias: jax.Array, x: jax.Array) -> jax.Array:
    """`bias + scaled(gain, x)`, with the choice last: a product and its sum remain one instruction."""
    return jnp.where(gain == 0, bias, bias + gain * x)


@_mapped.defjvp
def _mapped_jvp(primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]) -> Any:
    (gain, bias, x), (gain_dot, bias_dot, x_dot) = primals, tangents
    return _mapped(gain, bias, x), bias_dot + _scaled_jvp((gain, x), (gain_dot, x_dot))[1]


@jax.custom_jvp
def scaled(factor: jax.Array, x: jax.Array) -> jax.Array:
    """`factor · x`, and 0 where the factor is, whatever `x` is: what does not count may be NaN or infinite.

    >>> scaled(jnp.array([0.0, 2.0]), jnp.array([jnp.nan, 3.0]))
    Array([0., 6.], dtype=float32)
    """
    return factor * jnp.where(factor == 0, 0.0, x)


@scaled.defjvp
def _scaled_jvp(primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]) -> Any:
    """A product's: at 0 the factor's derivative is still `x`, if that is a number; what was silenced has none."""
    (factor, x), (factor_dot, x_dot) = primals, tangents
    slope = jnp.where((factor == 0) & ~jnp.isfinite(x), 0.0, x)
    return scaled(factor, x), slope * factor_dot + factor * jnp.where(factor == 0, 0.0, x_dot)


def _compose(later: tuple[Series, Series], earlier: tuple[Series, Series]) -> tuple[Series, Series]:
    """Two affine maps in a row; a reversed `associative_scan` hands over the later one first.

    Products of gains stay finite, since beyond an episode's end gradients see them, and do not vanish, since a gain
    of 0 is an end. What passes through one that overflowed is infinite, as it is step by step.
    """
    (gain_later, bias_later), (gain, bias) = later, earlier
    tiny, largest = jnp.finfo(gain.dtype).tiny, jnp.finfo(gain.dtype).max
    product = scaled(gain, gain_later)
    has_vanished = (jnp.abs(product) < tiny) & (gain != 0) & (gain_later != 0)
    product = jnp.where(has_vanished, jnp.copysign(tiny, product), jnp.clip(product, -largest, largest))
    carried = scaled(gain, bias_later)
    return product, bias + jnp.where(jnp.abs(gain) == largest, carried * largest, carried)
