"""The only code that raises about the shapes and dtypes of arrays, and that settles their precision."""

from typing import Any

import jax
import jax.numpy as jnp


def describe(**arrays: Any) -> str:
    """`name [shape], …` for messages."""
    return ", ".join(f"{name} {list(jnp.shape(x))}" for name, x in arrays.items())


def in_one_line(text: str, *, most: int = 300) -> str:
    """The text on one line: its beginning and its end if it is longer than `most`, and control codes spelled out.

    >>> in_one_line("a path that is long and what is wrong with it", most=24)
    'a path tha … ong with it'
    """
    text = "".join(x if x.isprintable() else x.encode("unicode_escape").decode() for x in " ".join(text.split()))
    if len(text) <= most:
        return text
    begin = (most - 3) // 2
    return f"{text[:begin].rstrip()} … {text[len(text) - (most - 3 - begin) :].lstrip()}"


def check_same_shape(**arrays: Any) -> None:
    """Raises `ValueError` unless all arrays share one shape. `None` counts as absent."""
    given = {name: x for name, x in arrays.items() if x is not None}
    if len({jnp.shape(x) for x in given.values()}) > 1:
        raise ValueError(f"These arrays must share one shape, but got: {describe(**given)}.")


def check_time_axis(**arrays: Any) -> None:
    """Raises `ValueError` for an array without a time axis, or with no rows in it."""
    for name, x in arrays.items():
        if jnp.ndim(x) == 0 or jnp.shape(x)[0] == 0:
            raise ValueError(f"{name} must be [T, *B] with T ≥ 1, but its shape is {list(jnp.shape(x))}.")


def check_flags(**arrays: Any) -> None:
    """Raises `TypeError` for an array that is not boolean. `None` counts as absent."""
    for name, x in arrays.items():
        if x is not None and jnp.result_type(x) != jnp.bool_:
            raise TypeError(f"{name} must be boolean, but its dtype is {jnp.result_type(x)}.")


def check_integer(**arrays: Any) -> None:
    """Raises `TypeError` for an array that does not hold integers."""
    for name, x in arrays.items():
        if not jnp.issubdtype(jnp.result_type(x), jnp.integer):
            raise TypeError(f"{name} must hold integers, but its dtype is {jnp.result_type(x)}.")


def check_positive(**numbers: Any) -> None:
    """Raises `ValueError` for a Python number that is not above zero; traced values pass unseen."""
    for name, x in numbers.items():
        if isinstance(x, int | float) and not x > 0:
            raise ValueError(f"{name} must be greater than 0, but it is {x}.")


def check_fraction(**numbers: Any) -> None:
    """Raises `ValueError` for a Python number outside [0, 1]; traced values pass unseen."""
    for name, x in numbers.items():
        if isinstance(x, int | float) and not 0 <= x <= 1:
            raise ValueError(f"{name} must lie in [0, 1], but it is {x}.")


def precise(**arrays: Any) -> tuple[jax.Array, ...]:
    """The arrays in float32 at least: bfloat16 and float16 are widened, float64 stays.

    Raises `TypeError` for an array that is not floating.
    """
    for name, x in arrays.items():
        if not jnp.issubdtype(jnp.result_type(x), jnp.floating):
            raise TypeError(f"{name} must be floating, but its dtype is {jnp.result_type(x)}.")
    return tuple(jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32)) for x in arrays.values())


def series(*, is_valid_t: Any = None, **arrays: Any) -> tuple[jax.Array, ...]:
    """The arrays `precise`, once they are known to share one shape `[T, *B]`.

    With `is_valid_t`, padded rows become zeros, so that neither a value nor a gradient sees what stood there.
    """
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
