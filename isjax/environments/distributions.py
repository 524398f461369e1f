"""Action distributions, as functions of the policy's output `[..., P]`; noise is drawn beforehand."""

import dataclasses
import math
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

from isjax.types import Key

MIN_LOG_STD, MAX_LOG_STD = -10.0, 4.0
UNBOUNDED = float(np.sqrt(np.finfo(np.float32).max))
"""A Box's bound beyond this is none: float32 cannot hold its square, and programs say infinity by such numbers."""
_SMALLEST = float(np.finfo(np.float32).tiny)


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

    def can_act(self, legal: jax.Array) -> jax.Array:
        """Whether flags `[..., P]` of legal actions leave any: `[...]` boolean."""
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
        """Inverts the cumulative distribution: one uniform number a sample.

        A sum in float32 need not grow with every summand, nor stand still at zeros, so that the inverse can be off by
        a few actions; of these it is one of probability above 0, whatever the noise.
        """
        weights = jnp.exp(policy - jnp.max(policy, axis=-1, keepdims=True))
        cumulative = jnp.cumsum(weights, axis=-1)
        threshold = noise[..., None] * cumulative[..., -1:]
        # Written so that a policy of NaN, which learning tells of, passes every action: then the last legal one.
        found = jnp.sum(~(threshold < cumulative[..., :-1]), axis=-1, keepdims=True, dtype=jnp.int32)
        index = jax.lax.broadcasted_iota(jnp.int32, policy.shape, policy.ndim - 1)
        is_possible = (weights != 0.0) & (policy != -jnp.inf) & (index <= found)
        return jnp.max(jnp.where(is_possible, index, 0), axis=-1)

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
        possible = jnp.exp(log_p) > 0.0
        gap = jnp.where(possible, log_p, 0.0) - jnp.where(possible, log_q, 0.0)
        return jnp.sum(jnp.where(possible, jnp.exp(log_p), 0.0) * gap, axis=-1)

    def execute(self, action: jax.Array) -> jax.Array:
        return action

    def can_act(self, legal: jax.Array) -> jax.Array:
        return jnp.any(legal, axis=-1)


class _Bounds(NamedTuple):
    """Bounds of a Box, `[D]` each; numbers that take the place of a bound that is none are not to be used."""

    low: np.ndarray
    """0 where there is none."""
    high: np.ndarray
    width: np.ndarray
    """high − low; 2 where that is none or 0."""
    has_low: np.ndarray
    has_high: np.ndarray
    is_constant: np.ndarray
    """Whether low and high are one number in float32."""
    lowest: np.ndarray
    """What is never gone below: low as it was given."""
    highest: np.ndarray

    @property
    def has_both(self) -> np.ndarray:
        """Whether there is a lower and an upper bound."""
        return self.has_low & self.has_high


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """Independent Gaussians from `[means, log standard deviations]`, each brought into the bounds of its dimension.

    With `into="tanh"` the sample is squashed and the density carries the Jacobian; where one side alone is bounded,
    softplus takes the place of tanh. With `"clip"` what lies beyond a bound is executed at the bound, and has the
    probability of everything beyond it. Without bounds the sample is executed as it is. A dimension whose bounds are
    equal is constant: it counts neither in probabilities nor in entropies and divergences.

    Raises:
      ValueError: bounds are not numbers, or no number lies between them.
    """

    shape: tuple[int, ...]
    low: tuple[float, ...] | None
    """Of each dimension, −inf where it has none; beyond `UNBOUNDED` it counts as none. `None` if all have none."""
    high: tuple[float, ...] | None
    into: Literal["tanh", "clip"] = "tanh"

    def __post_init__(self) -> None:
        low, high = np.asarray(self.low or ()), np.asarray(self.high or ())
        for wrong in np.flatnonzero(~((low <= high) & (low < np.inf) & (high > -np.inf))):
            raise ValueError(
                f"Bounds of a Box must be numbers with low ≤ high, but in dimension {wrong} of {self.dim} they are "
                f"{low[wrong]:g} and {high[wrong]:g}."
            )

    @property
    def dim(self) -> int:
        return math.prod(self.shape)

    @property
    def num_params(self) -> int:
        return 2 * self.dim

    @property
    def free_dim(self) -> int:
        """How many dimensions are not constant."""
        return self.dim - int(self._bounds(np.float32, 1).is_constant.sum())

    @property
    def standard(self) -> "Gaussian":
        """The same samples in units of their own, `[..., D]`: in [−1, 1] where both sides are bounded, as they were
        sampled where one or none is, and 0 where the dimension is constant.
        """
        bounds = self._bounds(np.float32, 1)
        bound = np.where(bounds.is_constant, 0.0, np.where(bounds.has_both, 1.0, np.inf))
        return Gaussian((self.dim,), tuple((-bound).tolist()), tuple(bound.tolist()), self.into)

    @property
    def is_bounded(self) -> bool:
        """Whether every dimension is, on both sides."""
        return self.low is not None and bool(self._bounds(np.float32, 1).has_both.all())

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
        bounds = self._bounds(action.dtype, action.ndim)
        if self.into == "tanh":
            return self._sum(log_density - self._log_slope(action))
        std = jnp.exp(log_std)
        is_below, is_above = (action <= bounds.low) & bounds.has_low, (action >= bounds.high) & bounds.has_high
        below = norm.logcdf(jnp.where(is_below, (bounds.low - mean) / std, 0.0))
        above = norm.logcdf(jnp.where(is_above, (mean - bounds.high) / std, 0.0))
        return self._sum(jnp.where(is_below, below, jnp.where(is_above, above, log_density)))

    def uniform_log_prob(self) -> jax.Array:
        """Log-density of a uniform policy over bounds on both sides."""
        bounds = self._bounds(np.float32, 1)
        return -self._sum(jnp.log(jnp.asarray(bounds.width)))

    def entropy(self, policy: jax.Array) -> jax.Array:
        """Of the Gaussian before it is brought into bounds, which has no closed form afterwards."""
        _, log_std = self._moments(policy)
        return self._sum(log_std + 0.5 * jnp.log(2.0 * jnp.pi * jnp.e))

    def kl(self, policy: jax.Array, other: jax.Array) -> jax.Array:
        """Of the Gaussians before they are brought into bounds: exact after squashing, a bound after clipping."""
        (mean, log_std), (other_mean, other_log_std) = self._moments(policy), self._moments(other)
        gap = (mean - other_mean) * jnp.exp(-other_log_std)
        log_ratio = log_std - other_log_std
        return self._sum(0.5 * (jnp.exp(2.0 * log_ratio) + gap**2 - 1.0) - log_ratio)

    def execute(self, action: jax.Array) -> jax.Array:
        if self.low is not None:
            bounds = self._bounds(action.dtype, action.ndim)
            if self.into == "tanh":
                both = (jnp.tanh(action) + 1.0) * (bounds.width * 0.5) + bounds.low
                action = self._by_side(both, self._open_ended(action), action)
            action = jnp.clip(action, bounds.lowest, bounds.highest)
        return action.reshape(action.shape[:-1] + self.shape)

    def can_act(self, legal: jax.Array) -> jax.Array:
        return jnp.ones(legal.shape[:-1], bool)

    def _open_ended(self, action: jax.Array) -> tuple[jax.Array, jax.Array]:
        bounds = self._bounds(action.dtype, action.ndim)
        return jax.nn.softplus(action) + bounds.low, -jax.nn.softplus(-action) + bounds.high

    def _log_slope(self, action: jax.Array) -> jax.Array:
        """Logarithm of the slope of `execute`; 1 − tanh² in a form that does not lose digits at large |u|."""
        width = jnp.asarray(self._bounds(action.dtype, action.ndim).width)
        both = 2.0 * (jnp.log(2.0) - action - jax.nn.softplus(-2.0 * action)) + jnp.log(width / 2)
        return self._by_side(both, (-jax.nn.softplus(-action), -jax.nn.softplus(action)), jnp.zeros_like(action))

    def _by_side(self, both: jax.Array, one: tuple[jax.Array, jax.Array], neither: jax.Array) -> jax.Array:
        """Of each dimension what belongs to it: bounds on both sides, below or above alone, none."""
        bounds = self._bounds(both.dtype, both.ndim)
        if bounds.has_both.all():
            return both
        open_ended = jnp.where(bounds.has_low, one[0], jnp.where(bounds.has_high, one[1], neither))
        return jnp.where(bounds.has_both, both, open_ended)

    def _moments(self, policy: jax.Array) -> tuple[jax.Array, jax.Array]:
        mean, log_std = jnp.split(policy, 2, axis=-1)
        return mean, jnp.clip(log_std, MIN_LOG_STD, MAX_LOG_STD)

    def _sum(self, x: jax.Array) -> jax.Array:
        """Over the dimensions that are not constant."""
        is_constant = self._bounds(x.dtype, x.ndim).is_constant
        return jnp.sum(jnp.where(is_constant, 0.0, x) if is_constant.any() else x, axis=-1)

    def _bounds(self, dtype: Any, ndim: int) -> _Bounds:
        """`[1, …, D]`, of `ndim` axes."""
        shape = (1,) * (ndim - 1) + (self.dim,)
        lowest = np.full(shape, -np.inf, dtype) if self.low is None else np.asarray(self.low, dtype).reshape(shape)
        highest = np.full(shape, np.inf, dtype) if self.high is None else np.asarray(self.high, dtype).reshape(shape)
        has_low, has_high = lowest >= -UNBOUNDED, highest <= UNBOUNDED
        low, high = np.where(has_low, lowest, 0).astype(dtype), np.where(has_high, highest, 0).astype(dtype)
        is_constant = (highest == lowest) | (has_low & has_high & (high - low < _SMALLEST))
        width = np.where(has_low & has_high & ~is_constant, high - low, 2).astype(dtype)
        return _Bounds(low, high, width, has_low, has_high, is_constant, lowest, highest)
