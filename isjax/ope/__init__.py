"""The value of a policy from episodes that another one left behind: estimates and their intervals."""

from isjax.ope.behavior import Calibration, PropensityCheck, check_propensities, estimate_behavior
from isjax.ope.bounds import (
    bootstrap_lower_bound,
    empirical_likelihood_lower_bound,
    lower_confidence_sequence,
    self_normalized_lower_bound,
    student_lower_bound,
    truncated_lower_bound,
)
from isjax.ope.density_ratio import LinearRatio, linear_density_ratio, linear_stationary_is
from isjax.ope.distribution import ReturnDistribution, cvar_is, quantile_is, return_distribution, variance_is
from isjax.ope.episodes import Episodes, Estimate, from_visits, n_step_episodes
from isjax.ope.estimator import ESTIMATORS, Estimator, Family, register
from isjax.ope.evaluation import Evaluation, Judged, evaluate_log
from isjax.ope.incremental import incremental_is, per_horizon_weighted_is, slope_horizon_is, windowed_is
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
from isjax.ope.shrinkage import shrunk_is, shrunk_weights, slope_choice, slope_is
from isjax.ope.state_ratios import StateRatios, state_ratios
from isjax.ope.stationary import stationary_is
from isjax.ope.trajectory import (
    discounting_aware_is,
    ordinary_is,
    truncated_is,
    weighted_discounting_aware_is,
    weighted_is,
)

__all__ = [
    "ESTIMATORS",
    "Calibration",
    "Episodes",
    "Estimate",
    "Estimator",
    "Evaluation",
    "Family",
    "Judged",
    "LinearRatio",
    "PropensityCheck",
    "Ranked",
    "Ranking",
    "ReturnDistribution",
    "StateRatios",
    "Targets",
    "bootstrap_interval",
    "bootstrap_lower_bound",
    "check_propensities",
    "cvar_is",
    "discounting_aware_is",
    "doubly_robust",
    "empirical_bernstein_interval",
    "empirical_likelihood_lower_bound",
    "estimate_behavior",
    "evaluate_log",
    "evaluate_targets",
    "from_visits",
    "incremental_is",
    "linear_density_ratio",
    "linear_stationary_is",
    "lower_confidence_sequence",
    "magic",
    "marginalized_doubly_robust",
    "marginalized_is",
    "n_step_episodes",
    "normal_interval",
    "ordinary_is",
    "pack",
    "pack_targets",
    "per_decision_is",
    "per_horizon_weighted_is",
    "quantile_is",
    "read_log",
    "read_targets",
    "register",
    "return_distribution",
    "self_normalized_lower_bound",
    "shrunk_is",
    "shrunk_weights",
    "slope_choice",
    "slope_horizon_is",
    "slope_is",
    "state_ratios",
    "stationary_is",
    "student_interval",
    "student_lower_bound",
    "truncated_is",
    "truncated_lower_bound",
    "variance_is",
    "weighted_discounting_aware_is",
    "weighted_doubly_robust",
    "weighted_is",
    "weighted_per_decision_is",
    "weighted_per_decision_is_ratio_form",
    "windowed_is",
]
