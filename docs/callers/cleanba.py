"""IMPALA's loss with the shapes and conventions of Cleanba (https://github.com/vwxyzjn/cleanba), on EnvPool.

An array's entry t came with observation t: the reward and the ending are those of the step that led there. Where an
episode ended, entry t is the final observation, and the action taken there is ignored: the step from it to the first
observation of the next episode is none.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from isjax.compat import rlax


class Storage(NamedTuple):
    """Everything `[T + 1, B]`."""

    obs: Any
    actions: jax.Array
    logits: jax.Array
    """`[T + 1, B, A]`, of the policy that acted."""
    rewards: jax.Array
    dones: jax.Array
    """Ended, for either reason."""
    truncations: jax.Array
    """Cut by a time limit, and not terminated; Cleanba stores it and does not use it."""
    firststeps: jax.Array
    """The first observation of an episode."""


def impala_loss(
    network: Callable, params: Any, storage: Storage, *, right_at_time_limits: bool, gamma: float = 0.99
) -> jax.Array:
    """Sums over steps, as IMPALA has it: policy gradient, 0.5 of the squared errors, 0.01 of the negative entropy."""
    logits, values = jax.vmap(network, in_axes=(None, 0))(params, storage.obs)
    logits, behavior, actions, rewards = (x[:-1] for x in (logits, storage.logits, storage.actions, storage.rewards))
    discounts = gamma * (1.0 - storage.dones[:-1])
    mask = 1.0 - storage.firststeps[:-1]
    vtrace = jax.vmap(rlax.vtrace_td_error_and_advantage, in_axes=1, out_axes=1)
    if right_at_time_limits:
        vtrace = functools.partial(rlax.vtrace_td_error_and_advantage, same_episode_t=~storage.truncations[1:])
        mask = mask * ~storage.truncations[:-1]

    rhos = rlax.categorical_importance_sampling_ratios(logits, behavior, actions)
    returns = vtrace(values[:-1], values[1:], rewards, discounts, rhos)
    steps = len(rewards)
    policy = (
        jnp.sum(jax.vmap(rlax.policy_gradient_loss, in_axes=1)(logits, actions, returns.pg_advantage, mask)) * steps
    )
    entropy = jnp.sum(jax.vmap(rlax.entropy_loss, in_axes=1)(logits, mask)) * steps
    return policy + 0.5 * (0.5 * jnp.sum(jnp.square(returns.errors) * mask)) + 0.01 * entropy
