"""Acting: one `lax.scan` over the environments of one learner."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from isjax.environments.adapter import Adapter
from isjax.environments.api import Step
from isjax.learner.config import Config
from isjax.learner.metrics import expand
from isjax.learner.resets import ResetPool
from isjax.randomness import Domain, stream
from isjax.types import Flags, Key, Tree, Unroll

_FEW_RESETS = 8
"""Among so many it is quicker to choose by selects than to gather."""


class Actors(NamedTuple):
    """The environments of a learner between unrolls, and what is known of their running episodes."""

    observation: Tree
    """`[B, ...]`."""
    state: Tree
    """`[B, ...]`."""
    memory: Tree
    """`[B, ...]`, what a recurrent policy brings into its next step: empty where an episode starts."""
    episode_return: jax.Array
    """`[B]`, undiscounted and unscaled, so far."""
    pool: ResetPool | None = None
    """Where the next episodes start from; `None` if that is drawn for each unroll."""


class Finished(NamedTuple):
    """The episodes that ended during an unroll."""

    episodes: jax.Array
    """`[]` int32, how many."""
    return_sum: jax.Array
    """`[]`, the sum of their undiscounted returns."""


def reset_actors(adapter: Adapter, num_envs: int, key: Key, memory: Tree = ()) -> Actors:
    """`num_envs` environments at their start; `memory` is an empty one."""
    observation, state = jax.vmap(adapter.reset)(jax.random.split(key, num_envs))
    return Actors(observation, state, memory, jnp.zeros(num_envs, jnp.float32))


def cut_rows(adapter: Adapter, unroll_length: int) -> int:
    """How often one environment can be truncated during an unroll: ⌈T / limit⌉ times where a limit is guaranteed."""
    return -(-unroll_length // adapter.uncut_steps)


def draw_resets(adapter: Adapter, config: Config, key: Key) -> tuple[Tree, Tree] | None:
    """`(observation, state)` `[R, B, ...]` of the next episodes, or `None` if they come from elsewhere."""
    if adapter.resets_itself or config.reset_pool:
        return None
    rows = config.resets_per_unroll or config.unroll_length
    return jax.vmap(jax.vmap(adapter.reset))(jax.random.split(key, (rows, config.num_envs)))


def choose_resets(config: Config, fresh: Tree, t: jax.Array, end_count: jax.Array) -> Tree:
    """Of `[R, B, ...]`, what each environment would start anew from at step `t`: `[B, ...]`."""
    rows = config.resets_per_unroll
    if fresh is None:
        return None
    if rows == 0:
        return jax.tree.map(lambda x: x[t], fresh)
    turn = end_count % rows

    def choose(x: jax.Array) -> jax.Array:
        if rows > _FEW_RESETS:
            return x[turn, jnp.arange(turn.size)]
        chosen = x[0]
        for row in range(1, rows):
            chosen = jnp.where(expand(turn == row, chosen), x[row], chosen)
        return chosen

    return jax.tree.map(choose, fresh)


def step_and_reset(
    adapter: Adapter, key: Key, state: Tree, action: jax.Array, fresh: tuple[Tree, Tree] | None
) -> tuple[Step, tuple[Tree, Tree]]:
    """One step of one environment, and `(observation, state)` to act on next: `fresh` where the episode has ended.

    Without `fresh` it is the state reached, which may be the last one of an episode. This and `start_from_pool` are
    the only places where environments are reset, but for those that do it themselves.
    """
    after = adapter.step(key, state, action)
    if after.following is not None:
        return after, after.following
    ended, reached = after.ended, (after.observation, after.state)
    if fresh is None:
        return after, reached
    return after, jax.tree.map(lambda new, old: jnp.where(ended, new, old), fresh, reached)


def start_from_pool(pool: ResetPool, ended: Flags, reached: tuple[Tree, Tree]) -> tuple[tuple[Tree, Tree], ResetPool]:
    """`(observation, state)` `[B, ...]` to act on next: of the pool where the episode has ended."""
    starts, pool = pool.take(ended)
    return jax.tree.map(lambda new, old: jnp.where(expand(ended, old), new, old), starts, reached), pool


def act(
    adapter: Adapter,
    config: Config,
    policy: Callable[[Tree, Tree], tuple[jax.Array, Tree]],
    actors: Actors,
    key: Key,
) -> tuple[Unroll, Actors, Finished]:
    """Acts for `unroll_length` steps in every environment.

    All randomness is drawn before the scan. Final observations are kept only where a time limit cut an
    episode, since only these are bootstrapped from: in slots, of which `cut_rows` are enough.

    Args:
      adapter: the environment.
      config: how many environments and steps.
      policy: observations `[B, ...]` and memory to the distribution's parameters `[B, P]` and the next memory.
      actors: the environments where they stand.
      key: of the update, of which acting has domains of its own.

    Returns:
      The unroll, the environments after it, and the episodes that ended.
    """
    rows, num_envs = config.unroll_length, config.num_envs
    noise = adapter.actions.noise(stream(key, Domain.ACTIONS), (rows, num_envs))
    step_keys = jax.random.split(stream(key, Domain.STEPS), (rows, num_envs))
    fresh = draw_resets(adapter, config, stream(key, Domain.RESETS))
    if actors.pool is not None:
        refilled = actors.pool.refill(adapter, config.resets_per_update, stream(key, Domain.RESETS))
        actors = actors._replace(pool=refilled)
    step_all = jax.vmap(functools.partial(step_and_reset, adapter))
    slots = jnp.arange(cut_rows(adapter, rows))

    def step(carry, row):
        actors, cuts, cut_count, end_count = carry
        t, noise, keys = row
        params, memory = policy(actors.observation, actors.memory)
        action = adapter.actions.sample(params, noise)
        fresh_now = choose_resets(config, fresh, t, end_count)
        after, (observation, state) = step_all(keys, actors.state, adapter.actions.execute(action), fresh_now)
        # The slot that a cut would fill, if there can be one more.
        slot = jnp.minimum(cut_count, slots.size - 1)
        fill = after.truncated[None, :] & (slots[:, None] == slot[None, :])
        cuts = jax.tree.map(lambda kept, x: jnp.where(expand(fill, kept), x[None], kept), cuts, after.observation)
        ended, pool = after.ended, actors.pool
        if pool is not None:
            (observation, state), pool = start_from_pool(pool, ended, (observation, state))
        episode_return = actors.episode_return + after.reward
        memory = jax.tree.map(lambda x: jnp.where(expand(ended, x), jnp.zeros_like(x), x), memory)
        actors_next = Actors(observation, state, memory, jnp.where(ended, 0.0, episode_return), pool)
        finished_return = jnp.where(ended, episode_return, 0.0)
        kept = (actors.observation, action, params, after.reward, after.terminated, after.truncated, slot)
        return (actors_next, cuts, cut_count + after.truncated, end_count + ended), (kept, finished_return)

    cuts = jax.tree.map(lambda x: jnp.zeros((slots.size, *x.shape), x.dtype), actors.observation)
    memory = jax.tree.map(lambda x: x[None], actors.memory)
    start = (actors, cuts, jnp.zeros(num_envs, jnp.int32), jnp.zeros(num_envs, jnp.int32))
    (actors, cuts, _, _), (kept, finished_return) = jax.lax.scan(step, start, (jnp.arange(rows), noise, step_keys))
    observation, action, mu, reward, terminated, truncated, slot = kept
    log_mu = adapter.actions.log_prob(mu, action)  # all time steps at once: many small operations less
    observation = jax.tree.map(lambda xs, last: jnp.concatenate([xs, last[None]]), observation, actors.observation)
    mu = mu if config.replay_mask else None
    unroll = Unroll(observation, action, log_mu, reward, terminated, truncated, cuts, slot, memory, mu)
    finished = Finished(jnp.sum(terminated | truncated, dtype=jnp.int32), jnp.sum(finished_return))
    return unroll, actors, finished
