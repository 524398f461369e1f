"""Replay: a ring buffer of a learner's newest unrolls, to be learned from again beside fresh ones."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from isjax.randomness import Domain, stream
from isjax.types import Key, Unroll


class Replay(NamedTuple):
    """The newest R unrolls; that of update `u` stands in slot `u mod R`.

    They are kept as the environments gave them. Rewards are scaled and observations standardized anew whenever they are
    drawn, by the statistics of that time.
    """

    unrolls: Unroll
    """`[R, ...]` each; slots not filled yet hold zeros."""

    @classmethod
    def start(cls, like: Unroll, size: int) -> "Replay":
        """An empty replay of `size` unrolls with the shapes and types of `like`."""
        return cls(jax.tree.map(lambda x: jnp.zeros((size, *x.shape), x.dtype), like))

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

        return Replay(jax.tree.map(store, self.unrolls, unroll))

    def drawn(self, columns: int, unroll: Unroll, update: jax.Array, key: Key) -> Unroll:
        """As many environments as `columns`, each from an unroll drawn uniformly among those stored and `unroll`.

        `unroll` is that of `update` itself. It is stored only after learning from it, if the learner then still lives.
        """
        unrolls_key, envs_key = stream(key, Domain.REPLAYED_UNROLLS), stream(key, Domain.REPLAYED_ENVIRONMENTS)
        slot = jax.random.randint(unrolls_key, (columns,), 0, jnp.minimum(update + 1, self.size))
        env = jax.random.randint(envs_key, (columns,), 0, self.unrolls.r_t.shape[2])
        is_new = slot == update % self.size

        def draw(ring: jax.Array, x: jax.Array) -> jax.Array:
            stored, new = jnp.moveaxis(ring[slot, :, env], 0, 1), x[:, env]
            return jnp.where(is_new.reshape(1, columns, *(1,) * (new.ndim - 2)), new, stored)

        return jax.tree.map(draw, self.unrolls, unroll)


def joined(fresh: Unroll, replayed: Unroll, burn_in: int) -> Unroll:
    """Both unrolls side by side, the first `burn_in` time steps of replayed ones marked as not to be learned from."""
    unroll = jax.tree.map(lambda x, y: jnp.concatenate([x, y], axis=1), fresh, replayed)
    if not burn_in:
        return unroll
    rows, envs = unroll.r_t.shape
    is_fresh = jnp.arange(envs) < fresh.r_t.shape[1]
    return unroll._replace(is_valid_t=is_fresh[None, :] | (jnp.arange(rows)[:, None] >= burn_in))
