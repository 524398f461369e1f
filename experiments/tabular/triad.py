"""The deadly triad with two states, whose values are `w` and `2 w` (Sutton & Barto 2018, chapter 11).

State 0 leads to state 1. There the target policy stays, and the behavior policy goes back with some odds instead;
whoever stays may have come to the end. All rewards are 0, so that every value is 0, and the weight w should be.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

DISCOUNT, END, BACK, STEP_SIZE = 0.99, 0.05, 0.5, 0.01
"""γ, the odds of an end while staying, the odds of going back, α."""
LINEAR, TABLE = np.array([[1.0], [2.0]]), np.eye(2)
CASES = {
    "all three": (LINEAR, BACK, 0.0),
    "without off-policy": (LINEAR, 0.0, 0.0),
    "without approximation": (TABLE, BACK, 0.0),
    "without bootstrapping": (LINEAR, BACK, 1.0),
}
"""`(features, odds of going back, λ)`."""


def visits(back: float) -> np.ndarray:
    """`[2]`, how often the behavior policy is in each state."""
    leaves = back + (1 - back) * END
    return np.array([leaves, 1.0]) / (1.0 + leaves)


def growth(features: np.ndarray, back: float, lambda_: float) -> float:
    """Of the expected update: the largest real part of its eigenvalues, above 0 if it diverges.

    Trace factors and ratios are the same, so that both make the target's transitions out of the behavior's.
    """
    follows = np.array([[0.0, 1.0], [0.0, 1.0 - END]])
    error = (DISCOUNT * follows - np.eye(2)) @ features
    corrected = np.linalg.solve(np.eye(2) - DISCOUNT * lambda_ * follows, error)
    return float(np.linalg.eigvals(features.T @ (visits(back)[:, None] * corrected)).real.max())


@functools.partial(jax.jit, static_argnames=("steps", "every"))
def runs(
    features: jax.Array,
    back: float,
    lambda_: float,
    keys: jax.Array,
    *,
    steps: int,
    every: int,
    discount: float = DISCOUNT,
) -> jax.Array:
    """`[len(keys), 1 + steps // every]`, root mean squared values along the way: off-policy TD(λ), eq. 12.25."""

    def run(key):
        def step(carry, key):
            weights, trace, state = carry
            goes_back, ends = jax.random.uniform(key, (2,)) < jnp.array([back, END])
            is_second = state == 1
            goes_back, ends = goes_back & is_second, ends & is_second & ~goes_back
            # Of going back the target policy knows nothing; of staying the behavior policy does less.
            rho = jnp.where(goes_back, 0.0, jnp.where(is_second, 1.0 / (1.0 - jnp.minimum(back, 0.999)), 1.0))
            following = jnp.where(goes_back, 0, 1)
            value = features @ weights
            td = discount * jnp.where(ends, 0.0, value[following]) - value[state]
            trace = rho * (trace + features[state])
            weights = weights + STEP_SIZE * td * trace
            state = jnp.where(ends, 0, following)
            return (weights, jnp.where(ends, 0.0, discount * lambda_) * trace, state), None

        def some(carry, keys):
            carry = jax.lax.scan(step, carry, keys)[0]
            return carry, error(carry[0])

        begin = (first(features), jnp.zeros(features.shape[1]), jnp.zeros((), jnp.int32))
        found = jax.lax.scan(some, begin, jax.random.split(key, (steps // every, every)))[1]
        return jnp.concatenate([error(begin[0])[None], found])

    def error(weights):
        return jnp.sqrt(jnp.mean((features @ weights) ** 2))

    return jax.vmap(run)(keys)


def first(features: jax.Array) -> jax.Array:
    """Weights for values of 1 and 2."""
    return jnp.ones(1) if features.shape[1] == 1 else jnp.array([1.0, 2.0])


def two_state_weight(updates: int, discount: float = DISCOUNT) -> float:
    """The weight after so many updates of the first state alone, from 1: `(1 + α (2 γ − 1))^k` (section 11.2)."""
    return (1.0 + STEP_SIZE * (2.0 * discount - 1.0)) ** updates


def least_squares(end: float, discount: float, sweeps: int) -> list[float]:
    """The weight after each least-squares fit to expected one-step returns, from 1 (example 11.1), without sampling."""
    w = [1.0]
    follows = np.array([[0.0, 1.0], [0.0, 1.0 - end]])
    for _ in range(sweeps):
        target = discount * follows @ (LINEAR @ np.array([w[-1]]))
        w.append(float(np.linalg.lstsq(LINEAR, target, rcond=None)[0][0]))
    return w
