"""R-NaD's loss with the shapes and conventions of OpenSpiel (https://github.com/google-deepmind/open_spiel).

Trajectories `[T, B]` start with a game; entries after its end are not `valid`, and a game of more than T moves is cut.
OpenSpiel's loss then counts what would follow as worth nothing. Values are the first player's, of a game whose rewards
add up to zero, so that V-trace may go over the moves of both. Perolat et al. 2022, https://arxiv.org/abs/2206.15378.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from isjax.compat import rlax


class Trajectory(NamedTuple):
    """Everything `[T, B]` but what the last moves led to."""

    obs: Any
    legal: jax.Array
    """`[T, B, A]`, boolean; everything is legal after the end."""
    player: jax.Array
    """Whose move it is, 0 or 1."""
    valid: jax.Array
    """The game was still on."""
    action: jax.Array
    policy: jax.Array
    """`[T, B, A]`, probabilities of the policies that acted."""
    reward: jax.Array
    """The first player's, of the move."""
    obs_after: Any
    """`[B, ...]`: what the last move led to; OpenSpiel's collector steps there and forgets it."""
    valid_after: jax.Array
    """`[B]`: the game is on there."""


def rnad_loss(
    network: Callable,
    params: Any,
    regularization_params: Any,
    trajectory: Trajectory,
    *,
    right_at_time_limits: bool,
    eta: float = 0.2,
    clip: float = 10_000.0,
) -> jax.Array:
    """Squared errors and NeuRD's loss, each a mean over valid moves; rewards are regularized by `eta`."""
    logits, values = network(params, trajectory.obs)
    logits = jnp.where(trajectory.legal, logits, -jnp.inf)
    reference = jnp.where(trajectory.legal, network(regularization_params, trajectory.obs)[0], -jnp.inf)
    nothing = jnp.zeros_like(values[:1])
    v_t = jnp.concatenate([values[1:], nothing])
    discounts = jnp.concatenate([trajectory.valid[1:], nothing > 0]).astype(values.dtype)
    if right_at_time_limits:
        v_t = jnp.concatenate([values[1:], network(params, trajectory.obs_after)[1][None]])
        discounts = jnp.concatenate([trajectory.valid[1:], trajectory.valid_after[None]]).astype(values.dtype)

    log_pi, log_reference = (jnp.where(trajectory.legal, jax.nn.log_softmax(x), 0.0) for x in (logits, reference))
    sign = 1.0 - 2.0 * trajectory.player
    penalty = rlax.batched_index(jax.lax.stop_gradient(log_pi) - log_reference, trajectory.action)
    rewards = trajectory.reward - eta * sign * penalty
    rhos = rlax.categorical_importance_sampling_ratios(logits, jnp.log(trajectory.policy), trajectory.action)
    vtrace = jax.vmap(rlax.vtrace_td_error_and_advantage, in_axes=1, out_axes=1)
    rewards, discounts, rhos = (jnp.where(trajectory.valid, x, 0.0) for x in (rewards, discounts, rhos))
    returns = vtrace(values, v_t, rewards, discounts, rhos)

    # The action taken is worth what the trajectory says, weighed by how likely it was; the others what the state is.
    taken = jax.nn.one_hot(trajectory.action, logits.shape[-1]) / jnp.where(trajectory.legal, trajectory.policy, 1.0)
    advantage = taken * (sign * (returns.q_estimate - values))[..., None]
    advantage = advantage - jnp.sum(jnp.exp(log_pi) * trajectory.legal * advantage, axis=-1, keepdims=True)
    force = jax.lax.stop_gradient(jnp.clip(advantage, -clip, clip))
    neurd = -jnp.sum(jnp.where(trajectory.legal, logits, 0.0) * force, axis=-1)
    return jnp.mean(jnp.square(returns.errors) + neurd, where=trajectory.valid)
