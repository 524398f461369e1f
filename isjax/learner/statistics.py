"""Running moments that belong to a learner, for standardizing observations and scaling rewards."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from isjax._checks import check_flags
from isjax.types import Flags, Scalar, Series

EPSILON = 1e-8
CLIP = 10.0


class Moments(NamedTuple):
    """Size, mean and variance of a stream, merged batch by batch (Chan et al. 1979, eq. 2.1)."""

    size: jax.Array
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
        total = self.size + size
        mean = self.mean + delta * (size / total)
        squares = self.variance * self.size + jnp.var(batch, axes) * size
        return Moments(total, mean, (squares + delta**2 * (self.size * size / total)) / total)

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


class RewardScale(NamedTuple):
    """What rewards are divided by: the running deviation of the discounted return."""

    moments: Moments
    """Of `y_t = r_t + γ y_{t−1}` over all environments."""
    past: jax.Array
    """`[B]`, y of each environment's last row, 0 at an episode's start."""

    @classmethod
    def start(cls, num_envs: int) -> "RewardScale":
        """No data yet."""
        return cls(Moments.start(), jnp.zeros(num_envs))

    def scaled(self, r_t: Series, same_episode_t: Flags, discount: Scalar) -> tuple[Series, "RewardScale"]:
        """The rewards `[T, B]` of an unroll, scaled, and the scale that counts this unroll already."""
        past, past_t = discounted_past(self.past, r_t, same_episode_t, discount)
        moments = self.moments.merged(past_t)
        return moments.scale(r_t), RewardScale(moments, past)


def discounted_past(start: jax.Array, r_t: Series, same_episode_t: Flags, discount: Scalar) -> tuple[jax.Array, Series]:
    """`y_t = r_t + γ y_{t−1}` within episodes: what reward scaling takes the deviation of.

    Args:
      start: `[*B]`, y before the first row.
      r_t: `[T, *B]`, rewards.
      same_episode_t: `[T, *B]`, false where a row ended its episode.
      discount: γ in [0, 1].

    Returns:
      y after the last row, `[*B]` (0 where an episode ended), and y of every row, `[T, *B]`.
    """
    check_flags(same_episode_t=same_episode_t)

    def step(past, row):
        r, same_episode = row
        y = r + discount * past
        return jnp.where(same_episode, y, 0.0), y

    return jax.lax.scan(step, start, (r_t, same_episode_t))
