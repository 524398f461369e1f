"""The same with the policies of learners: how soon the policy of an earlier update is no use any more."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from isjax.learner.config import Config, Hyper
from isjax.learner.learner import make_agent, make_learner
from isjax.learner.recording import record
from isjax.ops import effective_sample_size, product_of_ratios
from isjax.population import make_population

CONFIG = Config(torso=(64,), resets_per_unroll=2, steps=64_000)
HYPER = Hyper(learning_rate=2.5e-3)


def trained(learners: int, seed: int, updates: list[int]) -> list:
    """States of a population after each of these numbers of updates."""
    population = make_population(make_learner(CONFIG), learners, devices=jax.local_devices()[:1])
    state, at, kept = population.init(jax.random.key(seed), HYPER), 0, []
    for update in updates:
        if update > at:
            state, _ = population.advance(state, jnp.int32(update - at))
        at = update
        kept.append(jax.tree.map(jnp.copy, state))
    return kept


def make_judge(episodes: int) -> Callable[..., dict[str, jax.Array]]:
    """`(behavior, target, key) → shares` of populations: `[learners]` each.

    Of the rows and of the episodes that `behavior` plays, what is effective for `target`; and how long they were.
    """
    agent = make_agent(CONFIG)

    def of(states):
        behavior, target, key = states
        log = record(agent, target, key, episodes=episodes, behavior=behavior).as_log()
        product = product_of_ratios(log.log_rho_tm1, log.is_valid_t)[-1]
        rows = effective_sample_size(log.log_rho_tm1, None, where=log.is_valid_t) / jnp.sum(log.is_valid_t)
        length = jnp.mean(jnp.sum(log.is_valid_t, 0))
        return {"one_step": rows, "product": effective_sample_size(product) / episodes, "length": length}

    def judge(behavior, target, key):
        return jax.lax.map(of, (behavior, target, jax.random.split(key, behavior.update.size)))

    return jax.jit(judge)
