"""Learners of a run folder, read back."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from isjax.learner import LearnerState, make_learner
from isjax.population import best_learner, make_population
from isjax.run import store
from isjax.run.checkpoints import Checkpoints
from isjax.run.store import Plan
from isjax.run.summary import training_key


class Restored(NamedTuple):
    """All learners of a run, as its newest checkpoint has them."""

    plan: Plan
    update: int
    states: LearnerState
    """`[L, ...]`."""
    scores: list[float | None]
    """Mean returns of the final evaluation, by learner; empty while the run is not finished."""


def restore(folder: Path) -> Restored:
    """Reads a run folder's newest checkpoint.

    Raises:
      ValueError: there is no run, or no checkpoint that can be read.
    """
    if not store.holds_run(folder):
        raise ValueError(f"{folder} must be the folder of a run, but it holds no {store.CONFIG}.")
    saved = store.read_json(folder / store.CONFIG)
    try:
        plan = Plan.from_json(saved)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / store.CONFIG} is damaged: {error}.") from error
    devices = jax.local_devices()[:1]
    population = make_population(make_learner(plan.config), plan.learners, devices=devices)
    like = jax.eval_shape(lambda: population.init(training_key(plan), plan.hyper))
    checkpoints = Checkpoints(folder / store.CHECKPOINTS)
    try:
        found = checkpoints.restore(like, device=devices[0])
    finally:
        checkpoints.close()
    if found is None:
        raise ValueError(f"{folder} has no checkpoint yet.")
    return Restored(plan, found.update, found.state, _scores(folder))


def pick(restored: Restored, index: int | None) -> tuple[int, LearnerState]:
    """One learner: that of the index, or the one with the best final evaluation.

    Raises:
      ValueError: there is no such learner, or no evaluation to tell the best one.
    """
    learners = restored.plan.learners
    if index is None:
        if not restored.scores:
            raise ValueError(f"learner must be an index from 0 to {learners - 1}: the run has no final evaluation yet.")
        scores = [float("nan") if score is None else score for score in restored.scores]
        index = best_learner(np.asarray(scores), jax.device_get(restored.states.alive))
    if not 0 <= index < learners:
        raise ValueError(f"learner must be from 0 to {learners - 1}, but it is {index}.")
    return index, jax.tree.map(lambda x: x[index], restored.states)


def _scores(folder: Path) -> list[Any]:
    path = folder / store.SUMMARY
    return store.read_json(path)["final_return"]["per_learner"] if path.exists() else []
