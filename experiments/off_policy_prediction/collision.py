"""The collision task (Ghiassian & Sutton 2021), with a table of values.

Eight states in a row; episodes start in one of the first four, where the behavior policy goes forward. In the last
four it turns half of the time, which ends the episode with nothing; the target policy always goes forward, and from
the last state that ends it with 1. In the soft variant the target policy turns there too, with less odds.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.off_policy_prediction.methods import METHODS, Problem, Rows, learned, start, values

STATES, DISCOUNT = 8, 0.9
FORWARD, TURN = 0, 1
MU_FORWARD = np.where(np.arange(STATES) < 4, 1.0, 0.5)


def target(odds: float) -> np.ndarray:
    """`[S]`, the odds of going forward under the target policy that does so with `odds` in the last four states."""
    return np.where(np.arange(STATES) < 4, 1.0, odds)


def exact(forward: np.ndarray) -> np.ndarray:
    """`[S]`, the values of a policy that goes forward with these odds."""
    v = np.zeros(STATES + 1)
    for state in reversed(range(STATES)):
        v[state] = forward[state] * (1.0 if state == STATES - 1 else DISCOUNT * v[state + 1])
    return v[:STATES]


def vtrace_fixed_point(forward: np.ndarray) -> np.ndarray:
    """`[S]`, values of the policy that V-trace with a bound of 1 evaluates: its odds go as the lesser of both."""
    goes, turns = np.minimum(forward, MU_FORWARD), np.minimum(1.0 - forward, 1.0 - MU_FORWARD)
    return exact(goes / (goes + turns))


def root_mean_square(x: np.ndarray | jax.Array) -> jax.Array:
    """Over the states."""
    return jnp.sqrt(jnp.mean(jnp.square(x)))


def problem(odds: float) -> Problem:
    goes = jnp.asarray(np.stack([target(odds), MU_FORWARD]), jnp.float32)
    pi, mu = jnp.stack([goes, 1.0 - goes], -1)
    return Problem(
        pi=pi,
        mu=mu,
        features=jnp.eye(STATES),
        action_features=jnp.eye(2 * STATES).reshape(STATES, 2, 2 * STATES),
        start=jnp.zeros(STATES),
        action_start=jnp.zeros(2 * STATES),
    )


def episode(key: jax.Array) -> Rows:
    """One episode of the behavior policy, in eight rows."""
    start_key, turn_key = jax.random.split(key)
    place = jax.random.randint(start_key, (), 0, 4) + jnp.arange(STATES)
    turns = jax.random.bernoulli(turn_key, 0.5, (STATES,)) & (place >= 4)
    is_valid = (place < STATES) & (jnp.cumsum(turns) - turns == 0)
    state = jnp.minimum(place, STATES - 1)
    wins = (place == STATES - 1) & ~turns
    ends = turns | wins
    return Rows(
        state_tm1=state,
        action_tm1=jnp.where(turns, TURN, FORWARD),
        state_t=jnp.minimum(state + 1, STATES - 1),
        r_t=wins.astype(jnp.float32),
        discount_t=jnp.where(ends, 0.0, DISCOUNT),
        is_valid_t=is_valid,
    )


@functools.partial(jax.jit, static_argnames=("name", "odds", "episodes"))
def errors(name: str, keys: jax.Array, step_sizes: jax.Array, *, odds: float, episodes: int) -> jax.Array:
    """`[len(keys), len(step_sizes), episodes]`, the root mean squared error over the states after each episode."""
    method, task, true = METHODS[name], problem(odds), exact(target(odds))

    def run(key, step_size):
        def step(weights, key):
            weights = learned(method, task, weights, episode(key), step_size)
            return weights, root_mean_square(values(method, task, weights) - true)

        return jax.lax.scan(step, start(method, task), jax.random.split(key, episodes))[1]

    return jax.vmap(lambda key: jax.vmap(lambda step_size: run(key, step_size))(step_sizes))(keys)
