"""IMPALA's losses with the shapes and conventions of Stoix (https://github.com/EdanToledo/Stoix).

Actor and critic are two networks with a loss each; `done` is true where the episode terminated alone, and time limits
are in `truncated`, which the losses do not use. Where an episode ended, the next entry's observation is the first of
the next one, and `next_obs` has the state reached.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from isjax.compat import rlax


class Transitions(NamedTuple):
    """Everything `[T, B]`."""

    obs: Any
    next_obs: Any
    """The states reached: the final observation where an episode ended."""
    action: jax.Array
    reward: jax.Array
    done: jax.Array
    truncated: jax.Array
    log_prob: jax.Array
    """Of the action, under the policy that acted."""


def impala_losses(
    actor: Callable,
    critic: Callable,
    params: tuple[Any, Any],
    batch: Transitions,
    last_obs: Any,
    *,
    right_at_time_limits: bool,
    gamma: float = 0.99,
    vtrace_lambda: float = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """The actor's loss and the critic's, means over steps. `last_obs` `[B, ...]` follows the last entry."""
    actor_params, critic_params = params
    log_pi = jax.nn.log_softmax(actor(actor_params, batch.obs))
    log_prob = rlax.batched_index(log_pi, batch.action)
    values = critic(critic_params, jnp.concatenate([batch.obs, last_obs[None]]))
    v_tm1, v_t = values[:-1], values[1:]
    vtrace = jax.vmap(rlax.vtrace_td_error_and_advantage, in_axes=(1, 1, 1, 1, 1, None), out_axes=1)
    if right_at_time_limits:
        v_t, same = critic(critic_params, batch.next_obs), ~(batch.done | batch.truncated)
        vtrace = functools.partial(rlax.vtrace_td_error_and_advantage, same_episode_t=same)

    rho = jnp.exp(jax.lax.stop_gradient(log_prob) - batch.log_prob)
    returns = vtrace(v_tm1, v_t, batch.reward, gamma * (1.0 - batch.done), rho, vtrace_lambda)
    entropy = -jnp.mean(jnp.sum(jnp.exp(log_pi) * log_pi, axis=-1))
    policy = -jnp.mean(jax.lax.stop_gradient(returns.pg_advantage) * log_prob)
    return policy - 0.01 * entropy, 0.5 * jnp.mean(jnp.square(returns.errors))
