"""What many numbers come down to: the interquartile mean, on a device and in NumPy, and how likely one is better."""

import jax
import jax.numpy as jnp
import numpy as np

from isjax._checks import describe, precise


def middle_half(n: int) -> tuple[int, int]:
    """The first of `n` ordered numbers that belongs to their middle half, and the first one after it."""
    return n // 4, n - n // 4


def interquartile_mean(x: jax.Array, axis: int | None = 0) -> jax.Array:
    """The mean of the middle half: the lowest and the highest `⌊N / 4⌋` of `N` numbers are left out.

    Agarwal et al. 2021, https://arxiv.org/abs/2108.13264, section 4.3; the same as
    `scipy.stats.trim_mean(x, 0.25)`.

    Args:
      x: any shape, floating. One NaN among the `N` gives NaN: a diverged learner is not the best one.
        Leave such learners out beforehand, and say so.
      axis: the axis along which the `N` numbers lie; `None` for all of `x`.

    Returns:
      The shape of `x` without `axis`.

    Raises:
      ValueError: `x` is a scalar or has no numbers along `axis`.
      TypeError: `x` is not floating.

    >>> interquartile_mean(jnp.array([0.0, 1.0, 2.0, 1000.0]))
    Array(1.5, dtype=float32)
    """
    (x,) = precise(x=x)
    if axis is None:
        x, axis = x.reshape(-1), 0
    if not -x.ndim <= axis < x.ndim or x.shape[axis] == 0:
        raise ValueError(f"x must have numbers along axis {axis}, but its shape is {list(x.shape)}.")
    n = x.shape[axis]
    middle = jax.lax.slice_in_dim(jnp.sort(x, axis), *middle_half(n), axis=axis % x.ndim)
    # Relative to one of them: the mean of equal numbers is that number.
    lowest = jnp.min(middle, axis, keepdims=True)
    lowest = jnp.where(jnp.isfinite(lowest), lowest, 0.0)
    mean = jnp.mean(middle - lowest, axis) + jnp.squeeze(lowest, axis)
    return jnp.where(jnp.any(jnp.isnan(x), axis), jnp.nan, mean)


def middle_mean(x: np.ndarray) -> float:
    """The interquartile mean of `x` `[N]` in NumPy, NaN for no numbers: it waits for no device."""
    low, high = middle_half(len(x))
    return float(np.sort(x)[low:high].mean()) if len(x) else float("nan")


def middle_weights(counts: np.ndarray) -> np.ndarray:
    """What each number, in ascending order, weighs in the interquartile mean of a sample that holds it `counts` times.

    Args:
      counts: `[..., N]`, whose sums are `N`.
    """
    low, high = middle_half(counts.shape[-1])
    last = np.cumsum(counts, axis=-1)
    inside = np.minimum(last, high) - np.maximum(last - counts, low)
    return np.maximum(inside, 0) / (high - low)


def probability_of_improvement(x: jax.Array, y: jax.Array) -> jax.Array:
    """`P(X > Y) + ½ P(X = Y)`: how often a run of one algorithm beats a run of another.

    Agarwal et al. 2021, https://arxiv.org/abs/2108.13264, section 4.3: over all pairs of a run of each, averaged over
    tasks; on one task, the Mann–Whitney statistic over the number of pairs. Its interval, the runs of either and of
    each task being drawn on their own:
    `bootstrap_interval(key, (x, y), statistic, independent=True, stratified=True)`.

    Args:
      x: `[N]`, or `[N, M]` with a column a task; floating. One NaN among `x` or `y` gives NaN.
      y: `[K]` or `[K, M]`.

    Returns:
      A scalar in [0, 1]; ½ where neither is the better one.

    Raises:
      ValueError: the shapes are others, or there are no numbers.
      TypeError: `x` or `y` is not floating.

    >>> probability_of_improvement(jnp.array([1.0, 2.0]), jnp.array([0.0, 1.0, 1.0, 3.0]))
    Array(0.625, dtype=float32)
    """
    x, y = precise(x=x, y=y)
    if x.ndim not in (1, 2) or x.ndim != y.ndim or x.shape[1:] != y.shape[1:] or 0 in (x.size, y.size):
        raise ValueError(f"x and y must be [N] and [K], or [N, M] and [K, M], but got: {describe(x=x, y=y)}.")

    def share(x: jax.Array, y: jax.Array) -> jax.Array:
        ranked = jnp.sort(y)
        beaten = jnp.searchsorted(ranked, x, side="left") + jnp.searchsorted(ranked, x, side="right")
        return jnp.mean(beaten.astype(x.dtype) / (2 * y.size))

    found = jnp.mean(jax.vmap(share, 1)(x.reshape(len(x), -1), y.reshape(len(y), -1)))
    return jnp.where(jnp.any(jnp.isnan(x)) | jnp.any(jnp.isnan(y)), jnp.nan, found)
