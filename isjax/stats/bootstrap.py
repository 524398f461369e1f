"""Bootstrap intervals of any statistic, from an explicit key."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri

from isjax._checks import check_count, describe
from isjax.errors import MUST, FieldError
from isjax.stats.draws import drawn_indices
from isjax.types import Key, Tree

Statistic: TypeAlias = Callable[[Any], jax.Array]
"""A pure function of a sample (a tree of arrays `[N, ...]`), with one array as its result."""
METHODS = ("percentile", "bca")
ELEMENTS_AT_ONCE = 2**22
"""How many numbers of resampled data are held at a time: 16 MiB in float32."""


class Interval(NamedTuple):
    """A confidence interval, both ends of the shape of what is estimated."""

    low: jax.Array
    high: jax.Array


def bootstrap_interval(
    key: Key,
    x: Tree,
    statistic: Statistic,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    method: str = "percentile",
    stratified: bool = False,
    independent: bool = False,
) -> Interval:
    """A bootstrap confidence interval of any statistic: rows of `x` are drawn anew, with replacement.

    Efron & Tibshirani 1993, sections 13.3 (percentile) and 14.3 (BCa). For the result of a sweep, `x` holds
    one return a learner and the statistic is `interquartile_mean`. Memory stays bounded: resamples are
    taken in chunks of about 16 MiB, or one by one if a single resample is larger.

    Args:
      key: a typed key, `jax.random.key(seed)`; the interval is a function of it.
      x: an array `[N, ...]` or a tree of such arrays, whose rows are drawn together.
      statistic: a pure function of the sample. A function that lives in a module is compiled once; a lambda
        is compiled at every call.
      level: the coverage aimed at, in (0, 1).
      resamples: how many samples are drawn.
      method: "percentile", or "bca": corrected for bias and skewness, at the cost of `N` more evaluations.
      stratified: each column of `[N, M, ...]` is drawn on its own, as for `N` learners on each of `M` tasks.
      independent: each array of the tree is drawn on its own, and has an `N` of its own, as for two algorithms.

    Returns:
      `Interval(low, high)`, each of the shape of the statistic.

    Raises:
      ValueError: an argument is out of range or of the wrong shape; `key` is not a single typed key.

    >>> from isjax.stats import interquartile_mean
    >>> low, high = bootstrap_interval(jax.random.key(0), jnp.arange(9.0), interquartile_mean)
    >>> bool(low < 4.0) and bool(high > 4.0)
    True
    """
    _check_options(key, level, resamples, method)
    for sample in jax.tree.leaves(x) if independent else [x]:
        _check_rows(sample, stratified, method)
    if independent and method == "bca":
        raise ValueError("method must be 'percentile' for independent samples, but it is 'bca'.")
    return _interval(key, x, statistic, level, resamples, method, stratified, independent)


def check_level(level: float) -> None:
    """Raises `ValueError` unless `level` lies strictly between 0 and 1.

    >>> check_level(95)
    Traceback (most recent call last):
    isjax.errors.FieldError: level must lie in (0, 1), but it is 95.
    """
    if not 0.0 < level < 1.0:
        raise FieldError("level", "lie in (0, 1)", level, MUST)


def _check_options(key: Key, level: float, resamples: int, method: str) -> None:
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0):
        raise ValueError("key must be a single typed key, as jax.random.key(seed) makes it.")
    check_level(level)
    check_count(resamples=resamples)
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, but it is {method!r}.")


def _check_rows(x: Tree, stratified: bool, method: str) -> None:
    leaves = {f"x{jax.tree_util.keystr(path)}": leaf for path, leaf in jax.tree_util.tree_leaves_with_path(x)}
    if not leaves:
        raise ValueError("x must hold at least one array [N, ...], but it is empty.")
    shapes: set[tuple[int, ...]] = {jnp.shape(leaf)[: 1 + stratified] for leaf in leaves.values()}
    shared = min(shapes, key=len)
    if len(shapes) > 1 or len(shared) < 1 + stratified or 0 in shared:
        axes = "[N, M, ...]" if stratified else "[N, ...]"
        raise ValueError(f"x must be {axes} with the same axes throughout, but got: {describe(**leaves)}.")
    if method == "bca" and (stratified or shared[0] < 2):
        raise ValueError(f"method 'bca' needs x [N, ...] with N ≥ 2, unstratified, but got: {describe(**leaves)}.")


def _map_over_samples(evaluate: Callable[[Any], jax.Array], over: jax.Array, x: Tree) -> jax.Array:
    """`evaluate` for each of `over`, as many at once as fit into the bound on memory."""
    size = sum(leaf.size for leaf in jax.tree.leaves(x))
    return jax.lax.map(evaluate, over, batch_size=max(1, min(len(over), ELEMENTS_AT_ONCE // max(size, 1))))


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5, 6, 7))
def _interval(
    key: Key,
    x: Tree,
    statistic: Statistic,
    level: float,
    resamples: int,
    method: str,
    stratified: bool,
    independent: bool,
) -> Interval:
    drawn = _resampled(key, x, statistic, resamples, stratified, independent)
    drawn = drawn.astype(jnp.promote_types(drawn.dtype, jnp.float32))
    low = jnp.full(drawn.shape[1:], (1.0 - level) / 2.0, drawn.dtype)
    high = 1.0 - low
    if method == "bca":
        low, high = _corrected_levels(statistic(x), drawn, _leave_one_out(x, statistic), low)
    return Interval(_quantile(drawn, low), _quantile(drawn, high))


def _resampled(
    key: Key, x: Tree, statistic: Statistic, resamples: int, stratified: bool, independent: bool
) -> jax.Array:
    """The statistic of every resample, `[resamples, ...]`."""

    def draw(one_key: Key, sample: Tree) -> Tree:
        rows = jax.tree.leaves(sample)[0].shape[: 1 + stratified]
        columns: tuple[jax.Array, ...] = (jnp.arange(rows[1])[None],) if stratified else ()
        index = drawn_indices(one_key, rows)
        return jax.tree.map(lambda leaf: leaf[(index, *columns)], sample)

    def once(one_key: Key) -> jax.Array:
        if not independent:
            return statistic(draw(one_key, x))
        leaves, tree = jax.tree.flatten(x)
        keys = jax.random.split(one_key, len(leaves))
        return statistic(tree.unflatten([draw(k, leaf) for k, leaf in zip(keys, leaves, strict=True)]))

    return _map_over_samples(once, jax.random.split(key, resamples), x)


def _leave_one_out(x: Tree, statistic: Statistic) -> jax.Array:
    """The statistic of every sample that lacks one row, `[N, ...]`: the jackknife."""
    n = jax.tree.leaves(x)[0].shape[0]
    others = jnp.arange(n - 1)

    def without(row: jax.Array) -> jax.Array:
        index = others + (others >= row)
        return statistic(jax.tree.map(lambda leaf: leaf[index], x))

    return _map_over_samples(without, jnp.arange(n), x)


def _corrected_levels(
    observed: jax.Array, drawn: jax.Array, jackknife: jax.Array, tail: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The levels at which BCa reads the resamples' quantiles (Efron & Tibshirani 1993, eq. 14.9–14.15)."""
    half = 0.5 / drawn.shape[0]
    below = jnp.mean(drawn < observed[None], 0) + 0.5 * jnp.mean(drawn == observed[None], 0)
    bias = ndtri(jnp.clip(below, half, 1.0 - half))
    influence = jnp.mean(jackknife, 0, keepdims=True) - jackknife
    largest = jnp.max(jnp.abs(influence), 0, keepdims=True)  # Its powers overflow or vanish in other units.
    influence = influence / jnp.where(largest > 0, largest, 1.0)
    spread = jnp.sum(influence**2, 0) ** 1.5
    skew = jnp.where(spread > 0, jnp.sum(influence**3, 0) / jnp.where(spread > 0, spread, 1.0), 0.0) / 6.0

    def corrected(level: jax.Array) -> jax.Array:
        z = bias + ndtri(level)
        left = 1.0 - skew * z  # Far out in a skewed tail none is left: beyond every resample.
        return ndtr(bias + jnp.where(left > 0, z / jnp.where(left > 0, left, 1.0), jnp.copysign(jnp.inf, z)))

    return corrected(tail), corrected(1.0 - tail)


def _quantile(drawn: jax.Array, level: jax.Array) -> jax.Array:
    """`drawn` `[R, ...]` at one level for each of its columns, interpolated as `jnp.quantile` does by default."""
    place = level * (len(drawn) - 1)
    below = jnp.floor(place)
    ordered, share = jnp.sort(drawn, 0), place - below

    def at(place: jax.Array) -> jax.Array:
        return jnp.take_along_axis(ordered, jnp.minimum(place, len(drawn) - 1).astype(int)[None], 0)[0]

    low, high = at(below), at(below + 1)
    # Not 0 · ∞ where the place is one of the numbers, nor a rounded mean where both are the same.
    alone = (share == 0) | (low == high)
    between = jnp.where(alone, low, (1 - share) * low + share * high)
    return jnp.where(jnp.any(jnp.isnan(drawn), 0), jnp.nan, between)
