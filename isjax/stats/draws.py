"""Which of `n` numbers a resample holds: as many draws with replacement, from a key or from NumPy's generator."""

import jax
import numpy as np

from isjax.types import Key


def drawn_indices(key: Key, shape: tuple[int, ...]) -> jax.Array:
    """`shape`, whose first axis is `n` long: indices below `n`."""
    return jax.random.randint(key, shape, 0, shape[0], np.int32)


def counts_of(index: np.ndarray, n: int) -> np.ndarray:
    """`[R, n]`: how often each of `n` numbers is among the `n` indices of each of `R` resamples, `[R, n]` too."""
    index = index + n * np.arange(len(index))[:, None]
    return np.bincount(index.ravel(), minlength=index.size).reshape(index.shape).astype(np.float64)


def generated_counts(generator: np.random.Generator, n: int, resamples: int) -> np.ndarray:
    """`[resamples, n]`, such counts at once; nothing is compiled for a new `n`."""
    return generator.multinomial(n, np.full(n, 1 / n), size=resamples)
