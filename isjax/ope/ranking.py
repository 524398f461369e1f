"""Several target policies and one log: which is best, and how sure that is."""

from typing import NamedTuple

import numpy as np

from isjax.ope.evaluation import Evaluation, evaluate_log
from isjax.stats import check_level
from isjax.types import Key, LoggedEpisodes

DEFAULT = ("weighted_per_decision_is", "weighted_is")
"""Estimators that targets are ranked by unless others are asked for; the first one that is there."""


class Ranked(NamedTuple):
    """A target policy, and how far it is behind the first of those that can be trusted."""

    target: str
    behind: float
    """The estimate of the first target minus that of this one; 0 for the first."""
    behind_low: float
    behind_high: float
    """The ends of its interval: both estimates are of the same resamples of the same episodes."""


class Ranking(NamedTuple):
    """What a log says about several target policies."""

    estimator: str
    """The name of the estimator that they are ranked by."""
    evaluations: dict[str, Evaluation]
    """By target, in the order of the log."""
    ranked: tuple[Ranked, ...]
    """The best first; those whose estimate is not to be trusted come last."""


def evaluate_targets(
    targets: dict[str, LoggedEpisodes],
    discount: float,
    *,
    key: Key,
    estimators: tuple[str, ...] = (),
    level: float = 0.95,
    resamples: int = 1000,
) -> Ranking:
    """Evaluates several target policies on one log, and ranks them by one estimator.

    Intervals of differences are paired: of the quantiles of differences on the same resamples, or, where nothing was
    resampled, normal ones of the differences between what the same episodes contribute.

    Args:
      targets: the episodes by the names of the targets, as `read_targets` gives them: of the same log.
      discount: γ in [0, 1].
      key: a typed key, `jax.random.key(seed)`, for the bootstrap.
      estimators: see `evaluate_log`; targets are ranked by the first one.
      level: the coverage aimed at, in (0, 1).
      resamples: how many samples the bootstrap draws.

    Returns:
      A `Ranking`.

    Raises:
      ValueError: there is no target, they are not of one log, or an argument is as `evaluate_log` refuses it.

    >>> from isjax.ope import pack_targets
    >>> frame = {"reward": [0.0, 1.0] * 50, "log_mu": np.log([0.5, 0.5] * 50)}
    >>> frame |= {"log_pi.same": np.log([0.5, 0.5] * 50), "log_pi.better": np.log([0.1, 0.9] * 50)}
    >>> ranking = evaluate_targets(pack_targets(frame).episodes, 1.0, key=jax.random.key(0))
    >>> [each.target for each in ranking.ranked]
    ['better', 'same']
    """
    check_level(level)
    if not targets:
        raise ValueError("targets must hold at least one log, but it is empty.")
    shapes = {np.shape(log.r_t) for log in targets.values()}
    if len(shapes) > 1:
        raise ValueError(f"targets must be of one log, but the shapes of r_t are {sorted(shapes)}.")
    options = {"key": key, "estimators": estimators, "level": level, "resamples": resamples}
    evaluations = {name: evaluate_log(log, discount, **options) for name, log in targets.items()}
    return rank(evaluations, level=level, by=estimators[0] if estimators else "")


def rank(evaluations: dict[str, Evaluation], *, level: float, by: str = "") -> Ranking:
    """Ranks targets that were evaluated on the same log with the same key."""
    known = next(iter(evaluations.values())).estimates
    by = by or next((name for name in DEFAULT if name in known), next(iter(known)))

    def place(name: str) -> tuple[bool, float]:
        of = evaluations[name].estimates[by]
        return of.trust == "no", -of.value if np.isfinite(of.value) else np.inf

    order = sorted(evaluations, key=place)
    first = evaluations[order[0]]
    ranked = tuple(Ranked(name, *_behind(first, evaluations[name], by, level)) for name in order)
    return Ranking(by, evaluations, ranked)


def _behind(first: Evaluation, other: Evaluation, by: str, level: float) -> tuple[float, float, float]:
    """The difference of two estimates, and its interval."""
    if first is other:
        return 0.0, 0.0, 0.0
    behind = first.estimates[by].value - other.estimates[by].value
    if by in first.drawn and by in other.drawn:
        low, high = np.quantile(first.drawn[by] - other.drawn[by], [0.5 - 0.5 * level, 0.5 + 0.5 * level])
        return behind, float(low), float(high)
    each = first.contributions[by] - other.contributions[by]
    margin = _normal_quantile(level) * float(np.std(each, ddof=1 if len(each) > 1 else 0)) / np.sqrt(len(each))
    return behind, behind - margin, behind + margin


def _normal_quantile(level: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(0.5 + 0.5 * level))
