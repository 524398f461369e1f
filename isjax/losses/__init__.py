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
from isjax.losses.aggregation import Aggregate, aggregate
from isjax.losses.covariance import clip_cov_loss, kl_cov_loss
from isjax.losses.distributional import (
    categorical_loss,
    categorical_q_learning_loss,
    hl_gauss_loss,
    quantile_q_learning_loss,
    quantile_regression_loss,
)
from isjax.losses.kl import kl_to_reference_loss
from isjax.losses.policy import (
    awr_loss,
    entropy_loss,
    per_step_ratio_loss,
    policy_gradient_loss,
    surrogate_loss,
)
from isjax.losses.products import per_decision_policy_gradient_loss, product_of_ratios_loss
from isjax.losses.proximal import adapt_beta, kl_penalty_loss, p3o_loss, ppo_clip_loss
from isjax.losses.sequence import (
    cispo_loss,
    dppo_loss,
    dro_loss,
    masked_is_loss,
    topr_loss,
    truncated_is_loss,
    vespo_loss,
)
from isjax.losses.sequence_clip import (
    dapo_loss,
    dr_grpo_loss,
    gmpo_loss,
    grpo_loss,
    gspo_loss,
    gspo_token_loss,
    luspo_loss,
    sapo_loss,
)
from isjax.losses.soft_actor_critic import sac_critic_loss, sac_policy_loss, temperature_loss
from isjax.losses.state_ratio import state_ratio_loss
from isjax.losses.trust_region import (
    TrustRegionStep,
    conjugate_gradient,
    fisher_vector_product,
    trust_region_step,
)
from isjax.losses.value import clipped_value_loss, value_loss

__all__ = [
    "Aggregate",
    "TrustRegionStep",
    "a2c_loss",
    "action_value_loss",
    "adapt_beta",
    "aggregate",
    "awr_loss",
    "categorical_loss",
    "categorical_q_learning_loss",
    "cispo_loss",
    "clip_cov_loss",
    "clipped_value_loss",
    "conjugate_gradient",
    "dapo_loss",
    "double_q_learning_loss",
    "dppo_loss",
    "dr_grpo_loss",
    "dro_loss",
    "entropy_loss",
    "expected_sarsa_loss",
    "fisher_vector_product",
    "gmpo_loss",
    "grpo_loss",
    "gspo_loss",
    "gspo_token_loss",
    "hl_gauss_loss",
    "impala_loss",
    "kl_cov_loss",
    "kl_penalty_loss",
    "kl_to_reference_loss",
    "luspo_loss",
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
    "sac_critic_loss",
    "sac_policy_loss",
    "sapo_loss",
    "sarsa_loss",
    "state_ratio_loss",
    "surrogate_loss",
    "temperature_loss",
    "topr_loss",
    "truncated_is_loss",
    "trust_region_step",
    "value_loss",
    "vespo_loss",
]
