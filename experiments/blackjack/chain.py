"""A chain of five states: which estimator gains how much, by horizon and discount.

The action "on" moves a state forward with odds 0.9 and back else, "back" the other way round; the reward is the
place of the state reached, from 0 to 1. The behavior policy takes both with equal odds, the target policy "on" with
0.8. Exact values are by dynamic programming.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from isjax import ope

STATES, SUCCEEDS, TARGET_ON = 5, 0.9, 0.8
ESTIMATORS: dict[str, Callable[..., ope.Estimate]] = {
    "ordinary": ope.ordinary_is,
    "per-decision": ope.per_decision_is,
    "discounting-aware": ope.discounting_aware_is,
    "weighted": ope.weighted_is,
    "weighted per-decision": ope.weighted_per_decision_is,
    "weighted discounting-aware": ope.weighted_discounting_aware_is,
}


def true_value(horizon: int, discount: float) -> float:
    """Of the target policy, from the state in the middle."""
    place = np.arange(STATES)
    on, back = np.minimum(place + 1, STATES - 1), np.maximum(place - 1, 0)
    forward = TARGET_ON * SUCCEEDS + (1 - TARGET_ON) * (1 - SUCCEEDS)
    value = np.zeros(STATES)
    for _ in range(horizon):
        target = place / (STATES - 1) + discount * value
        value = forward * target[on] + (1 - forward) * target[back]
    return float(value[STATES // 2])


def play(key: jax.Array, horizon: int, episodes: int) -> tuple[jax.Array, jax.Array]:
    """`(log ρ, reward)`, `[horizon, episodes]` each, under the behavior policy."""
    action_key, move_key = jax.random.split(key)
    is_on = jax.random.bernoulli(action_key, 0.5, (horizon, episodes))
    forward = is_on == jax.random.bernoulli(move_key, SUCCEEDS, (horizon, episodes))

    def step(state, forward):
        state = jnp.clip(state + jnp.where(forward, 1, -1), 0, STATES - 1)
        return state, state

    _, states = jax.lax.scan(step, jnp.full(episodes, STATES // 2), forward)
    log_rho = jnp.where(is_on, jnp.log(TARGET_ON / 0.5), jnp.log((1 - TARGET_ON) / 0.5))
    return log_rho, states / (STATES - 1)


@functools.partial(jax.jit, static_argnames=("horizon", "episodes"))
def estimates(keys: jax.Array, discount: jax.Array, *, horizon: int, episodes: int) -> dict[str, jax.Array]:
    """`[len(keys)]` estimates by estimator, all of the same episodes."""

    def one(key):
        log_rho, reward = play(key, horizon, episodes)
        return {name: estimator(log_rho, reward, discount).value for name, estimator in ESTIMATORS.items()}

    return jax.lax.map(one, keys, batch_size=50)


def errors(horizon: int, discount: float, episodes: int, runs: int, seed: int) -> dict[str, np.ndarray]:
    """`[runs]` errors by estimator, relative to the true value."""
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), horizon), runs)
    found = estimates(keys, jnp.float32(discount), horizon=horizon, episodes=episodes)
    true = true_value(horizon, discount)
    return {name: np.asarray(x, np.float64) / true - 1.0 for name, x in found.items()}
