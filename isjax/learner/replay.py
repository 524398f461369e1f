"""Replay: a ring buffer of a learner's newest unrolls, to be learned from again beside fresh ones.

What is drawn are columns: one environment of one unroll each, `[T]`, in order of time.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from isjax.randomness import Domain, stream
from isjax.types import Flags, Key, Scalar, Unroll

_LARGEST_SHARE = 0.9
_LEAST_PRIORITY = float(jnp.finfo(jnp.float32).eps)


class Columns(NamedTuple):
    """Which columns of a replay were drawn, `[C]` each."""

    slot: jax.Array
    """int32, where in the ring their unrolls stand."""
    env: jax.Array
    """int32, the environment."""
    weight: jax.Array | None = None
    """What a column counts in a loss, the largest 1; `None` if all count alike."""


class Replay(NamedTuple):
    """The newest R unrolls; that of update `u` stands in slot `u mod R`.

    They are kept as the environments gave them. Rewards are scaled and observations standardized anew whenever they are
    drawn, by the statistics of that time.
    """

    unrolls: Unroll
    """`[R, ...]` each; slots not filled yet hold zeros."""
    priority: jax.Array | None = None
    """`[R, B]`, at least 0: how far off each column was when it was last learned from (see `column_error`); 0 in slots
    not filled yet. `None` where all columns are drawn alike."""

    @classmethod
    def start(cls, like: Unroll, size: int, *, is_prioritized: bool = False) -> "Replay":
        """An empty replay of `size` unrolls with the shapes and types of `like`."""
        unrolls = jax.tree.map(lambda x: jnp.zeros((size, *x.shape), x.dtype), like)
        return cls(unrolls, jnp.zeros((size, like.r_t.shape[1]), jnp.float32) if is_prioritized else None)

    @property
    def size(self) -> int:
        """R, the number of unrolls that are kept."""
        return self.unrolls.r_t.shape[0]

    def stored(self, unroll: Unroll, update: jax.Array, where: jax.Array) -> "Replay":
        """The replay with the unroll of `update` in place of the oldest one, or unchanged if `where` is false."""

        def store(ring: jax.Array, x: jax.Array) -> jax.Array:
            slot = update % self.size
            kept = jax.lax.dynamic_index_in_dim(ring, slot, keepdims=False)
            return jax.lax.dynamic_update_index_in_dim(ring, jnp.where(where, x, kept), slot, 0)

        return self._replace(unrolls=jax.tree.map(store, self.unrolls, unroll))

    def uniform(self, columns: int, update: jax.Array, key: Key) -> Columns:
        """As many columns drawn uniformly among those stored and those of the unroll of `update` itself."""
        unrolls_key, envs_key = stream(key, Domain.REPLAYED_UNROLLS), stream(key, Domain.REPLAYED_ENVIRONMENTS)
        slot = jax.random.randint(unrolls_key, (columns,), 0, jnp.minimum(update + 1, self.size))
        return Columns(slot, jax.random.randint(envs_key, (columns,), 0, self.unrolls.r_t.shape[2]))

    def by_priority(
        self, columns: int, update: jax.Array, key: Key, *, exponent: Scalar, correction: Scalar
    ) -> Columns:
        """As many columns with probabilities `P ∝ priority^α`, and the weights `(N P)^−β / max` that make up for it.

        Schaul et al. 2016, https://arxiv.org/abs/1511.05952, eq. 1, section 3.4 and appendix B.2.1: of `columns` equal
        parts of the cumulative sum each gives one column. N is in every weight and cancels, the maximum is that of the
        columns drawn. None has a priority of less than a 2^−23rd of the largest, so that none is never drawn again; in
        the unroll of `update` itself, not learned from yet, all have the largest.

        Args:
          columns: how many to draw.
          update: of the unroll that may be drawn as well.
          key: of the update.
          exponent: α in [0, 1], 0 draws uniformly.
          correction: β in [0, 1], 1 corrects for all of it.
        """
        assert self.priority is not None
        count = jnp.minimum(update + 1, self.size) * self.priority.shape[1]
        largest = jnp.max(self.priority)
        priority = self.priority.at[update % self.size].set(largest).reshape(-1)
        relative = jnp.where(largest > 0.0, jnp.maximum(priority / largest, _LEAST_PRIORITY), 1.0)
        p = jnp.where(jnp.arange(priority.size) < count, relative**exponent, 0.0)
        # A sum in another order may round down: a search needs numbers that never fall.
        total = jax.lax.cummax(jnp.cumsum(p))
        noise = jax.random.uniform(stream(key, Domain.REPLAYED_UNROLLS), (columns,))
        place = jnp.searchsorted(total, total[-1] * (jnp.arange(columns) + noise) / columns, side="right")
        place = jnp.minimum(place.astype(jnp.int32), count - 1)
        weight = (jnp.min(p[place]) / p[place]) ** correction
        return Columns(place // self.priority.shape[1], place % self.priority.shape[1], weight)

    def take(self, columns: Columns, unroll: Unroll, update: jax.Array) -> Unroll:
        """The unrolls' columns `[T, C]`; `unroll` is that of `update` itself.

        It is stored only after learning from it, if the learner then still lives.
        """
        is_new = columns.slot == update % self.size

        def draw(ring: jax.Array, x: jax.Array) -> jax.Array:
            stored, new = jnp.moveaxis(ring[columns.slot, :, columns.env], 0, 1), x[:, columns.env]
            return jnp.where(is_new.reshape(1, -1, *(1,) * (new.ndim - 2)), new, stored)

        drawn = jax.tree.map(draw, self.unrolls, unroll)
        if columns.weight is None:
            return drawn
        return drawn._replace(weight_tm1=jnp.broadcast_to(columns.weight, drawn.r_t.shape))

    def reprioritized(self, columns: Columns, error: jax.Array, update: jax.Array, where: jax.Array) -> "Replay":
        """The replay with what was found of the batch that `joined` made, or unchanged if `where` is false.

        Args:
          columns: the `C` columns that were drawn.
          error: `[B + C]` or, where nothing else was learned from, `[C]`. In the latter case the columns of `update`
            itself get the largest priority there was, or 1, unless they were drawn.
          update: whose unroll has been stored.
          where: whether the learner lives.
        """
        assert self.priority is not None
        fresh = len(error) - len(columns.slot)
        slot = jnp.concatenate([jnp.full((fresh,), update % self.size, columns.slot.dtype), columns.slot])
        env = jnp.concatenate([jnp.arange(fresh, dtype=columns.env.dtype), columns.env])
        largest = jnp.max(self.priority)
        new = self.priority.at[update % self.size].set(jnp.where(largest > 0.0, largest, 1.0))
        # A column that was drawn twice has two errors, equal up to their rounding; the larger one in any order.
        found = jnp.full_like(new, -1.0).at[slot, env].max(error)
        return self._replace(priority=jnp.where(where, jnp.where(found >= 0.0, found, new), self.priority))


def column_error(error: jax.Array, is_valid_t: Flags | None) -> jax.Array:
    """`0.9 max + 0.1 mean` of `|error|` over a column's valid steps, `[T, C]` to `[C]`; 0 where it has none.

    Kapturowski et al. 2019, https://openreview.net/forum?id=r1lyTjAqYX, section 2.3.
    """
    size = jnp.abs(error)
    counts = jnp.ones_like(size) if is_valid_t is None else is_valid_t.astype(size.dtype)
    size = jnp.where(counts > 0.0, size, 0.0)
    mean = jnp.sum(size, axis=0) / jnp.maximum(jnp.sum(counts, axis=0), 1.0)
    return _LARGEST_SHARE * jnp.max(size, axis=0) + (1.0 - _LARGEST_SHARE) * mean


def joined(fresh: Unroll, replayed: Unroll, burn_in: int) -> Unroll:
    """Both unrolls side by side, the first `burn_in` time steps of replayed ones marked as not to be learned from.

    Where replayed time steps have weights, fresh ones have 1.
    """
    if replayed.weight_tm1 is not None:
        fresh = fresh._replace(weight_tm1=jnp.ones_like(fresh.r_t))
    unroll = jax.tree.map(lambda x, y: jnp.concatenate([x, y], axis=1), fresh, replayed)
    if not burn_in:
        return unroll
    rows, envs = unroll.r_t.shape
    is_fresh = jnp.arange(envs) < fresh.r_t.shape[1]
    return unroll._replace(is_valid_t=is_fresh[None, :] | (jnp.arange(rows)[:, None] >= burn_in))
