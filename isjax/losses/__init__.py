"""Scalars to differentiate, for agents written anywhere in JAX; the only place where gradients stop."""

from isjax.losses.actor_critic import a2c_loss, impala_loss, ppo_loss
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
from isjax.losses.state_ratio import state_ratio_loss
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
    "adapt_beta",
    "awr_loss",
    "cispo_loss",
    "clipped_value_loss",
    "conjugate_gradient",
    "entropy_loss",
    "fisher_vector_product",
    "gmpo_loss",
    "gspo_loss",
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
    "state_ratio_loss",
    "surrogate_loss",
    "topr_loss",
    "truncated_is_loss",
    "trust_region_step",
    "value_loss",
]
