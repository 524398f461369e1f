"""Trains every algorithm for five updates with fixed keys and prints a digest of what came of it.

`python -m tests.fingerprints > FILE` on two commits, then `diff`: equal lines are states and metrics that are equal bit
for bit. Arrays count by their values, whatever the fields that hold them are called.
"""

import dataclasses
import hashlib
import itertools

import jax
import numpy as np

from isjax.learner import Hyper, make_learner
from isjax.learner.defaults import defaults

ALGORITHMS = (
    *("impala", "a2c", "reinforce", "pg-is", "p3o", "ppo", "ppo-kl", "ppo-decoupled", "awr", "trpo"),
    *("q-learning", "sarsa", "expected-sarsa", "dqn", "pqn", "retrace", "tree-backup", "q-sigma"),
    "sac",
)
ENVIRONMENTS = ("CartPole-v1", "Pendulum-v1")
MEMORIES = ("none", "gru")
OFF_POLICY = (dict(), dict(actor_lag=2), dict(actor_lag=1, replay_fraction=0.5, replay_size=3))
SMALL = dict(num_envs=4, unroll_length=8, torso=(16,), evaluation_episodes=2)
UPDATES = 5


def digest(tree) -> str:
    """Of all arrays of a tree, in no order."""
    leaves = []
    for x in jax.tree.leaves(tree):
        if isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x = jax.random.key_data(x)
        x = np.asarray(x)
        leaves.append(f"{x.dtype}{x.shape}".encode() + x.tobytes())
    return hashlib.blake2b(b"".join(sorted(leaves)), digest_size=12).hexdigest()


def trained(env: str, algorithm: str, **changes) -> str:
    """The digests of state, metrics and evaluation after the updates, or why there are none."""
    config, hyper = defaults(env, algorithm)
    try:
        config = dataclasses.replace(config, **SMALL, **changes)
        learner = make_learner(config)
    except ValueError as error:
        return f"refused: {error}"
    state = learner.init(jax.random.key(7), Hyper(**vars(hyper)))
    update = jax.jit(learner.update)
    metrics = []
    for _ in range(UPDATES):
        state, told = update(state)
        metrics.append(told)
    evaluation = jax.jit(learner.evaluate)(state, jax.random.key(8))
    found = (digest(state), digest(metrics), digest((evaluation.episode_return, evaluation.length)))
    return " ".join(found)


def main() -> None:
    """A line for each case."""
    for env, algorithm, memory, changes in itertools.product(ENVIRONMENTS, ALGORITHMS, MEMORIES, OFF_POLICY):
        case = " ".join([env, algorithm, memory, *(f"{name}={x}" for name, x in changes.items())])
        print(f"{case}: {trained(env, algorithm, memory=memory, **changes)}", flush=True)


if __name__ == "__main__":
    main()
