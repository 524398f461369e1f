"""What a run comes down to: `summary.json`."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from isjax.learner.metrics import middle_mean
from isjax.learner.randomness import Domain, stream
from isjax.run.store import Plan, device_name, versions
from isjax.stats import bootstrap_interval, interquartile_mean
from isjax.types import Cause, Device, Key

if TYPE_CHECKING:
    from isjax.run.tally import Tally


def setting_scores(settings: np.ndarray, scores: np.ndarray) -> dict[int, float]:
    """What settings are ranked by: the interquartile mean, a learner without a score counting as the worst.

    Up to a quarter of a setting's learners may therefore die without a loss of rank; with more it is −∞.

    Args:
      settings: `[L]`, which setting each learner has.
      scores: `[L]`, NaN for the dead.

    Returns:
      The score of each setting.
    """
    worst = np.where(np.isfinite(scores), scores, -np.inf)
    return {int(setting): middle_mean(worst[settings == setting]) for setting in np.unique(settings)}


def training_key(plan: Plan) -> Key:
    """What learners' keys are folded from."""
    return stream(jax.random.key(plan.seed), Domain.TRAINING)


def evaluation_key(plan: Plan, update: int | None = None) -> Key:
    """What learners' keys are folded from in the evaluation after `update`, the last one if left out."""
    update = plan.config.updates if update is None else update
    return stream(jax.random.key(plan.seed), Domain.EVALUATION, update)


def bootstrap_key(plan: Plan) -> Key:
    """What the intervals of final returns draw from."""
    return stream(jax.random.key(plan.seed), Domain.BOOTSTRAP)


def final_return(scores: np.ndarray, key: Key) -> dict[str, Any]:
    """Statistics of the last evaluation over the learners that have a score.

    Args:
      scores: `[L]`, mean returns; those that are NaN are null in `per_learner` and count nowhere.
      key: of the bootstrap.

    Returns:
      mean, interquartile mean, its 95 % bootstrap interval (null for a single learner), and each learner's mean.
    """
    counts = np.isfinite(scores)
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


def summarize(
    plan: Plan, tally: "Tally", update: int, devices: list[Device], seconds: dict[str, float]
) -> dict[str, Any]:
    """Everything but the status.

    `env_steps_per_s` is a total: the steps of all learners while they were alive, over the seconds from the
    first chunk to the last, with the writing of rows and checkpoints and without compilation and evaluation.
    """
    steps = int(tally.updates.sum(dtype=np.int64)) * plan.config.steps_per_update
    died, stopped = np.flatnonzero(tally.died_at >= 0), np.flatnonzero(tally.stopped_at >= 0)
    summary: dict[str, Any] = {
        "environment": plan.config.env,
        "algorithm": plan.config.algorithm,
        "seed": plan.seed,
        "learners": plan.learners,
        "alive": int(tally.alive.sum()),
        "died": [{"learner": int(i), "update": int(tally.died_at[i])} | _cause(tally.died_of[i]) for i in died],
        "updates": update,
        "env_steps_per_learner": update * plan.config.steps_per_update,
        "env_steps_per_s": steps / seconds["train_s"] if seconds["train_s"] > 0 else None,
        **seconds,
        "device": device_name(devices),
        "versions": versions(),
    }
    if tally.given_up.any():
        summary["episodes_given_up"] = int(tally.given_up.sum())
    if plan.halvings:
        summary["stopped"] = [{"learner": int(i), "update": int(tally.stopped_at[i])} for i in stopped]
    return summary


def _cause(died_of: int) -> dict[str, str]:
    """What a learner died of, where that is more than a number that was not finite."""
    return {"cause": "no legal action"} if died_of == Cause.NO_LEGAL_ACTION else {}
