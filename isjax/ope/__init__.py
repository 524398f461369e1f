"""The value of a policy from episodes that another one left behind: estimates and their intervals."""

from isjax.ope.episodes import Episodes, Estimate, from_visits, n_step_episodes
from isjax.ope.estimator import ESTIMATORS, Estimator, Family, register
from isjax.ope.evaluation import Evaluation, Judged, evaluate_log
from isjax.ope.intervals import (
    bootstrap_interval,
    empirical_bernstein_interval,
    normal_interval,
    student_interval,
)
from isjax.ope.logs import Targets, pack, pack_targets, read_log, read_targets
from isjax.ope.magic import magic
from isjax.ope.marginalized import marginalized_doubly_robust, marginalized_is
from isjax.ope.model_assisted import doubly_robust, weighted_doubly_robust
from isjax.ope.per_decision import per_decision_is, weighted_per_decision_is, weighted_per_decision_is_ratio_form
from isjax.ope.ranking import Ranked, Ranking, evaluate_targets
from isjax.ope.state_ratios import StateRatios, state_ratios
from isjax.ope.trajectory import (
    discounting_aware_is,
    ordinary_is,
    truncated_is,
    weighted_discounting_aware_is,
    weighted_is,
)

__all__ = [
    "ESTIMATORS",
    "Episodes",
    "Estimate",
    "Estimator",
    "Evaluation",
    "Family",
    "Judged",
    "Ranked",
    "Ranking",
    "StateRatios",
    "Targets",
    "bootstrap_interval",
    "discounting_aware_is",
    "doubly_robust",
    "empirical_bernstein_interval",
    "evaluate_log",
    "evaluate_targets",
    "from_visits",
    "magic",
    "marginalized_doubly_robust",
    "marginalized_is",
    "n_step_episodes",
    "normal_interval",
    "ordinary_is",
    "pack",
    "pack_targets",
    "per_decision_is",
    "read_log",
    "read_targets",
    "register",
    "state_ratios",
    "student_interval",
    "truncated_is",
    "weighted_discounting_aware_is",
    "weighted_doubly_robust",
    "weighted_is",
    "weighted_per_decision_is",
    "weighted_per_decision_is_ratio_form",
]
