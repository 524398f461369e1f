"""Statistics over learners: what settings are ranked by, what a run comes down to, what is shown while it goes on."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from isjax.learner.metrics import metric_of
from isjax.stats import bootstrap_interval, interquartile_mean
from isjax.stats.summaries import middle_mean
from isjax.types import Key


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


def mean_and_error(returns: np.ndarray) -> dict[str, float]:
    """The mean of returns and its standard error, which is NaN for a single one."""
    error = returns.std(ddof=1) / np.sqrt(len(returns)) if len(returns) > 1 else np.nan
    return {"mean": float(returns.mean()), "standard_error": float(error)}


def over_learners(metrics: dict[str, np.ndarray]) -> dict[str, float]:
    """A chunk's metrics `[L]` as one number each, over the learners alive that have one.

    Metrics with more axes, as the histogram of ratios has, are left out, and so are states.
    """
    alive, result = metrics["alive"], {}
    reduce: dict[str, Any] = {"sum": np.sum, "min": np.min, "max": np.max}
    for name, x in metrics.items():
        reduction = metric_of(name).reduction
        if x.ndim == 1 and reduction != "last":
            counted = x[alive & np.isfinite(x)]
            if counted.size:
                result[name] = float(reduce.get(reduction, middle_mean)(counted))
    return result
