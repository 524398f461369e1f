"""A ring of a learner's newest unrolls, to be mixed with fresh ones."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from isjax.learner.randomness import Domain, stream
from isjax.types import Key, Unroll


class Replay(NamedTuple):
    """The newest unrolls; unroll `u` stands in slot `u mod R`.

    They are kept as they were observed. What follows from statistics that change, as scaled rewards and standardized
    observations do, follows anew whenever they are drawn.
    """

    unrolls: Unroll
    """`[R, ...]` each; slots not filled yet hold zeros."""

    @classmethod
    def start(cls, like: Unroll, size: int) -> "Replay":
        """Empty; `like` gives shapes and types."""
        return cls(jax.tree.map(lambda x: jnp.zeros((size, *x.shape), x.dtype), like))

    @property
    def size(self) -> int:
        """R, how many unrolls it keeps."""
        return self.unrolls.r_t.shape[0]

    def stored(self, unroll: Unroll, update: jax.Array, where: jax.Array) -> "Replay":
        """With the unroll of `update` in the oldest one's place, or as it was if `where` is false."""

        def store(ring: jax.Array, x: jax.Array) -> jax.Array:
            slot = update % self.size
            kept = jax.lax.dynamic_index_in_dim(ring, slot, keepdims=False)
            return jax.lax.dynamic_update_index_in_dim(ring, jnp.where(where, x, kept), slot, 0)

        return Replay(jax.tree.map(store, self.unrolls, unroll))

    def drawn(self, columns: int, unroll: Unroll, update: jax.Array, key: Key) -> Unroll:
        """`columns` environments, each of an unroll of its own, uniformly from those stored and `unroll`.

        That of `update` itself, `unroll`, is to be stored once it is known that learning from it went well.
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
    """One unroll of both; of replayed columns the first `burn_in` rows are not to be learned from."""
    unroll = jax.tree.map(lambda x, y: jnp.concatenate([x, y], axis=1), fresh, replayed)
    if not burn_in:
        return unroll
    rows, envs = unroll.r_t.shape
    is_fresh = jnp.arange(envs) < fresh.r_t.shape[1]
    return unroll._replace(is_valid_t=is_fresh[None, :] | (jnp.arange(rows)[:, None] >= burn_in))
