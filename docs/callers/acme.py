"""IMPALA's loss with the shapes and conventions of Acme (https://github.com/google-deepmind/acme), on dm_env.

One sequence `[T]`; the learner maps the loss over a batch of them. `discount` is dm_env's: 0 where the episode
terminated, 1 otherwise, time limits included. The adder of sequences completes an episode by one more entry, which has
the final observation and zeros for everything else; an episode that goes on in the next sequence has none.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from isjax.compat import rlax


class Sequence(NamedTuple):
    """Everything `[T]`."""

    observation: Any
    action: jax.Array
    reward: jax.Array
    discount: jax.Array
    start_of_episode: jax.Array
    logits: jax.Array
    """`[T, A]`, of the policy that acted."""


def impala_loss(
    network: Callable, params: Any, sequence: Sequence, *, right_at_time_limits: bool, discount: float = 0.99
) -> jax.Array:
    """Means over steps: policy gradient, the squared errors, 0.01 of the negative entropy."""
    logits, values = network(params, sequence.observation)
    logits, behavior, actions, rewards = (x[:-1] for x in (logits, sequence.logits, sequence.action, sequence.reward))
    told, weights = {}, jnp.ones_like(rewards)
    if right_at_time_limits:
        # The next entry starts an episode: this one has a final observation, the one before it led there.
        is_final = jnp.append(sequence.start_of_episode[1:], False)
        told = {"same_episode_t": ~is_final[1:]}
        weights = 1.0 - is_final[:-1]

    rhos = rlax.categorical_importance_sampling_ratios(logits, behavior, actions)
    discounts = sequence.discount[:-1] * discount
    returns = rlax.vtrace_td_error_and_advantage(values[:-1], values[1:], rewards, discounts, rhos, **told)
    policy = rlax.policy_gradient_loss(logits, actions, returns.pg_advantage, weights)
    return policy + jnp.mean(jnp.square(returns.errors) * weights) + 0.01 * rlax.entropy_loss(logits, weights)
