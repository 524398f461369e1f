"""JAX's random whole numbers in NumPy: to compile their generator takes longer than to draw a million of them.

Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", and what `jax.random.split` and `jax.random.randint`
make of it (with `jax_threefry_partitionable`, the default); a test holds them equal.
"""

import jax
import numpy as np

from isjax.types import Key

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = np.uint32(0x1BD11BDA)
AT_ONCE = 2**16
"""How many numbers are drawn at a time: few enough for a cache."""


def is_threefry(key: Key) -> bool:
    """Whether the numbers that JAX draws from a key are those of this module."""
    words = jax.eval_shape(jax.random.key_data, key)
    return bool(jax.config.jax_threefry_partitionable) and words.shape == (2,) and "fry" in str(key.dtype)  # type: ignore[attr-defined]


def drawn_with_replacement(key: Key, n: int, first: int, last: int) -> np.ndarray:
    """`[last − first, n]`: for each of the keys `first` to `last` that `key` is split into, `n` numbers below `n`.

    They are `jax.random.randint(keys[i], (n,), 0, n)` with `keys = jax.random.split(key, …)`.
    """
    words = np.asarray(jax.random.key_data(key))
    keys = _block(words[:1, None], words[1:, None], np.arange(first, last, dtype=np.uint32)[None])
    a, b = (x[0][:, None] for x in keys)
    halves = _block(a, b, np.arange(2, dtype=np.uint32)[None])
    high, low = ((halves[0][:, i : i + 1], halves[1][:, i : i + 1]) for i in (0, 1))
    half = 2**16 % n
    factor, span = np.uint32(half * half % 2**32 % n), np.uint32(n)
    found = np.empty((last - first, n), np.int32)
    rows, columns = max(1, AT_ONCE // n), min(n, AT_ONCE)
    for i in range(0, last - first, rows):
        for j in range(0, n, columns):
            at = slice(i, i + rows), slice(j, j + columns)
            counter = np.arange(j, min(j + columns, n), dtype=np.uint32)[None]
            upper, lower = (_bits(a[at[0]], b[at[0]], counter) for a, b in (high, low))
            found[at] = ((upper % span) * factor + lower % span) % span
    return found


def _bits(a: np.ndarray, b: np.ndarray, counter: np.ndarray) -> np.ndarray:
    """32 random bits for each key and counter."""
    x, y = _block(a, b, counter)
    return x ^ y


def _block(a: np.ndarray, b: np.ndarray, counter: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Threefry-2x32 with 20 rounds of a key of two words `[R, 1]` and counters `[1, n]` below 2³²."""
    words = (a, b, a ^ b ^ PARITY)
    x, y = np.broadcast_to(a, np.broadcast_shapes(a.shape, counter.shape)).copy(), counter + b
    shifted = np.empty_like(y)
    for group in range(5):
        for rotation in ROTATIONS[group % 2]:
            np.add(x, y, out=x)
            np.right_shift(y, np.uint32(32 - rotation), out=shifted)
            np.left_shift(y, np.uint32(rotation), out=y)
            np.bitwise_or(y, shifted, out=y)
            np.bitwise_xor(y, x, out=y)
        np.add(x, words[(group + 1) % 3], out=x)
        np.add(y, words[(group + 2) % 3] + np.uint32(group + 1), out=y)
    return x, y
