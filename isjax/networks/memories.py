"""Memories: from features in time to features in time. Each is registered by the name that `Config.memory` holds."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from isjax.networks.layers import memory_init
from isjax.registry import Registry
from isjax.types import Flags, Tree


class Memory(nn.Module):
    """What every memory derives from; fields are what `Config` says, `width` is that of the torso's last layer.

    >>> memories.get("gru")(width=8).start(batch=2).shape
    (2, 8)
    """

    unused: ClassVar[tuple[str, ...]] = ()
    """Settings that have no say here, and are refused where they are given."""

    width: int = 64
    window: int = 32
    """`Config.memory_window`, for memories that hold single time steps."""

    def start(self, batch: int) -> Tree:
        """An empty memory `[batch, ...]`, all zeros."""
        raise NotImplementedError

    def __call__(self, x: jax.Array, memory: Tree, is_first: Flags, needed: jax.Array) -> tuple[jax.Array, Tree]:
        """`(features [T, B, W'], memories [K, B, ...])` of features `[T, B, W]`; see `types.RecurrentNetwork`."""
        raise NotImplementedError


memories = Registry("memory", Memory, besides=("none",))


class _Cell(Memory):
    """A cell of flax, carried through time; its parameters stand where the memory's would."""

    unused: ClassVar[tuple[str, ...]] = ("memory_window",)
    cell_type: ClassVar[Any]

    def setup(self):
        self.cell = self.cell_type(self.width, kernel_init=memory_init, recurrent_kernel_init=memory_init)
        nn.share_scope(self, self.cell)

    def __call__(self, x: jax.Array, memory: Tree, is_first: Flags, needed: jax.Array) -> tuple[jax.Array, Tree]:
        def step(cell, carry, row):
            x, is_first = row
            carry = jax.tree.map(lambda kept: jnp.where(is_first[:, None], 0.0, kept), carry)
            carry, y = cell(carry, x)
            return carry, (y, carry)

        scan = nn.scan(step, variable_broadcast="params", split_rngs={"params": False})
        _, (y, carries) = scan(self.cell, memory, (x, is_first))
        return y, take_steps(carries, needed)


@memories.register("gru")
class Gru(_Cell):
    """A gated recurrent unit (Cho et al. 2014)."""

    cell_type: ClassVar[Any] = nn.GRUCell

    def start(self, batch: int) -> Tree:
        """The hidden state."""
        return jnp.zeros((batch, self.width), jnp.float32)


@memories.register("lstm")
class Lstm(_Cell):
    """Long short-term memory (Hochreiter & Schmidhuber 1997)."""

    cell_type: ClassVar[Any] = nn.OptimizedLSTMCell

    def start(self, batch: int) -> Tree:
        """Cell and hidden state."""
        empty = jnp.zeros((batch, self.width), jnp.float32)
        return empty, empty


@memories.register("attention")
class Attention(Memory):
    """Attention to the same episode's last `window` time steps and the present one, added to the features.

    The memory holds keys and values of the window: what a time step attends to is computed once. How far back a step
    lies counts by a learned bias.
    """

    heads: ClassVar[int] = 4

    def start(self, batch: int) -> Tree:
        """Keys and values, and which of them there are."""
        empty = jnp.zeros((batch, self.window, self.heads, self._depth), jnp.float32)
        return {"key": empty, "value": empty, "is_filled": jnp.zeros((batch, self.window), bool)}

    @nn.compact
    def __call__(self, x: jax.Array, memory: Tree, is_first: Flags, needed: jax.Array) -> tuple[jax.Array, Tree]:
        """See `Memory`."""
        rows = x.shape[0]
        normal = nn.LayerNorm(name="norm")(x)
        query, key, value = (self._project(name)(normal) for name in ("query", "key", "value"))
        # Time steps in the order in which they were: first the memory's, then the new ones, [window + T, B, ...].
        key, value = (
            jnp.concatenate([jnp.moveaxis(memory[name], 1, 0), new]) for name, new in (("key", key), ("value", value))
        )
        episode = jnp.concatenate(
            [jnp.where(memory["is_filled"].T, 0, -1), jnp.cumsum(is_first, axis=0, dtype=jnp.int32)]
        )
        distance = self.window + jnp.arange(rows)[:, None] - jnp.arange(self.window + rows)[None]
        in_window = (distance >= 0) & (distance <= self.window)
        same_episode = episode[self.window :, None] == episode[None]
        bias = self.param("bias", nn.initializers.zeros, (self.window + 1, self.heads), jnp.float32)
        score = jnp.einsum("tbhd,sbhd->tsbh", query, key) * self._depth**-0.5
        score = score + bias[jnp.clip(distance, 0, self.window)][:, :, None]
        is_seen = (in_window[:, :, None] & same_episode)[..., None]
        weight = jax.nn.softmax(jnp.where(is_seen, score, -jnp.inf), axis=1)
        found = jnp.einsum("tsbh,sbhd->tbhd", weight, value)
        y = x + nn.DenseGeneral(x.shape[-1], axis=(-2, -1), kernel_init=memory_init, name="out")(found)
        return y, self._remembered(key, value, episode, needed)

    def _remembered(self, key: jax.Array, value: jax.Array, episode: jax.Array, needed: jax.Array) -> Tree:
        """The `window` time steps up to each of those needed `[K, B]`, where they are of its episode."""
        place = needed[:, None] + 1 + jnp.arange(self.window)[None, :, None]  # [K, window, B]
        of_same = take_steps(episode, place) == take_steps(episode, needed + self.window)[:, None]

        def window_of(x: jax.Array) -> jax.Array:
            kept = take_steps(x, place)
            return jnp.moveaxis(jnp.where(of_same[..., None, None], kept, 0.0), 1, 2)

        return {"key": window_of(key), "value": window_of(value), "is_filled": jnp.moveaxis(of_same, 1, 2)}

    @property
    def _depth(self) -> int:
        return max(1, self.width // self.heads)

    def _project(self, name: str) -> nn.DenseGeneral:
        return nn.DenseGeneral((self.heads, self._depth), kernel_init=memory_init, name=name)


def take_steps(tree: Tree, step: jax.Array) -> Tree:
    """Of arrays `[T, B, ...]`, those of time steps `[..., B]`: `[..., B, ...]`.

    >>> take_steps(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([1, 0]))
    Array([3., 2.], dtype=float32)
    """

    def take(x: jax.Array) -> jax.Array:
        if x.shape[0] == 1:  # acting: there is nothing to choose from
            return jnp.broadcast_to(x[0], (*step.shape, *x.shape[2:]))
        return x[step, jnp.arange(x.shape[1])]

    return jax.tree.map(take, tree)


def make_memory(memory: str, **settings: Any) -> Memory:
    """The module of that name; parameters of every memory are known as those of a cell."""
    return memories.get(memory)(**settings, name="cell")
