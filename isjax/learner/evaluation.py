"""Playing whole episodes of a policy, on keys of their own: to evaluate it, or to log what it did."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from isjax.environments.adapter import Adapter
from isjax.learner.unroll import reset_actors, step_and_reset
from isjax.randomness import Domain, stream
from isjax.types import Key, Tree

Choice = Callable[[Key, Tree, Tree], tuple[jax.Array, Tree, Tree]]
"""`(key, observation [E, ...], carry) → (action, carry, kept)`: `action` as the distribution samples it, `carry`
for the next step, and `kept`, a tree of `[E]`, what a log is to hold of the step."""


class Evaluation(NamedTuple):
    """`E` episodes, from their start to their end or time limit, or to where they were given up."""

    episode_return: jax.Array
    """`[E]`, undiscounted and unscaled."""
    length: jax.Array
    """`[E]` int32, steps."""
    finished: jax.Array
    """`[E]` boolean, whether the environment ended the episode. False for one that was given up: after `longest`
    steps without an end, or in a state without any legal action. Its return is what it had come to."""


class Played(NamedTuple):
    """`E` episodes, each step of them; what stands beyond an episode's `length` is zero."""

    evaluation: Evaluation
    r_t: jax.Array
    """`[limit, E]`, rewards as the environment gave them."""
    kept: Tree
    """`[limit, E]` each, what `choose` kept."""


def longest(adapter: Adapter) -> int:
    """Steps after which an episode is given up, if its environment has not ended it before; none is where the
    environment guarantees a limit.
    """
    return adapter.patience


def evaluate(adapter: Adapter, choose: Choice, carry: Tree, episodes: int, key: Key) -> Evaluation:
    """Plays `episodes` episodes side by side, until the last one has ended.

    Args:
      adapter: the environment.
      choose: the policy.
      carry: what it carries into the first step.
      episodes: E.
      key: nothing else draws from it.

    Returns:
      `Evaluation`; what an environment does after its first episode does not count.
    """
    return _play(adapter, choose, carry, episodes, key, log=None)[0]


def play(adapter: Adapter, choose: Choice, carry: Tree, episodes: int, key: Key) -> Played:
    """As `evaluate`, and keeps every step."""
    observation, _ = jax.eval_shape(lambda: reset_actors(adapter, episodes, key)[:2])
    kept = jax.eval_shape(choose, key, observation, carry)[2]
    log = jax.tree.map(lambda x: jnp.zeros((longest(adapter), *x.shape), x.dtype), kept)
    evaluation, log = _play(adapter, choose, carry, episodes, key, log=(jnp.zeros((longest(adapter), episodes)), log))
    return Played(evaluation, *log)


def _play(adapter: Adapter, choose: Choice, carry: Tree, episodes: int, key: Key, log: Any) -> tuple[Evaluation, Any]:
    actors = reset_actors(adapter, episodes, stream(key, Domain.EPISODE_RESETS))
    actions_key, steps_key = stream(key, Domain.EPISODE_ACTIONS), stream(key, Domain.EPISODE_STEPS)

    step_all = jax.vmap(functools.partial(step_and_reset, adapter))

    def step(loop):
        t, observation, state, carry, running, played, log = loop
        running = running & has_legal_action(adapter, observation)
        action, carry, kept = choose(jax.random.fold_in(actions_key, t), observation, carry)
        # Any state will do to go on from after an episode: what follows does not count.
        here = None if adapter.resets_itself else (observation, state)
        keys = jax.random.split(jax.random.fold_in(steps_key, t), episodes)
        after, (observation, state) = step_all(keys, state, adapter.actions.execute(action), here)
        reward = jnp.where(running, after.reward, 0.0)
        if log is not None:
            row = (reward, jax.tree.map(lambda x: jnp.where(running, x, 0), kept))
            log = jax.tree.map(lambda rows, x: jax.lax.dynamic_update_index_in_dim(rows, x, t, 0), log, row)
        ended = running & after.ended
        played = Evaluation(played.episode_return + reward, played.length + running, played.finished | ended)
        running = running & ~ended
        return t + 1, observation, state, carry, running, played, log

    def unfinished(loop):
        return (loop[0] < longest(adapter)) & jnp.any(loop[4])

    nothing = Evaluation(jnp.zeros(episodes), jnp.zeros(episodes, jnp.int32), jnp.zeros(episodes, bool))
    start = (jnp.zeros((), jnp.int32), actors.observation, actors.state, carry, jnp.ones(episodes, bool), nothing, log)
    *_, played, log = jax.lax.while_loop(unfinished, step, start)
    return played, log


def has_legal_action(adapter: Adapter, observation: Tree) -> jax.Array | bool:
    """`[E]` boolean of observations `[E, ...]`, or true where every action is always legal."""
    legal = adapter.legal(observation)
    return True if legal is None else adapter.actions.can_act(legal.astype(bool))
