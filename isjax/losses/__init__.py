"""Scalars to differentiate, for agents written anywhere in JAX; the only place where gradients stop."""

from isjax.losses.action_values import (
    action_value_loss,
    double_q_learning_loss,
    expected_sarsa_loss,
    q_learning_loss,
    q_sigma_loss,
    sarsa_loss,
)
from isjax.losses.actor_critic import a2c_loss, impala_loss, ppo_loss
from isjax.losses.distributional import (
    categorical_loss,
    categorical_q_learning_loss,
    hl_gauss_loss,
    quantile_q_learning_loss,
    quantile_regression_loss,
)
from isjax.losses.policy import (
    awr_loss,
    entropy_loss,
    per_step_ratio_loss,
    policy_gradient_loss,
    surrogate_loss,
)
from isjax.losses.products import per_decision_policy_gradient_loss, product_of_ratios_loss
from isjax.losses.proximal import adapt_beta, kl_penalty_loss, p3o_loss, ppo_clip_loss
from isjax.losses.sequence import cispo_loss, gmpo_loss, gspo_loss, masked_is_loss, topr_loss, truncated_is_loss
from isjax.losses.trust_region import (
    TrustRegionStep,
    conjugate_gradient,
    fisher_vector_product,
    trust_region_step,
)
from isjax.losses.value import clipped_value_loss, value_loss

__all__ = [
    "TrustRegionStep",
    "a2c_loss",
    "action_value_loss",
    "adapt_beta",
    "awr_loss",
    "categorical_loss",
    "categorical_q_learning_loss",
    "cispo_loss",
    "clipped_value_loss",
    "conjugate_gradient",
    "double_q_learning_loss",
    "entropy_loss",
    "expected_sarsa_loss",
    "fisher_vector_product",
    "gmpo_loss",
    "gspo_loss",
    "hl_gauss_loss",
    "impala_loss",
    "kl_penalty_loss",
    "masked_is_loss",
    "p3o_loss",
    "per_decision_policy_gradient_loss",
    "per_step_ratio_loss",
    "policy_gradient_loss",
    "ppo_clip_loss",
    "ppo_loss",
    "product_of_ratios_loss",
    "q_learning_loss",
    "q_sigma_loss",
    "quantile_q_learning_loss",
    "quantile_regression_loss",
    "sarsa_loss",
    "surrogate_loss",
    "topr_loss",
    "truncated_is_loss",
    "trust_region_step",
    "value_loss",
]
