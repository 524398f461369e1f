"""Mathematics on arrays `[T, *B]`; needs jax alone."""

from isjax.ops.bounds import state_drift_bound, surrogate_error_bound, total_variation_bound, trust_region_bound
from isjax.ops.diagnostics import (
    RATIO_EDGES,
    KLEstimates,
    effective_sample_size,
    kl_estimates,
    ratio_diagnostics,
    ratio_histogram,
)
from isjax.ops.emphasis import Emphasis, emphasis
from isjax.ops.pareto import ParetoSmoothed, pareto_k, pareto_smoothed
from isjax.ops.q_traces import general_off_policy_q, importance_sampled_q, q_lambda, rbis, retrace, tree_backup
from isjax.ops.ratios import clipped_ratio, endings, log_ratios, product_of_ratios, ratio_levels
from isjax.ops.recurrence import backward_affine
from isjax.ops.returns import NStep, gae, lambda_returns, n_step_off_policy, per_decision_control_variate
from isjax.ops.vtrace import VTrace, leaky_vtrace, vtrace
from isjax.ops.weights import (
    chi_square,
    gaussian_renyi_2,
    largest_share,
    normalized_weights,
    perplexity,
    renyi_2,
    renyi_2_estimate,
)

__all__ = [
    "RATIO_EDGES",
    "Emphasis",
    "KLEstimates",
    "NStep",
    "ParetoSmoothed",
    "VTrace",
    "backward_affine",
    "chi_square",
    "clipped_ratio",
    "effective_sample_size",
    "emphasis",
    "endings",
    "gae",
    "gaussian_renyi_2",
    "general_off_policy_q",
    "importance_sampled_q",
    "kl_estimates",
    "lambda_returns",
    "largest_share",
    "leaky_vtrace",
    "log_ratios",
    "n_step_off_policy",
    "normalized_weights",
    "pareto_k",
    "pareto_smoothed",
    "per_decision_control_variate",
    "perplexity",
    "product_of_ratios",
    "q_lambda",
    "ratio_diagnostics",
    "ratio_histogram",
    "ratio_levels",
    "rbis",
    "renyi_2",
    "renyi_2_estimate",
    "retrace",
    "state_drift_bound",
    "surrogate_error_bound",
    "total_variation_bound",
    "tree_backup",
    "trust_region_bound",
    "vtrace",
]
