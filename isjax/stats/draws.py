"""Which of `n` numbers a resample holds: as many draws with replacement, from a key or from NumPy's generator."""

import functools

import jax
import numpy as np

from isjax.types import Key


def drawn_indices(key: Key, shape: tuple[int, ...]) -> jax.Array:
    """`shape`, whose first axis is `n` long: indices below `n`."""
    return jax.random.randint(key, shape, 0, shape[0], np.int32)


def drawn_counts(keys: jax.Array, n: int) -> np.ndarray:
    """`[R, n]`: how often each of `n` numbers is among the indices that each of `R` keys draws."""
    index = np.asarray(_indices_of_each(keys, n))
    index = index + n * np.arange(len(index))[:, None]
    return np.bincount(index.ravel(), minlength=index.size).reshape(index.shape).astype(np.float64)


def generated_counts(generator: np.random.Generator, n: int, resamples: int) -> np.ndarray:
    """`[resamples, n]`, likewise; nothing is compiled for a new `n`."""
    return generator.multinomial(n, np.full(n, 1 / n), size=resamples)


@functools.partial(jax.jit, static_argnums=1)
def _indices_of_each(keys: jax.Array, n: int) -> jax.Array:
    return jax.vmap(lambda key: drawn_indices(key, (n,)))(keys)
