"""Baird's counterexample (Sutton & Barto 2018, section 11.2): every value is 0, and linear features can say so.

"Dashed" leads to one of the first six of seven states, "solid" to the last one. The behavior policy takes solid with
1/7, the target policy always; rewards are 0. For values of actions, solid has the features of the state and dashed
a weight of its own in each state.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.off_policy_prediction.methods import METHODS, Problem, Rows, learned, start, values

STATES, DISCOUNT = 7, 0.99
DASHED, SOLID = 0, 1
FEATURES = np.hstack([np.diag([2.0] * 6 + [1.0]), np.array([[1.0]] * 6 + [[2.0]])])
START = np.array([1.0] * 6 + [10.0, 1.0])
TRACES = {"one-step TD": np.zeros(2), "per-decision IS": np.array([0.0, 7.0])}
"""Trace factors of dashed and solid; those of the other methods are 0 and 1."""


def problem(*, tabular: bool) -> Problem:
    """With Baird's features and weights, or with a table that holds the same values at the start."""
    features, first = FEATURES, START
    if tabular:  # with a feature that is always 0, for the same shapes
        features, first = np.eye(STATES, STATES + 1), np.append(FEATURES @ START, 0.0)
    k = features.shape[1]
    of_dashed = np.hstack([np.zeros((STATES, k)), np.eye(STATES)])
    of_solid = np.hstack([features, np.zeros((STATES, STATES))])
    return Problem(
        pi=jnp.tile(jnp.array([0.0, 1.0]), (STATES, 1)),
        mu=jnp.tile(jnp.array([6.0, 1.0]) / 7.0, (STATES, 1)),
        features=jnp.asarray(features, jnp.float32),
        action_features=jnp.asarray(np.stack([of_dashed, of_solid], 1), jnp.float32),
        start=jnp.asarray(first, jnp.float32),
        action_start=jnp.asarray(np.concatenate([first, np.ones(STATES)]), jnp.float32),
    )


def unroll(key: jax.Array, first: jax.Array, steps: int) -> Rows:
    """Steps of the behavior policy from a state on: all seven states are equally likely to follow."""
    reached = jax.random.randint(key, (steps,), 0, STATES)
    return Rows(
        state_tm1=jnp.concatenate([first[None], reached[:-1]]),
        action_tm1=jnp.where(reached == STATES - 1, SOLID, DASHED),
        state_t=reached,
        r_t=jnp.zeros(steps),
        discount_t=jnp.full(steps, DISCOUNT),
        is_valid_t=jnp.ones(steps, bool),
    )


@functools.partial(jax.jit, static_argnames=("name", "unrolls", "steps"))
def errors(name: str, task: Problem, keys: jax.Array, step_size: float, *, unrolls: int, steps: int) -> jax.Array:
    """`[len(keys), 1 + unrolls]`, the root mean squared value over the states, at first and after each unroll."""
    method = METHODS[name]

    def error(weights):
        return jnp.sqrt(jnp.mean(values(method, task, weights) ** 2))

    def run(key):
        first_key, key = jax.random.split(key)

        def step(carry, key):
            weights, state = carry
            rows = unroll(key, state, steps)
            weights = learned(method, task, weights, rows, step_size)
            return (weights, rows.state_t[-1]), error(weights)

        begin = (start(method, task), jax.random.randint(first_key, (), 0, STATES))
        found = jax.lax.scan(step, begin, jax.random.split(key, unrolls))[1]
        return jnp.concatenate([error(begin[0])[None], found])

    return jax.vmap(run)(keys)


def growth(name: str, lambda_: float) -> float:
    """Of the expected update in unrolls without end: the largest real part of its eigenvalues, above 0 if it diverges.

    The correction of a row is the sum of the errors that follow, each times the trace factors on the way there.
    """
    on_actions = METHODS[name].on_actions
    mu, trace = np.array([6.0, 1.0]) / 7.0, TRACES.get(name, np.array([0.0, 1.0]))
    rho = np.array([0.0, 1.0 if name == "V-trace" else 7.0])
    leads = np.zeros((2, STATES, STATES))
    leads[DASHED, :, :6], leads[SOLID, :, 6] = 1.0 / 6.0, 1.0
    decay = DISCOUNT * lambda_
    if not on_actions:
        follows = np.einsum("a,ast->st", mu * trace, leads)
        error = np.einsum("a,ast->st", mu * rho, DISCOUNT * leads - np.eye(STATES)) @ FEATURES
        update = FEATURES.T @ np.linalg.solve(np.eye(STATES) - decay * follows, error) / STATES
    else:
        task = problem(tabular=False)
        features = np.asarray(task.action_features, float).reshape(2 * STATES, -1)
        pairs = np.moveaxis(leads, 0, 1).reshape(2 * STATES, STATES)
        follows = np.einsum("xs,a->xsa", pairs, mu * trace).reshape(2 * STATES, -1)
        error = DISCOUNT * pairs @ features[SOLID::2] - features
        visits = np.tile(mu, STATES) / STATES
        update = features.T @ (visits[:, None] * np.linalg.solve(np.eye(2 * STATES) - decay * follows, error))
    return float(np.linalg.eigvals(update).real.max())
