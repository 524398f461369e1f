"""Reset states that a learner keeps in a pool, where drawing one for every step would cost more than the steps."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from isjax.environments.adapter import Adapter
from isjax.types import Flags, Key, Tree


class ResetPool(NamedTuple):
    """P reset states in a ring, which the learner's environments start their next episodes from in turn.

    Each update draws some anew, in the place of those that episodes have started from. Where episodes end faster than
    that, the ring comes round to states that were used before: `reused` counts how often an unroll did.
    """

    starts: tuple[Tree, Tree]
    """`(observation, state)`, `[P, ...]`."""
    is_fresh: jax.Array
    """`[P]` boolean, whether no episode has started from it yet."""
    turn: jax.Array
    """`[]` int32, the place of the next one."""
    reused: jax.Array
    """`[]` int32, episodes of this unroll that started where another one had."""

    @classmethod
    def draw(cls, adapter: Adapter, size: int, key: Key) -> "ResetPool":
        """A full pool of `size` states."""
        starts = jax.vmap(adapter.reset)(jax.random.split(key, size))
        return cls(starts, jnp.ones(size, bool), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))

    @property
    def size(self) -> int:
        """P."""
        return self.is_fresh.shape[0]

    def refill(self, adapter: Adapter, count: int, key: Key) -> "ResetPool":
        """`count` states drawn anew, for those places first that come next and are not fresh."""
        drawn = jax.vmap(adapter.reset)(jax.random.split(key, count))
        order = (self.turn + jnp.arange(self.size)) % self.size
        # Stable: places that are not fresh, as they come, then the others.
        place = order[jnp.argsort(self.is_fresh[order], stable=True)[:count]]
        starts = jax.tree.map(lambda kept, new: kept.at[place].set(new), self.starts, drawn)
        return self._replace(
            starts=starts, is_fresh=self.is_fresh.at[place].set(True), reused=jnp.zeros_like(self.reused)
        )

    def take(self, ended: Flags) -> tuple[tuple[Tree, Tree], "ResetPool"]:
        """What environments `[B]` whose episodes ended start from, `(observation, state)` `[B, ...]`, and the pool.

        What stands where none has ended is of no use.
        """
        rank = jnp.cumsum(ended, dtype=jnp.int32)
        count = rank[-1]
        place = (self.turn + rank - 1) % self.size
        # Of more endings at once than there are places, the later ones start as the earlier did.
        is_again = ended & (~self.is_fresh[place] | (rank > self.size))
        taken = jnp.any(ended[:, None] & (place[:, None] == jnp.arange(self.size)[None, :]), axis=0)
        starts = jax.tree.map(lambda x: x[place], self.starts)
        reused = self.reused + jnp.sum(is_again, dtype=jnp.int32)
        return starts, ResetPool(self.starts, self.is_fresh & ~taken, (self.turn + count) % self.size, reused)
