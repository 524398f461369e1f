"""Observations as float32 features, and the actions that they say are legal."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from isjax.environments.distributions import one_hot
from isjax.types import Tree

MAX_ONE_HOT = 256
"""Integer observations with at most so many values are one-hot encoded, others cast to float32."""
MAX_FEATURES = 4096
"""What one-hot encoding makes of one observation, at most; what would be larger is scaled by its bounds instead."""
MAX_PART = 512
"""What one-hot encoding makes of one leaf among several, at most."""


class Range(NamedTuple):
    """The integers from `low` on; `size` is infinite where their space does not say."""

    low: int
    size: float


def split_mask(observation: Tree) -> tuple[Tree, jax.Array | None]:
    """The observation without its `action_mask`, and that mask, if it has one."""
    if isinstance(observation, Mapping) and "action_mask" in observation:
        return {name: x for name, x in observation.items() if name != "action_mask"}, observation["action_mask"]
    mask = getattr(observation, "action_mask", None)
    return (observation, None) if mask is None else (_with_mask(observation, None), mask)


def join_mask(seen: Tree, mask: jax.Array | None) -> Tree:
    """What `split_mask` took apart."""
    if mask is None:
        return seen
    return {**seen, "action_mask": mask} if isinstance(seen, Mapping) else _with_mask(seen, mask)


def _with_mask(observation: Any, mask: jax.Array | None) -> Tree:
    replace = getattr(observation, "_replace", None) or functools.partial(dataclasses.replace, observation)
    return replace(action_mask=mask)


def encoder(space: Any, observation: Tree) -> Callable[[Tree], jax.Array]:
    """What makes features `[N, ...]` of a batch of observations `[N, ...]`.

    Integers with few values become one-hot. Images of integers would be too large so: they are scaled to [0, 1] by
    their bounds, and so are bytes that may take any value. Everything else is cast to float32. Several leaves are
    joined flat: integers with few values in few places one-hot, others scaled by their bounds or cast.

    Args:
      space: the observation's.
      observation: one, or its shapes.

    Raises:
      TypeError: it holds nothing, or something other than real numbers.
    """
    leaves = jax.tree.leaves_with_path(split_mask(observation)[0])
    kinds = [x.dtype for _, x in leaves]
    if not kinds or any(jnp.issubdtype(kind, jnp.complexfloating) or not _is_number(kind) for kind in kinds):
        raise TypeError(f"An observation must hold arrays of real numbers, but it holds {kinds or 'nothing'}.")
    paths = [path for path, _ in leaves]
    ranges = [_range(_space_at(space, path)) for path in paths]
    return functools.partial(_encode, ranges)


def _encode(ranges: list[Range], observation: Tree) -> jax.Array:
    leaves = jax.tree.leaves(split_mask(observation)[0])
    if len(leaves) > 1:
        return jnp.concatenate([_part(of, x) for of, x in zip(ranges, leaves, strict=True)], axis=1)
    (of,), (x,) = ranges, leaves
    if not jnp.issubdtype(x.dtype, jnp.integer) or of.size > MAX_ONE_HOT or _is_image(of, x):
        return _numbers(of, x, is_alone=True)
    return one_hot(x.astype(jnp.int32) - of.low, int(of.size)).reshape(x.shape[0], -1).astype(jnp.float32)


def _part(of: Range, x: jax.Array) -> jax.Array:
    """One leaf of several, `[N, F]`."""
    is_index = jnp.issubdtype(x.dtype, jnp.integer) and not _is_byte(x)
    if is_index and math.prod(x.shape[1:]) * of.size <= MAX_PART:
        x = one_hot(x.astype(jnp.int32) - of.low, int(of.size)).astype(jnp.float32)
    else:
        x = _numbers(of, x, is_alone=False)
    return x.reshape(x.shape[0], -1)


def _is_image(of: Range, x: jax.Array) -> bool:
    """Whether one-hot features of `x` `[N, ...]` are not wanted, although its values are few."""
    return (_is_byte(x) and of.size >= 256) or math.prod(x.shape[1:]) * of.size > MAX_FEATURES


def _numbers(of: Range, x: jax.Array, *, is_alone: bool) -> jax.Array:
    """In float32; bytes by their bounds, with `is_alone` whatever has few values, and otherwise whatever has bounds:
    an index or a counter beside other parts must not drown them.
    """
    if _is_byte(x) and math.isinf(of.size):
        of = Range(int(jnp.iinfo(x.dtype).min), 256)
    is_scaled = _is_byte(x) or (of.size <= MAX_ONE_HOT if is_alone else math.isfinite(of.size))
    if not jnp.issubdtype(x.dtype, jnp.integer) or not is_scaled:
        return x.astype(jnp.float32)
    return (x.astype(jnp.float32) - of.low) / max(of.size - 1, 1)


def _is_number(kind: Any) -> bool:
    return jnp.issubdtype(kind, jnp.number) or jnp.issubdtype(kind, jnp.bool_)


def _is_byte(x: jax.Array) -> bool:
    return jnp.issubdtype(x.dtype, jnp.integer) and x.dtype.itemsize == 1


def _range(space: Any) -> Range:
    if hasattr(space, "n"):
        return Range(int(getattr(space, "start", 0)), int(space.n))
    if not hasattr(space, "low"):
        return Range(0, math.inf)
    low, high = float(np.asarray(space.low).min()), float(np.asarray(space.high).max())
    return Range(math.floor(low), math.floor(high - low) + 1) if math.isfinite(high - low) else Range(0, math.inf)


def _space_at(space: Any, path: tuple[Any, ...]) -> Any:
    """The space of a leaf; `None` where spaces are not laid out as the observation is."""
    for key in path:
        spaces = getattr(space, "spaces", space)
        name = next((getattr(key, kind) for kind in ("key", "name", "idx") if hasattr(key, kind)), None)
        try:
            space = spaces[name]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return None
    return space
