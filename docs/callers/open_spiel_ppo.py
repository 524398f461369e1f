"""PPO's loss with the shapes and conventions of OpenSpiel's agent (https://github.com/google-deepmind/open_spiel).

Entry t of `dones` came with observation t: it is the first of an episode, and `next_done` says so of the one after the
last. Illegal actions are excluded by a mask.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from isjax.compat import rlax


class Rollout(NamedTuple):
    """Everything `[T, B]` but what stands at the end."""

    obs: Any
    legal_actions_mask: jax.Array
    """`[T, B, A]`, boolean."""
    actions: jax.Array
    logprobs: jax.Array
    rewards: jax.Array
    dones: jax.Array
    values: jax.Array
    next_value: jax.Array
    """`[B]`"""
    next_done: jax.Array
    """`[B]`"""
    truncated: jax.Array
    """The step was cut by a limit of moves that is none of the game's rules."""
    final_values: jax.Array
    """Where it was, the value of the state that it led to."""


def advantages(
    rollout: Rollout, *, right_at_time_limits: bool, gamma: float = 0.99, gae_lambda: float = 0.95
) -> jax.Array:
    """Generalized advantage estimates `[T, B]`."""
    ended = jnp.concatenate([rollout.dones[1:], rollout.next_done[None]])
    values = jnp.concatenate([rollout.values, rollout.next_value[None]])
    discounts = gamma * (1.0 - ended)
    gae = jax.vmap(rlax.truncated_generalized_advantage_estimation, in_axes=(1, 1, None, 1), out_axes=1)
    if right_at_time_limits:
        discounts, v_t = (
            gamma * (1.0 - (ended & ~rollout.truncated)),
            jnp.where(ended, rollout.final_values, values[1:]),
        )
        gae = functools.partial(rlax.truncated_generalized_advantage_estimation, same_episode_t=~ended, v_t=v_t)
    return gae(rollout.rewards, discounts, gae_lambda, values)


def ppo_loss(
    network: Callable, params: Any, rollout: Rollout, *, right_at_time_limits: bool, clip_coef: float = 0.2
) -> jax.Array:
    """Clipped surrogate, 0.5 of half the squared errors, 0.01 of the negative entropy; means over steps."""
    advantage = advantages(rollout, right_at_time_limits=right_at_time_limits)
    logits, values = network(params, rollout.obs)
    log_pi = jax.nn.log_softmax(jnp.where(rollout.legal_actions_mask, logits, -1e6))
    ratio = jnp.exp(rlax.batched_index(log_pi, rollout.actions) - rollout.logprobs)
    policy = rlax.clipped_surrogate_pg_loss(ratio.ravel(), advantage.ravel(), clip_coef)
    value = jnp.mean(rlax.l2_loss(values, advantage + rollout.values))
    entropy = -jnp.mean(jnp.sum(jnp.exp(log_pi) * log_pi, axis=-1))
    return policy + 0.5 * value - 0.01 * entropy
