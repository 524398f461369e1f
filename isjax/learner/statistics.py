"""Running moments that belong to a learner, for standardizing observations and scaling rewards.

Everything is computed in units of the largest number at hand, a power of two, so that nothing overflows or vanishes
that float32 can hold, and results do not depend on the unit that a stream is measured in.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from isjax._checks import check_flags
from isjax.types import Flags, Scalar, Series

CLIP = 10.0
ROUNDING = 1e-5
"""Deviations below this share of the mean are rounding: float32 tells numbers apart down to 1e-7 of them."""
SMALLEST = float(np.finfo(np.float32).tiny)
_EXPONENT, _INVERSE = 0x7F800000, 0x7F000000
"""Bits of float32: those of the exponent, and the sum of those of 2^n and of 2^−n."""


class Moments(NamedTuple):
    """Mean and standard deviation of a stream, merged batch by batch (Chan et al. 1979, eq. 2.1)."""

    batches: jax.Array
    """`[]` int32: how many, all of one size. A count of numbers would overflow, or stand still in float32."""
    mean: jax.Array
    deviation: jax.Array

    @classmethod
    def start(cls, shape: tuple[int, ...] = ()) -> "Moments":
        """No data yet: mean 0 and deviation 1."""
        return cls(jnp.zeros((), jnp.int32), jnp.zeros(shape, jnp.float32), jnp.ones(shape, jnp.float32))

    def merged(self, batch: jax.Array) -> "Moments":
        """The moments with one more batch `[..., *shape]` of the stream."""
        axes = tuple(range(batch.ndim - self.mean.ndim))
        share = 1.0 / (self.batches + 1).astype(jnp.float32)
        unit = jnp.maximum(jnp.abs(self.mean), jnp.max(jnp.abs(batch), axes, initial=0.0))
        unit = power_of_two(jnp.maximum(unit, jnp.where(self.batches > 0, self.deviation, 0.0)))
        over = inverse(unit)
        batch, mean, deviation = batch * _rows(over, batch), self.mean * over, self.deviation * over
        delta = jnp.mean(batch, axes) - mean
        within = (1.0 - share) * jnp.where(self.batches > 0, deviation**2, 0.0) + share * jnp.var(batch, axes)
        variance = within + share * (1.0 - share) * delta**2
        return Moments(self.batches + 1, (mean + share * delta) * unit, jnp.sqrt(variance) * unit)

    def times(self, factor: jax.Array) -> "Moments":
        """Those of the same stream times a number above 0."""
        return Moments(self.batches, self.mean * factor, self.deviation * factor)

    def standardize(self, x: jax.Array) -> jax.Array:
        """`(x − mean) / deviation`, clipped to ±10."""
        divisor = self._divisor()
        over = inverse(power_of_two(jnp.maximum(jnp.abs(self.mean), divisor)))
        mean, divisor, over = (_rows(each, x) for each in (self.mean * over, divisor * over, over))
        return jnp.clip((x * over - mean) / divisor, -CLIP, CLIP)

    def scale(self, x: jax.Array) -> jax.Array:
        """`x / deviation` for a stream of scalars, clipped to ±10: signs and zeros stay what they are."""
        return jnp.clip(x / self._divisor(), -CLIP, CLIP)

    def _divisor(self) -> jax.Array:
        return jnp.maximum(jnp.maximum(self.deviation, ROUNDING * jnp.abs(self.mean)), SMALLEST)


class RewardScale(NamedTuple):
    """What rewards are divided by: the running deviation of the discounted return."""

    moments: Moments
    """Of `y_t = r_t + γ y_{t−1}` over all environments, in units."""
    past: jax.Array
    """`[B]`, y of each environment's last step in units, 0 at an episode's start."""
    unit: jax.Array
    """`[]`, the power of two at or below the largest reward so far: a return may be larger than float32 can hold."""

    @classmethod
    def start(cls, num_envs: int) -> "RewardScale":
        """No data yet."""
        return cls(Moments.start(), jnp.zeros(num_envs, jnp.float32), jnp.full((), SMALLEST, jnp.float32))

    def observed(self, r_t: Series, same_episode_t: Flags, discount: Scalar) -> "RewardScale":
        """The scale with the rewards `[T, B]` of one more unroll."""
        unit = jnp.maximum(self.unit, power_of_two(jnp.max(jnp.abs(r_t))))
        shrunk = self.unit * inverse(unit)
        past, past_t = discounted_past(self.past * shrunk, r_t * inverse(unit), same_episode_t, discount)
        return RewardScale(self.moments.times(shrunk).merged(past_t), past, unit)

    def scaled(self, r_t: Series) -> Series:
        """Rewards of any unroll, as they count now."""
        return self.moments.scale(r_t * inverse(self.unit))


def power_of_two(x: jax.Array) -> jax.Array:
    """The largest power of two that is not above `x` ≥ 0, from 2^−126 to 2^126: to multiply by it is exact.

    >>> power_of_two(jnp.array([0.75, 1.0, 7.9]))
    Array([0.5, 1. , 4. ], dtype=float32)
    """
    bits = jax.lax.bitcast_convert_type(jnp.asarray(x, jnp.float32), jnp.int32) & _EXPONENT
    power = jax.lax.bitcast_convert_type(bits, jnp.float32)
    return jnp.where(power < jnp.inf, jnp.clip(power, SMALLEST, 1.0 / SMALLEST), jnp.nan)


def inverse(power: jax.Array) -> jax.Array:
    """1 over a power of two from 2^−126 to 2^126.

    From its exponent and without a division: compilers turn `(a / b) / c` into `a / (b · c)`, which may be 0 / 0.
    """
    bits = _INVERSE - jax.lax.bitcast_convert_type(power, jnp.int32)
    return jnp.where(power < jnp.inf, jax.lax.bitcast_convert_type(bits, jnp.float32), jnp.nan)


def discounted_past(start: jax.Array, r_t: Series, same_episode_t: Flags, discount: Scalar) -> tuple[jax.Array, Series]:
    """`y_t = r_t + γ y_{t−1}` within episodes: what reward scaling takes the deviation of.

    Args:
      start: `[*B]`, y before the first step.
      r_t: `[T, *B]`, rewards.
      same_episode_t: `[T, *B]`, false where a step ended its episode.
      discount: γ in [0, 1].

    Returns:
      y after the last step, `[*B]` (0 where an episode ended), and y of every step, `[T, *B]`.
    """
    check_flags(same_episode_t=same_episode_t)

    def step(past, row):
        r, same_episode = row
        y = r + discount * past
        return jnp.where(same_episode, y, 0.0), y

    return jax.lax.scan(step, start, (r_t, same_episode_t))


def _rows(x: jax.Array, like: jax.Array) -> jax.Array:
    """`x` `[*shape]` with leading axes of length 1, to go with `like` `[..., *shape]`."""
    return x.reshape((1,) * (like.ndim - x.ndim) + x.shape)
