"""What an estimator says of itself beside its formula, and the registry from which `evaluate_log` chooses."""

import dataclasses
from collections.abc import Callable

import jax

from isjax.ope.episodes import Estimate, Log
from isjax.ope.resampling import Resampling
from isjax.types import Scalar


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """Estimators that weight episodes alike, whatever they do to the weights afterwards."""

    log_weights: Callable[[Log, Scalar], jax.Array] | None
    """From the log and the discount to `[N]`: logarithms of each episode's weight, which is 1 in expectation; None
    if the estimate itself tells them, in `log_weight` and `log_step_weight_t`."""
    is_per_step: bool
    """Whether each step has a weight of its own, so that late steps may rest on fewer episodes than early ones."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimator:
    """An estimator of a policy's value, and what has to be known of it to judge what it gives.

    Raises `TypeError` if the family is not a `Family`: without one no weights could be judged.
    """

    function: Callable[..., Estimate]
    """It takes log-ratios, rewards, the discount and `is_valid_t`; `v_tm1` and `q_tm1` too if it needs a model,
    `state_tm1` and `num_states` if it needs states."""
    family: Family
    title: str
    """Its name for people: "weighted per decision"."""
    resampling: Resampling | None
    """What the bootstrap makes of it, as a function in `isjax.ope.resampling`; None if only Student's interval is
    to be had."""
    needs_model: bool = False
    needs_states: bool = False
    """Whether it is for logs whose states are integers, in a column `state`."""
    is_default: bool = True
    """Whether it is used without being asked for by name, where the log has what it needs."""
    is_consistent: bool = True
    """An estimator that is not consistent is used only if it is asked for by name."""
    is_truncated: bool = False
    """Whether it cuts large weights off; the tail of the weights is then judged as it was before."""
    caveat: str = ""
    """A reason, in words, to take even its best interval with care."""
    name: str = ""
    """What it is asked for by; left out, the name of the function."""

    def __post_init__(self) -> None:
        if not isinstance(self.family, Family):
            raise TypeError(f"family must be a Family, but it is {self.family!r}.")
        if not self.name:
            object.__setattr__(self, "name", self.function.__name__)


ESTIMATORS: dict[str, Estimator] = {}
"""All estimators, by their names."""


def register(estimator: Estimator) -> Estimator:
    """Makes an estimator one of those that `evaluate_log` and `isjax evaluate` choose from.

    Raises:
      TypeError: it is not an `Estimator`.
      ValueError: its name is taken.

    >>> register(1.0)
    Traceback (most recent call last):
    TypeError: estimator must be an Estimator, but it is 1.0.
    """
    if not isinstance(estimator, Estimator):
        raise TypeError(f"estimator must be an Estimator, but it is {estimator!r}.")
    if estimator.name in ESTIMATORS:
        raise ValueError(f"name must not be that of another estimator, but it is {estimator.name!r}.")
    ESTIMATORS[estimator.name] = estimator
    return estimator
