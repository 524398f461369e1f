"""PPO's loss in the style of CleanRL (https://github.com/vwxyzjn/cleanrl), on gymnasium's vector environments.

Advantages come from a rollout `[T, B]` once, the loss from minibatches of its entries in any order, with advantages
normalized and errors of values clipped. `next_dones` is true where a step ended its episode, for either reason: a time
limit counts as a termination.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from isjax.compat import rlax


class Rollout(NamedTuple):
    """Everything `[T, B]` but the last value."""

    rewards: jax.Array
    values: jax.Array
    next_dones: jax.Array
    next_value: jax.Array
    """`[B]`, of the observation after the last step."""
    truncations: jax.Array
    final_values: jax.Array
    """Values of `infos["final_obs"]` where a time limit cut, anything elsewhere."""


class Minibatch(NamedTuple):
    """Everything `[N]`."""

    obs: Any
    actions: jax.Array
    logprobs: jax.Array
    values: jax.Array
    advantages: jax.Array


def advantages(
    rollout: Rollout, *, right_at_time_limits: bool, gamma: float = 0.99, gae_lambda: float = 0.95
) -> jax.Array:
    """Generalized advantage estimates `[T, B]`."""
    values = jnp.concatenate([rollout.values, rollout.next_value[None]])
    discounts = gamma * (1.0 - rollout.next_dones)
    gae = jax.vmap(rlax.truncated_generalized_advantage_estimation, in_axes=(1, 1, None, 1), out_axes=1)
    if right_at_time_limits:
        discounts = jnp.where(rollout.truncations, gamma, discounts)
        v_t = jnp.where(rollout.truncations, rollout.final_values, values[1:])
        gae = functools.partial(
            rlax.truncated_generalized_advantage_estimation, same_episode_t=~rollout.next_dones, v_t=v_t
        )
    return gae(rollout.rewards, discounts, gae_lambda, values)


def ppo_loss(network: Callable, params: Any, batch: Minibatch, *, clip_coef: float = 0.2) -> jax.Array:
    """Clipped surrogate, 0.5 of the clipped squared errors, 0.01 of the negative entropy; means over entries."""
    logits, values = network(params, batch.obs)
    log_pi = jax.nn.log_softmax(logits)
    ratio = jnp.exp(rlax.batched_index(log_pi, batch.actions) - batch.logprobs)
    advantage = (batch.advantages - jnp.mean(batch.advantages)) / (jnp.std(batch.advantages) + 1e-8)
    policy = rlax.clipped_surrogate_pg_loss(ratio, advantage, clip_coef)
    target = batch.advantages + batch.values
    clipped = batch.values + jnp.clip(values - batch.values, -clip_coef, clip_coef)
    value = jnp.mean(jnp.maximum(rlax.l2_loss(values, target), rlax.l2_loss(clipped, target)))
    entropy = -jnp.mean(jnp.sum(jnp.exp(log_pi) * log_pi, axis=-1))
    return policy + 0.5 * value - 0.01 * entropy
