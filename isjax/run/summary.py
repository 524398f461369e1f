"""What a run comes down to: `summary.json`."""

from typing import Any

import numpy as np

from isjax.run.plan import Plan
from isjax.run.results import LearnerResults
from isjax.run.store import device_name, versions
from isjax.types import Cause, Device


def summarize(
    plan: Plan, results: LearnerResults, update: int, devices: list[Device], seconds: dict[str, float]
) -> dict[str, Any]:
    """What `summary.json` holds of a run, but for its final returns and whether it has finished.

    `env_steps_per_s` is a total: the steps of all learners while they were alive, over the seconds from the
    first chunk to the last, with the writing of rows and checkpoints and without compilation and evaluation.
    """
    steps = int(results.updates.sum(dtype=np.int64)) * plan.config.steps_per_update
    died, stopped = np.flatnonzero(results.died_at >= 0), np.flatnonzero(results.stopped_at >= 0)
    summary: dict[str, Any] = {
        "environment": plan.config.env,
        "algorithm": plan.config.algorithm,
        "seed": plan.seed,
        "learners": plan.learners,
        "alive": int(results.alive.sum()),
        "died": [{"learner": int(i), "update": int(results.died_at[i])} | _cause(results.died_of[i]) for i in died],
        "updates": update,
        "env_steps_per_learner": update * plan.config.steps_per_update,
        "env_steps_per_s": steps / seconds["train_s"] if seconds["train_s"] > 0 else None,
        **seconds,
        "device": device_name(devices),
        "versions": versions(),
    }
    if results.given_up.any():
        summary["episodes_given_up"] = int(results.given_up.sum())
    if plan.halvings:
        summary["stopped"] = [{"learner": int(i), "update": int(results.stopped_at[i])} for i in stopped]
    return summary


def _cause(died_of: int) -> dict[str, str]:
    """What a learner died of, where that is more than a number that was not finite."""
    return {"cause": "no legal action"} if died_of == Cause.NO_LEGAL_ACTION else {}
