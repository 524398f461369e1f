"""What a run comes down to: `summary.json`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from isjax.learner import LearnerState
from isjax.run.store import Plan, device_name, versions
from isjax.stats import bootstrap_interval, interquartile_mean
from isjax.types import Device, Key

EVALUATION = 2**32 - 1
"""Evaluation draws from `fold_in(key(seed), EVALUATION)`; learner i trains on `fold_in(key(seed), i)`."""


def training_key(plan: Plan) -> Key:
    """What learners' keys are folded from."""
    return jax.random.key(plan.seed)


def evaluation_key(plan: Plan) -> Key:
    """What the keys of evaluations are folded from: no learner has that number."""
    return jax.random.fold_in(jax.random.key(plan.seed), jnp.uint32(EVALUATION))


def final_return(returns: np.ndarray, alive: np.ndarray, key: Key) -> dict[str, Any]:
    """Statistics of the last evaluation over the learners alive.

    Args:
      returns: `[L, E]`, of every episode.
      alive: `[L]`; the others are null in `per_learner` and count nowhere.
      key: of the bootstrap.

    Returns:
      mean, interquartile mean, its 95 % bootstrap interval (null for a single learner), and each learner's mean.
    """
    scores = np.asarray(returns, np.float64).mean(axis=1)
    counts = np.asarray(alive, bool) & np.isfinite(scores)
    result: dict[str, Any] = {"mean": None, "iqm": None, "ci95": None}
    if counts.any():
        counted = jnp.asarray(scores[counts], jnp.float32)
        result |= {"mean": float(scores[counts].mean()), "iqm": float(interquartile_mean(counted))}
        if counts.sum() > 1:
            result["ci95"] = [float(x) for x in bootstrap_interval(key, counted, interquartile_mean)]
    return result | {"per_learner": [float(x) if ok else None for x, ok in zip(scores, counts, strict=True)]}


def no_return() -> dict[str, Any]:
    """In place of `final_return` while there was no evaluation."""
    return {"mean": None, "iqm": None, "ci95": None, "per_learner": []}


def deaths(state: LearnerState) -> list[dict[str, int]]:
    """Who died, and at which update."""
    died_at = jax.device_get(state.died_at)
    return [{"learner": int(i), "update": int(died_at[i])} for i in np.flatnonzero(died_at >= 0)]


def summarize(
    plan: Plan, state: LearnerState, update: int, devices: list[Device], seconds: dict[str, float]
) -> dict[str, Any]:
    """Everything but the final return and the status.

    `env_steps_per_s` is a total: the steps of all learners while they were alive, over the seconds from the
    first chunk to the last, with the writing of rows and checkpoints and without compilation and evaluation.
    """
    steps = int(np.sum(jax.device_get(state.update), dtype=np.int64)) * plan.config.steps_per_update
    alive = jax.device_get(state.alive)
    return {
        "environment": plan.config.env,
        "algorithm": plan.config.algorithm,
        "seed": plan.seed,
        "learners": plan.learners,
        "alive": int(alive.sum()),
        "died": deaths(state),
        "updates": update,
        "env_steps_per_learner": update * plan.config.steps_per_update,
        "env_steps_per_s": steps / seconds["train_s"] if seconds["train_s"] > 0 else None,
        **seconds,
        "device": device_name(devices),
        "versions": versions(),
    }
