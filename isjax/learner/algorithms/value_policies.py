"""Policies of a learner's action values, by the functions of `ops`, and how exploration changes during a run.

Action values are `[..., A]`; an action that the environment excludes has −∞. Policies are log-probabilities of the same
shape, which are logits as well. No gradient flows through any of them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from isjax import ops
from isjax.learner.config import Config, Hyper
from isjax.ops.policies import Ties
from isjax.ops.recurrence import scaled


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


def epsilon_greedy(q: jax.Array, epsilon: jax.Array | float, ties: Ties) -> jax.Array:
    """`log(ε / L + (1 − ε) greedy)`, L being the number of legal actions; −∞ for the others.

    >>> jnp.exp(epsilon_greedy(jnp.array([1.0, -jnp.inf, 3.0]), 0.5, "first"))
    Array([0.25, 0.  , 0.75], dtype=float32)
    """
    return jax.lax.stop_gradient(ops.epsilon_greedy_log_probs(q, epsilon, q != -jnp.inf, ties=ties))


def softmax(q: jax.Array, temperature: jax.Array | float) -> jax.Array:
    """Logarithms of `exp(q / temperature)` over their sum, for any temperature above 0, infinity included.

    >>> jnp.exp(softmax(jnp.array([1.0, -jnp.inf, 1.0]), 0.5))
    Array([0.5, 0. , 0.5], dtype=float32)
    """
    return jax.lax.stop_gradient(ops.softmax_log_probs(q, temperature, q != -jnp.inf))
