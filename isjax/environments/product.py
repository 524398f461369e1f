"""Several discrete actions at once, as a product of categorical distributions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from isjax.environments.distributions import Categorical
from isjax.types import Key


@dataclasses.dataclass(frozen=True)
class MultiCategorical:
    """Integers that are independent given the state: a `Categorical` each, and their sum of log-probabilities.

    The policy's output holds the logits of one integer after another, P = n₀ + n₁ + …; those of −inf exclude their
    values. Actions are `[..., D]` int32, and the environment gets them in the shape of its space.
    """

    counts: tuple[int, ...]
    """Of each integer, how many values it has."""
    shape: tuple[int, ...]
    """Of the space."""

    @property
    def num_params(self) -> int:
        return sum(self.counts)

    @property
    def rows(self) -> tuple[int, ...] | None:
        """`[*shape, n]`, that flags of legal values may have where all integers have n values; else `None`."""
        return (*self.shape, self.counts[0]) if self._is_even else None

    def noise(self, key: Key, shape: tuple[int, ...]) -> jax.Array:
        return jax.random.uniform(key, (*shape, len(self.counts)))

    def sample(self, policy: jax.Array, noise: jax.Array) -> jax.Array:
        return self._each.sample(self._logits(policy), noise)

    def mode(self, policy: jax.Array) -> jax.Array:
        return self._each.mode(self._logits(policy))

    def log_prob(self, policy: jax.Array, action: jax.Array) -> jax.Array:
        return jnp.sum(self._each.log_prob(self._logits(policy), action), axis=-1)

    def entropy(self, policy: jax.Array) -> jax.Array:
        return jnp.sum(self._each.entropy(self._logits(policy)), axis=-1)

    def kl(self, policy: jax.Array, other: jax.Array) -> jax.Array:
        return jnp.sum(self._each.kl(self._logits(policy), self._logits(other)), axis=-1)

    def execute(self, action: jax.Array) -> jax.Array:
        return action.reshape(action.shape[:-1] + self.shape)

    def can_act(self, legal: jax.Array) -> jax.Array:
        return jnp.all(jnp.any(self._spread(legal, False), axis=-1), axis=-1)

    @property
    def _each(self) -> Categorical:
        return Categorical(max(self.counts))

    @property
    def _is_even(self) -> bool:
        return len(set(self.counts)) == 1

    def _logits(self, policy: jax.Array) -> jax.Array:
        return self._spread(policy, -jnp.inf)

    def _spread(self, x: jax.Array, fill: float | bool) -> jax.Array:
        """`[..., P]` as `[..., D, max n]`; `fill` where an integer has fewer values."""
        rows = (*x.shape[:-1], len(self.counts), max(self.counts))
        if self._is_even:
            return x.reshape(rows)
        values, counts = np.arange(max(self.counts)), np.asarray(self.counts)[:, None]
        starts = np.cumsum(self.counts)[:, None] - counts
        index = (starts + np.minimum(values, counts - 1)).ravel()
        is_value = np.broadcast_to(values < counts, rows)
        return jnp.where(is_value, jnp.take(x, index, axis=-1).reshape(rows), jnp.asarray(fill, x.dtype))
