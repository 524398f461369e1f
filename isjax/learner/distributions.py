"""Action distributions, as functions of the policy's output `[..., P]`; noise is drawn beforehand."""

import dataclasses
import math
from typing import Literal, Protocol

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from isjax.types import Key

MIN_LOG_STD, MAX_LOG_STD = -10.0, 4.0


class ActionDistribution(Protocol):
    """What the learner asks of a distribution. Actions are kept as sampled; `execute` gives what the
    environment gets, and log-probabilities are those of what it gets.
    """

    @property
    def num_params(self) -> int:
        """P, the size of the policy's output."""
        ...

    def noise(self, key: Key, shape: tuple[int, ...]) -> jax.Array:
        """The randomness of `shape` samples."""
        ...

    def sample(self, policy: jax.Array, noise: jax.Array) -> jax.Array:
        """Actions `[...]` (or `[..., D]`) from `policy` `[..., P]`."""
        ...

    def mode(self, policy: jax.Array) -> jax.Array:
        """The most likely action; for a Gaussian its mean."""
        ...

    def log_prob(self, policy: jax.Array, action: jax.Array) -> jax.Array:
        """Log-probability (density) `[...]` of what `execute(action)` does."""
        ...

    def entropy(self, policy: jax.Array) -> jax.Array:
        """Entropy `[...]` in nats."""
        ...

    def kl(self, policy: jax.Array, other: jax.Array) -> jax.Array:
        """`KL(policy ‖ other)` `[...]` in nats, exact."""
        ...

    def execute(self, action: jax.Array) -> jax.Array:
        """What the environment gets."""
        ...


def one_hot(x: jax.Array, count: int) -> jax.Array:
    """`[..., count]` boolean: true where the index is the integer `x`, nowhere if that is out of range."""
    return x[..., None] == jax.lax.broadcasted_iota(x.dtype, (*x.shape, count), x.ndim)


@dataclasses.dataclass(frozen=True)
class Categorical:
    """Discrete actions from logits; a logit of −inf excludes its action."""

    num_actions: int

    @property
    def num_params(self) -> int:
        return self.num_actions

    def noise(self, key: Key, shape: tuple[int, ...]) -> jax.Array:
        return jax.random.uniform(key, shape)

    def sample(self, policy: jax.Array, noise: jax.Array) -> jax.Array:
        """Inverts the cumulative distribution: one uniform number a sample."""
        weights = jnp.exp(policy - jnp.max(policy, axis=-1, keepdims=True))
        cumulative = jnp.cumsum(weights, axis=-1)
        # Scaling the noise by the computed total keeps it below: no excluded last action is ever reached.
        threshold = noise[..., None] * cumulative[..., -1:]
        return jnp.sum(threshold >= cumulative[..., :-1], axis=-1, dtype=jnp.int32)

    def mode(self, policy: jax.Array) -> jax.Array:
        return jnp.argmax(policy, axis=-1).astype(jnp.int32)

    def log_prob(self, policy: jax.Array, action: jax.Array) -> jax.Array:
        log_p = jax.nn.log_softmax(policy)
        return jnp.sum(jnp.where(one_hot(action, self.num_actions), log_p, 0.0), axis=-1)

    def entropy(self, policy: jax.Array) -> jax.Array:
        log_p = jax.nn.log_softmax(policy)
        possible = jnp.isfinite(log_p)
        return -jnp.sum(jnp.where(possible, jnp.exp(log_p) * jnp.where(possible, log_p, 0.0), 0.0), axis=-1)

    def kl(self, policy: jax.Array, other: jax.Array) -> jax.Array:
        log_p, log_q = jax.nn.log_softmax(policy), jax.nn.log_softmax(other)
        possible = jnp.isfinite(log_p)
        gap = jnp.where(possible, log_p, 0.0) - jnp.where(possible, log_q, 0.0)
        return jnp.sum(jnp.where(possible, jnp.exp(log_p), 0.0) * gap, axis=-1)

    def execute(self, action: jax.Array) -> jax.Array:
        return action


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """Independent Gaussians from `[means, log standard deviations]`, brought into bounds.

    With `into="tanh"` the sample is squashed and the density carries the Jacobian; with `"clip"` what lies
    beyond a bound is executed at the bound, and has the probability of everything beyond it. Without
    bounds the sample is executed as it is.
    """

    shape: tuple[int, ...]
    low: tuple[float, ...] | None
    high: tuple[float, ...] | None
    into: Literal["tanh", "clip"] = "tanh"

    @property
    def dim(self) -> int:
        return math.prod(self.shape)

    @property
    def num_params(self) -> int:
        return 2 * self.dim

    def noise(self, key: Key, shape: tuple[int, ...]) -> jax.Array:
        return jax.random.normal(key, (*shape, self.dim))

    def sample(self, policy: jax.Array, noise: jax.Array) -> jax.Array:
        mean, log_std = self._moments(policy)
        return mean + jnp.exp(log_std) * noise

    def mode(self, policy: jax.Array) -> jax.Array:
        return self._moments(policy)[0]

    def log_prob(self, policy: jax.Array, action: jax.Array) -> jax.Array:
        mean, log_std = self._moments(policy)
        log_density = norm.logpdf(action, mean, jnp.exp(log_std))
        if self.low is None:
            return jnp.sum(log_density, axis=-1)
        low, high = self._bounds(action)
        if self.into == "tanh":
            # log d/du of the squashed action; 1 − tanh² in a form that does not lose digits at large |u|.
            log_slope = 2.0 * (jnp.log(2.0) - action - jax.nn.softplus(-2.0 * action)) + jnp.log((high - low) / 2)
            return jnp.sum(log_density - log_slope, axis=-1)
        std = jnp.exp(log_std)
        below = norm.logcdf((low - mean) / std)
        above = norm.logcdf((mean - high) / std)
        return jnp.sum(jnp.where(action <= low, below, jnp.where(action >= high, above, log_density)), axis=-1)

    def entropy(self, policy: jax.Array) -> jax.Array:
        """Of the Gaussian before it is brought into bounds, which has no closed form afterwards."""
        _, log_std = self._moments(policy)
        return jnp.sum(log_std + 0.5 * jnp.log(2.0 * jnp.pi * jnp.e), axis=-1)

    def kl(self, policy: jax.Array, other: jax.Array) -> jax.Array:
        """Of the Gaussians before they are brought into bounds: exact after squashing, a bound after clipping."""
        (mean, log_std), (other_mean, other_log_std) = self._moments(policy), self._moments(other)
        gap = (mean - other_mean) * jnp.exp(-other_log_std)
        log_ratio = log_std - other_log_std
        return jnp.sum(0.5 * (jnp.exp(2.0 * log_ratio) + gap**2 - 1.0) - log_ratio, axis=-1)

    def execute(self, action: jax.Array) -> jax.Array:
        if self.low is not None:
            low, high = self._bounds(action)
            if self.into == "tanh":
                action = low + (high - low) * 0.5 * (jnp.tanh(action) + 1.0)
            action = jnp.clip(action, low, high)
        return action.reshape(action.shape[:-1] + self.shape)

    def _moments(self, policy: jax.Array) -> tuple[jax.Array, jax.Array]:
        mean, log_std = jnp.split(policy, 2, axis=-1)
        return mean, jnp.clip(log_std, MIN_LOG_STD, MAX_LOG_STD)

    def _bounds(self, like: jax.Array) -> tuple[jax.Array, jax.Array]:
        shape = (1,) * (like.ndim - 1) + (self.dim,)
        return jnp.asarray(self.low, like.dtype).reshape(shape), jnp.asarray(self.high, like.dtype).reshape(shape)
