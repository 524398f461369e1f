"""Evaluation: whole episodes of a policy, on keys of their own."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from isjax.learner.config import Config
from isjax.learner.environments import UNLIMITED_STEPS, Adapter
from isjax.learner.unroll import Actors, reset_actors
from isjax.types import Key, Tree


class Evaluation(NamedTuple):
    """`E` episodes, from their start to their end or time limit."""

    episode_return: jax.Array
    """`[E]`, undiscounted and unscaled."""
    length: jax.Array
    """`[E]` int32, steps."""


def evaluate(adapter: Adapter, config: Config, policy: Callable[[Tree], jax.Array], key: Key) -> Evaluation:
    """Plays `config.evaluation_episodes` episodes side by side, until the last one has ended.

    Args:
      adapter: the environment.
      config: how many episodes, and whether actions are the mode or sampled.
      policy: observations `[E, ...]` to the distribution's parameters `[E, P]`.
      key: nothing else draws from it.

    Returns:
      `Evaluation`; what an environment does after its first episode does not count.
    """
    episodes, limit = config.evaluation_episodes, adapter.max_steps or UNLIMITED_STEPS
    start_key, run_key = jax.random.split(key)
    actors = reset_actors(adapter, episodes, start_key)

    def step(carry):
        t, actors, running, length = carry
        noise_key, step_key = jax.random.split(jax.random.fold_in(run_key, t))
        params = policy(actors.observation)
        if config.evaluation_policy == "mode":
            action = adapter.actions.mode(params)
        else:
            action = adapter.actions.sample(params, adapter.actions.noise(noise_key, (episodes,)))
        # Any state will do to go on from after an episode: what follows does not count.
        fresh = (actors.observation, actors.state) if adapter.takes_fresh else None
        keys = jax.random.split(step_key, episodes)
        after = jax.vmap(adapter.step)(keys, actors.state, adapter.actions.execute(action), fresh)
        episode_return = actors.episode_return + jnp.where(running, after.reward, 0.0)
        actors = Actors(after.observation, after.state, episode_return)
        return t + 1, actors, running & ~(after.terminated | after.truncated), length + running

    def unfinished(carry):
        t, _, running, _ = carry
        return (t < limit) & jnp.any(running)

    start = (jnp.zeros((), jnp.int32), actors, jnp.ones(episodes, bool), jnp.zeros(episodes, jnp.int32))
    _, actors, _, length = jax.lax.while_loop(unfinished, step, start)
    return Evaluation(actors.episode_return, length)
