"""Scalars to differentiate, for agents written anywhere in JAX; the only place where gradients stop."""

from isjax.losses.actor_critic import impala_loss
from isjax.losses.policy import entropy_loss, policy_gradient_loss
from isjax.losses.value import value_loss

__all__ = ["entropy_loss", "impala_loss", "policy_gradient_loss", "value_loss"]
