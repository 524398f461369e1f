"""Policies that follow from action values: greedy, ε-greedy, softmax, and how exploration changes during a run.

Action values are `[..., A]`; an action that the environment excludes has −∞. Policies are log-probabilities of the same
shape, which are logits as well. No gradient flows through any of them.
"""

from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from isjax.environments.distributions import one_hot
from isjax.learner.config import Config, Hyper
from isjax.ops.recurrence import scaled

Ties: TypeAlias = Literal["first", "average"]
"""Which of equally good actions counts as the best one: the first, or all with equal probability."""


class Exploration(NamedTuple):
    """How much is explored, `[]` each: the one that `Config.exploration` asks for counts."""

    epsilon: jax.Array
    temperature: jax.Array


def exploration(config: Config, updates: jax.Array, hyper: Hyper) -> Exploration:
    """The exploration after so many updates of a run: linear from start to end in `exploration_share` of it."""
    span = hyper.exploration_share * config.updates
    share = jnp.where(updates < span, updates / jnp.maximum(span, 1e-30), 1.0)
    epsilon = hyper.epsilon_start + share * (hyper.epsilon_end - hyper.epsilon_start)
    start, end = hyper.behavior_temperature, hyper.behavior_temperature_end
    # Where they are equal they may be infinite, and a difference would be NaN.
    temperature = jnp.where(
        share == 1.0, end, scaled(1.0 - share, jnp.asarray(start)) + scaled(share, jnp.asarray(end))
    )
    return Exploration(epsilon, temperature)


def greedy(q: jax.Array, ties: Ties) -> jax.Array:
    """Probabilities `[..., A]` of the best action.

    >>> greedy(jnp.array([1.0, 3.0, 3.0]), "average")
    Array([0. , 0.5, 0.5], dtype=float32)
    """
    q = jax.lax.stop_gradient(q)
    if ties == "first":
        return one_hot(jnp.argmax(q, axis=-1), q.shape[-1]).astype(q.dtype)
    is_best = q == jnp.max(q, axis=-1, keepdims=True)
    return is_best / jnp.maximum(jnp.sum(is_best, axis=-1, keepdims=True), 1).astype(q.dtype)


def epsilon_greedy(q: jax.Array, epsilon: jax.Array | float, ties: Ties) -> jax.Array:
    """`log(ε / L + (1 − ε) greedy)`, L being the number of legal actions; −∞ for the others.

    >>> jnp.exp(epsilon_greedy(jnp.array([1.0, -jnp.inf, 3.0]), 0.5, "first"))
    Array([0.25, 0.  , 0.75], dtype=float32)
    """
    is_legal = q != -jnp.inf
    share = epsilon / jnp.maximum(jnp.sum(is_legal, axis=-1, keepdims=True), 1)
    return jnp.log(jnp.where(is_legal, share + (1.0 - epsilon) * greedy(q, ties), 0.0))


def softmax(q: jax.Array, temperature: jax.Array | float) -> jax.Array:
    """Logarithms of `exp(q / temperature)` over their sum, well-defined for any temperature above 0, infinity included.

    >>> jnp.exp(softmax(jnp.array([1.0, -jnp.inf, 1.0]), 0.5))
    Array([0.5, 0. , 0.5], dtype=float32)
    """
    q = jax.lax.stop_gradient(q)
    is_legal = q != -jnp.inf
    gap = jnp.where(is_legal, q - jnp.max(q, axis=-1, keepdims=True), 0.0)
    return jax.nn.log_softmax(jnp.where(is_legal, gap / temperature, -jnp.inf), axis=-1)


def expected(log_policy: jax.Array, q: jax.Array) -> jax.Array:
    """`Σ_a π(a) q(a)` `[...]`; what π excludes does not count, whatever its value.

    >>> expected(jnp.log(jnp.array([0.5, 0.0, 0.5])), jnp.array([1.0, -jnp.inf, 3.0]))
    Array(2., dtype=float32)
    """
    return jnp.sum(scaled(jnp.exp(log_policy), q), axis=-1)


def taken(x: jax.Array, action: jax.Array) -> jax.Array:
    """Of `[..., A]` what belongs to the actions `[...]`."""
    return jnp.sum(jnp.where(one_hot(action, x.shape[-1]), x, 0.0), axis=-1)
