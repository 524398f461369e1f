"""Mathematics on arrays `[T, *B]`; needs jax alone."""

from isjax.ops.action_values import (
    expected_sarsa_target,
    next_action_value,
    q_learning_target,
    q_sigma,
    sarsa_target,
)
from isjax.ops.bounds import state_drift_bound, surrogate_error_bound, total_variation_bound, trust_region_bound
from isjax.ops.diagnostics import (
    RATIO_EDGES,
    KLEstimates,
    effective_sample_size,
    kl_estimates,
    ratio_diagnostics,
    ratio_histogram,
)
from isjax.ops.distributional import categorical_mean, hl_gauss, project_categorical
from isjax.ops.emphasis import Emphasis, emphasis
from isjax.ops.group_advantages import group_advantages
from isjax.ops.pareto import ParetoSmoothed, pareto_k, pareto_smoothed
from isjax.ops.policies import at_action, epsilon_greedy_log_probs, expected_q, greedy_log_probs, softmax_log_probs
from isjax.ops.q_traces import general_off_policy_q, importance_sampled_q, q_lambda, rbis, retrace, tree_backup
from isjax.ops.ratios import clipped_ratio, endings, log_ratios, product_of_ratios, ratio_levels
from isjax.ops.recurrence import backward_affine
from isjax.ops.returns import NStep, gae, lambda_returns, n_step_off_policy, per_decision_control_variate
from isjax.ops.sampler import (
    acceptance_mask,
    batch_normalized,
    masked_weights,
    off_policy_sequence_mask,
    truncated_weights,
)
from isjax.ops.soft_values import soft_retrace, soft_value
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
    "acceptance_mask",
    "at_action",
    "backward_affine",
    "batch_normalized",
    "categorical_mean",
    "chi_square",
    "clipped_ratio",
    "effective_sample_size",
    "emphasis",
    "endings",
    "epsilon_greedy_log_probs",
    "expected_q",
    "expected_sarsa_target",
    "gae",
    "gaussian_renyi_2",
    "general_off_policy_q",
    "greedy_log_probs",
    "group_advantages",
    "hl_gauss",
    "importance_sampled_q",
    "kl_estimates",
    "lambda_returns",
    "largest_share",
    "leaky_vtrace",
    "log_ratios",
    "masked_weights",
    "n_step_off_policy",
    "next_action_value",
    "normalized_weights",
    "off_policy_sequence_mask",
    "pareto_k",
    "pareto_smoothed",
    "per_decision_control_variate",
    "perplexity",
    "product_of_ratios",
    "project_categorical",
    "q_lambda",
    "q_learning_target",
    "q_sigma",
    "ratio_diagnostics",
    "ratio_histogram",
    "ratio_levels",
    "rbis",
    "renyi_2",
    "renyi_2_estimate",
    "retrace",
    "sarsa_target",
    "soft_retrace",
    "soft_value",
    "softmax_log_probs",
    "state_drift_bound",
    "surrogate_error_bound",
    "total_variation_bound",
    "tree_backup",
    "truncated_weights",
    "trust_region_bound",
    "vtrace",
]
