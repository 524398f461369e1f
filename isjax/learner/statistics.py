"""Running moments that belong to a learner, for standardizing observations and scaling rewards."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from isjax._checks import check_flags
from isjax.types import Flags, Series

EPSILON = 1e-8
CLIP = 10.0


class Moments(NamedTuple):
    """Count, mean and variance of a stream, merged batch by batch (Chan et al. 1979, eq. 2.1)."""

    count: jax.Array
    mean: jax.Array
    variance: jax.Array

    @classmethod
    def start(cls, shape: tuple[int, ...] = ()) -> "Moments":
        """No data yet: mean 0 and variance 1."""
        return cls(jnp.zeros(()), jnp.zeros(shape), jnp.ones(shape))

    def merged(self, batch: jax.Array) -> "Moments":
        """The moments with `batch` `[..., *shape]` added to the stream."""
        axes = tuple(range(batch.ndim - self.mean.ndim))
        size = batch.size / max(self.mean.size, 1)
        delta = jnp.mean(batch, axes) - self.mean
        count = self.count + size
        mean = self.mean + delta * (size / count)
        squares = self.variance * self.count + jnp.var(batch, axes) * size
        return Moments(count, mean, (squares + delta**2 * (self.count * size / count)) / count)

    def standardize(self, x: jax.Array) -> jax.Array:
        """`(x − mean) / deviation`, clipped to ±10."""
        rows = (1,) * (x.ndim - self.mean.ndim)
        mean, deviation = self.mean.reshape(rows + self.mean.shape), self._deviation().reshape(rows + self.mean.shape)
        return jnp.clip((x - mean) / deviation, -CLIP, CLIP)

    def scale(self, x: jax.Array) -> jax.Array:
        """`x / deviation` for a stream of scalars, clipped to ±10: signs and zeros stay what they are."""
        return jnp.clip(x / self._deviation(), -CLIP, CLIP)

    def _deviation(self) -> jax.Array:
        return jnp.sqrt(self.variance + EPSILON)


def discounted_past(start: jax.Array, r_t: Series, same_episode_t: Flags, discount: jax.Array) -> tuple[jax.Array, Series]:
    """`y_t = r_t + γ y_{t−1}` within episodes: what reward scaling takes the deviation of.

    Args:
      start: `[*B]`, y before the first row.

    Returns:
      y after the last row, `[*B]` (0 where an episode ended), and y of every row, `[T, *B]`.
    """
    check_flags(same_episode_t=same_episode_t)

    def step(past, row):
        r, same_episode = row
        y = r + discount * past
        return jnp.where(same_episode, y, 0.0), y

    return jax.lax.scan(step, start, (r_t, same_episode_t))
