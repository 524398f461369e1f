"""Several observations of an episode, the latest ones, as one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from isjax.environments.api import Environment, Step
from isjax.environments.encoding import join_mask, split_mask
from isjax.environments.spaces import Box
from isjax.types import Key, Tree


class Stacked(NamedTuple):
    """The state of an environment, and what was observed last."""

    state: Tree
    frames: Tree
    """Observations without their mask, `[..., frames · n]` each."""


def stack_frames(environment: Environment, frames: int) -> Environment:
    """The environment whose observations are the last `frames` ones of its own, joined along their last axis.

    An episode starts with its first observation, `frames` times. A mask of actions stays that of the present state.
    """
    return environment if frames == 1 else FrameStack(environment, frames)


class FrameStack(Environment):
    """See `stack_frames`."""

    def __init__(self, inner: Environment, frames: int) -> None:
        self.inner, self.frames = inner, frames
        self.action_space, self.observation_space = inner.action_space, _repeated(inner.observation_space, frames)
        self.max_steps, self.patience, self.counts_steps = inner.max_steps, inner.patience, inner.counts_steps

    @property
    def name(self) -> str:
        """Of the environment inside."""
        return self.inner.name

    def reset(self, key: Key) -> tuple[Tree, Tree]:
        """The first observation, several times."""
        return self._first(*self.inner.reset(key))

    def step(self, key: Key, state: Stacked, action: jax.Array) -> Step:
        """The oldest observation gives way to the one that is reached."""
        after = self.inner.step(key, state.state, action)
        reached = self._next(state.frames, after.observation, after.state)
        following = None
        if after.following is not None:
            ended = jnp.asarray(after.terminated) | jnp.asarray(after.truncated)
            going_on, anew = self._next(state.frames, *after.following), self._first(*after.following)
            following = jax.tree.map(lambda new, old: jnp.where(ended, new, old), anew, going_on)
        return after._replace(observation=reached[0], state=reached[1], following=following)

    def draw(self, states: Sequence[Any], returns: Any, path: Path) -> None:
        """As the environment inside draws its own states."""
        self.inner.draw([stacked.state for stacked in states], returns, path)

    def _first(self, observation: Tree, state: Tree) -> tuple[Tree, Stacked]:
        seen, mask = split_mask(observation)
        frames = jax.tree.map(lambda x: jnp.concatenate([_row(x)] * self.frames, axis=-1), seen)
        return join_mask(frames, mask), Stacked(state, frames)

    def _next(self, frames: Tree, observation: Tree, state: Tree) -> tuple[Tree, Stacked]:
        seen, mask = split_mask(observation)

        def shift(before: jax.Array, x: jax.Array) -> jax.Array:
            x = _row(x).astype(before.dtype)
            return jnp.concatenate([before[..., x.shape[-1] :], x], axis=-1)

        frames = jax.tree.map(shift, frames, seen)
        return join_mask(frames, mask), Stacked(state, frames)


def _row(x: Any) -> jax.Array:
    """A number as an array of one."""
    return jnp.atleast_1d(jnp.asarray(x))


def _repeated(space: Any, frames: int) -> Any:
    """The space of `frames` observations joined; `None` where it says nothing that could be repeated."""
    spaces = getattr(space, "spaces", space)
    if isinstance(spaces, Mapping):
        return {name: part if name == "action_mask" else _repeated(part, frames) for name, part in spaces.items()}
    if hasattr(space, "n"):
        start = int(getattr(space, "start", 0))
        return Box(start, start + int(space.n) - 1, (frames,), jnp.int32)
    if not hasattr(space, "low"):
        return None
    shape = tuple(space.shape) or (1,)
    low, high = float(np.min(space.low)), float(np.max(space.high))
    return Box(low, high, (*shape[:-1], frames * shape[-1]), space.dtype)
