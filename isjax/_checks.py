"""The only code that raises about the shapes and dtypes of arrays, and that settles their precision."""

from collections.abc import Callable
from numbers import Integral, Number, Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from isjax.errors import MUST, FieldError


def describe(**arrays: Any) -> str:
    """`name [shape], …` for messages."""
    return ", ".join(f"{name} {list(jnp.shape(x))}" for name, x in arrays.items())


def check_arrays(**arrays: Any) -> None:
    """Raises `TypeError` for what is neither an array nor a number."""
    for name, x in arrays.items():
        if not (isinstance(x, Number) or hasattr(x, "dtype")):
            raise TypeError(f"{name} must be an array, but it is a {type(x).__name__}.")


def check_same_shape(**arrays: Any) -> None:
    """Raises `ValueError` unless all arrays share one shape. `None` counts as absent."""
    given = {name: x for name, x in arrays.items() if x is not None}
    check_arrays(**given)
    if len({jnp.shape(x) for x in given.values()}) > 1:
        raise ValueError(f"These arrays must share one shape, but got: {describe(**given)}.")


def check_time_axis(**arrays: Any) -> None:
    """Raises `ValueError` for an array without a time axis, or with no time step in it."""
    for name, x in arrays.items():
        if jnp.ndim(x) == 0 or jnp.shape(x)[0] == 0:
            raise ValueError(f"{name} must be [T, *B] with T ≥ 1, but its shape is {list(jnp.shape(x))}.")


def check_flags(**arrays: Any) -> None:
    """Raises `TypeError` for an array that is not boolean. `None` counts as absent."""
    for name, x in arrays.items():
        if x is not None and _dtype(name, x) != jnp.bool_:
            raise TypeError(f"{name} must be boolean, but its dtype is {_dtype(name, x)}.")


def check_integer(**arrays: Any) -> None:
    """Raises `TypeError` for an array that does not hold integers."""
    for name, x in arrays.items():
        if not jnp.issubdtype(_dtype(name, x), jnp.integer):
            raise TypeError(f"{name} must hold integers, but its dtype is {_dtype(name, x)}.")


def check_count(**numbers: Any) -> None:
    """Raises for what is no integer of at least 1."""
    for name, x in numbers.items():
        if not isinstance(x, Integral):
            raise TypeError(f"{name} must be an integer, but it is {x!r}.")
        if x < 1:
            raise ValueError(f"{name} must be at least 1, but it is {x}.")


def check_positive(**numbers: Any) -> None:
    """Raises unless each is a scalar above zero; `None` counts as absent, and values in JAX's arrays pass unseen."""
    for name, x in numbers.items():
        if x is not None:
            _check_values(name, x, lambda x: x > 0, "be greater than 0")
            if jnp.ndim(x):
                raise ValueError(f"{name} must be a scalar, but its shape is {list(jnp.shape(x))}.")


def check_fraction(**numbers: Any) -> None:
    """Raises unless each is a number in [0, 1], or an array of such; values in JAX's arrays pass unseen."""
    for name, x in numbers.items():
        _check_values(name, x, lambda x: (x >= 0) & (x <= 1), "lie in [0, 1]")


def _check_values(name: str, x: Any, is_right: Callable[[np.ndarray], np.ndarray], allowed: str) -> None:
    if isinstance(x, Real | np.ndarray):
        numbers = np.asarray(x).ravel()
        wrong = numbers[~is_right(numbers)]
        if wrong.size:
            raise FieldError(name, allowed, wrong[0], MUST)
    elif not isinstance(x, jax.Array):
        raise TypeError(f"{name} must be a number, but it is a {type(x).__name__}.")


def _dtype(name: str, x: Any) -> Any:
    """The dtype of an array or a number; raises `TypeError` for anything else."""
    check_arrays(**{name: x})
    return getattr(x, "dtype", None) or jnp.result_type(x)


def precise(**arrays: Any) -> tuple[jax.Array, ...]:
    """The arrays in float32 at least: bfloat16 and float16 are widened, float64 stays.

    Raises `TypeError` for an array that is not floating.
    """
    for name, x in arrays.items():
        if not jnp.issubdtype(_dtype(name, x), jnp.floating):
            raise TypeError(f"{name} must be floating, but its dtype is {_dtype(name, x)}.")
    return tuple(jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32)) for x in arrays.values())


def series(*, is_valid_t: Any = None, **arrays: Any) -> tuple[jax.Array, ...]:
    """The arrays `precise`, once they are known to share one shape `[T, *B]`.

    With `is_valid_t`, padded steps become zeros, so that neither a value nor a gradient sees what stood there.
    """
    check_arrays(**arrays)
    check_same_shape(**arrays, is_valid_t=is_valid_t)
    check_time_axis(**arrays)
    check_flags(is_valid_t=is_valid_t)
    rows = precise(**arrays)
    return rows if is_valid_t is None else tuple(jnp.where(is_valid_t, x, 0.0) for x in rows)


def along_time(like: jax.Array, **options: Any) -> jax.Array:
    """The one option given, fit to multiply `like` `[T, *B]`: a scalar, `[T]` or `[T, *B]`.

    Raises `ValueError` for any other shape.
    """
    ((name, x),) = options.items()
    x = jnp.asarray(x, like.dtype)
    if x.ndim == 0 or x.shape == like.shape:
        return x
    if x.shape == like.shape[:1]:
        return x.reshape(x.shape + (1,) * (like.ndim - 1))
    raise ValueError(f"{name} must be a scalar, [T] or {list(like.shape)}, but its shape is {list(x.shape)}.")
