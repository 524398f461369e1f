"""Spaces of actions and observations, and the distribution over a space of actions."""

import dataclasses
import math
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from isjax.environments.distributions import ActionDistribution, Categorical, Gaussian
from isjax.environments.product import MultiCategorical


@dataclasses.dataclass(frozen=True)
class Discrete:
    """The integers 0, …, n − 1."""

    n: int


@dataclasses.dataclass(frozen=True, eq=False)
class MultiDiscrete:
    """Several integers at once: an array of the shape of `nvec`, each entry one of 0, …, n − 1 for its own n.

    >>> action_distribution(MultiDiscrete((3, 2))).num_params
    5
    """

    nvec: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Box:
    """Arrays between bounds, each a number or an array that can be broadcast to the shape; infinity is no bound."""

    low: Any
    high: Any
    shape: tuple[int, ...] = ()
    dtype: Any = jnp.float32


def action_distribution(space: Any, box_actions: Literal["tanh", "clip"] = "tanh") -> ActionDistribution:
    """The distribution over a space of actions.

    Args:
      space: of this module, of gymnax or of gymnasium; anything with `n`, with `nvec`, or with `low`, `high`, `shape`
        and `dtype`.
      box_actions: "tanh" or "clip", how Gaussian actions are brought into a bounded Box.

    Raises:
      ValueError: it starts at another number than 0, or its bounds are not bounds.
      TypeError: it is neither Discrete nor MultiDiscrete nor a Box of real numbers.
    """
    if hasattr(space, "nvec"):
        counts = np.asarray(space.nvec)
        if counts.size == 0 or counts.min() < 1 or np.any(np.asarray(getattr(space, "start", 0)) != 0):
            raise ValueError(f"A MultiDiscrete space must have numbers n ≥ 1 and start at 0, but it is {space!r}.")
        return MultiCategorical(tuple(counts.ravel().tolist()), counts.shape)
    if hasattr(space, "n") and not hasattr(space, "low"):
        if getattr(space, "shape", ()) != () or getattr(space, "start", 0) != 0 or not int(space.n) >= 1:
            raise ValueError(f"A Discrete action space must be one of {{0, …, n − 1}} with n ≥ 1, but it is {space!r}.")
        return Categorical(int(space.n))
    if not hasattr(space, "low") or not jnp.issubdtype(getattr(space, "dtype", jnp.float32), jnp.floating):
        raise TypeError(
            f"The action space must be MultiDiscrete, Discrete or Box of real numbers, but it is {space!r}."
        )
    shape = tuple(space.shape)
    if math.prod(shape) == 0:
        raise ValueError(f"A Box of actions must have at least one dimension, but it is {space!r}.")
    try:
        with np.errstate(over="ignore"):  # a bound that float32 does not hold is infinity
            low, high = (np.broadcast_to(np.asarray(x, np.float32), shape).ravel() for x in (space.low, space.high))
    except ValueError:
        raise ValueError(
            f"Bounds of a Box must have its shape, {list(shape)}, but theirs are {list(np.shape(space.low))} and "
            f"{list(np.shape(space.high))}."
        ) from None
    if np.all(np.isneginf(low) & np.isposinf(high)):
        return Gaussian(shape, None, None, into=box_actions)
    return Gaussian(shape, tuple(low.tolist()), tuple(high.tolist()), into=box_actions)
