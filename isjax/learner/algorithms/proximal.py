"""Algorithms that compute advantages once an update, and keep the policy near to the old one while they use them."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from isjax import losses
from isjax.learner.algorithms.base import COSTS, TARGETS, Algorithm, Batch, View, register_algorithm
from isjax.learner.algorithms.targets import corrected_advantage, with_critic
from isjax.learner.config import Hyper
from isjax.types import Metrics, Series, Terms, Tree

SEVERAL_PASSES: dict[str, Any] = dict(
    unroll_length=64, epochs=4, minibatches=4, learning_rate=1e-3, normalize_advantages=True, resets_per_unroll=0
)
"""Defaults of an algorithm that makes many gradient steps of each unroll."""
USES = ("normalize_advantages", *TARGETS, *COSTS)
"""What an algorithm uses that prepares its advantages."""


class _Proximal(Algorithm):
    """The base of this file's algorithms: V-trace's advantages, and the critic's and entropy's share of the loss."""

    uses = USES

    def prepare(self, terms: Terms, hyper: Hyper) -> tuple[Series, Series]:
        return corrected_advantage(terms, hyper)

    def policy_loss(self, batch: Batch, hyper: Hyper) -> jax.Array:
        """The policy's share of the loss."""
        raise NotImplementedError

    def loss(self, batch: Batch, hyper: Hyper) -> tuple[jax.Array, Metrics]:
        return with_critic(self.policy_loss(batch, hyper), batch.terms, batch.prepared.target_tm1, hyper)


@register_algorithm("p3o")
class P3O(_Proximal):
    """Clipping and KL penalty set by the effective sample size (Fakoor et al. 2020)."""

    def policy_loss(self, batch: Batch, hyper: Hyper) -> jax.Array:
        return losses.p3o_loss(batch.terms.log_pi_tm1, batch.terms.log_mu_tm1, batch.prepared.advantage_tm1)


@register_algorithm("ppo")
class PPO(_Proximal):
    """The clipped surrogate; its ratio is taken to the policy that acted (Schulman et al. 2017)."""

    uses = (*USES, "clip_epsilon", "clip_values")
    defaults = SEVERAL_PASSES

    def loss(self, batch: Batch, hyper: Hyper) -> tuple[jax.Array, Metrics]:
        terms, prepared = batch.terms, batch.prepared
        return losses.ppo_loss(
            terms.log_pi_tm1,
            terms.log_mu_tm1,
            prepared.advantage_tm1,
            terms.v_tm1,
            prepared.target_tm1,
            terms.entropy_tm1,
            clip_epsilon=hyper.clip_epsilon,
            log_proximal_tm1=self.clipped_around(batch),
            v_old_tm1=prepared.old_v_tm1 if self.config.clip_values else None,
            value_cost=hyper.value_cost,
            entropy_cost=hyper.entropy_cost,
        )

    def clipped_around(self, batch: Batch) -> Series | None:
        """Log-probabilities under the policy that ratios are clipped around; `None` for the one that acted."""
        return None


@register_algorithm("ppo-kl")
class PenalizedPPO(_Proximal):
    """The surrogate with an adaptive penalty on KL(old ‖ π) (Schulman et al. 2017, section 4).

    It keeps the penalty's factor β.
    """

    uses = (*USES, "max_kl", "kl_cost")
    defaults = SEVERAL_PASSES

    def init(self, params: Tree, hyper: Hyper) -> Tree:
        return jnp.asarray(hyper.kl_cost)

    def policy_loss(self, batch: Batch, hyper: Hyper) -> jax.Array:
        terms, prepared = batch.terms, batch.prepared
        return losses.kl_penalty_loss(
            terms.log_pi_tm1, terms.log_mu_tm1, prepared.advantage_tm1, prepared.kl_tm1, beta=batch.state
        )

    def after(self, state: Tree, params: Tree, view: View, hyper: Hyper) -> tuple[Tree, Metrics]:
        kl = jnp.mean(view(params).prepared.kl_tm1)
        return losses.adapt_beta(state, kl, hyper.max_kl), {"kl/update": kl, "kl/cost": state}


@register_algorithm("ppo-decoupled")
class DecoupledPPO(PPO):
    """PPO whose clip is around the parameters before the update, not around those that acted (Hilton et al. 2022)."""

    def clipped_around(self, batch: Batch) -> Series | None:
        return batch.prepared.old_log_pi_tm1


@register_algorithm("awr")
class AWR(_Proximal):
    """Advantage-weighted regression (Peng et al. 2019)."""

    uses = (*USES, "temperature", "max_weight")
    defaults: ClassVar = dict(normalize_advantages=True)

    def policy_loss(self, batch: Batch, hyper: Hyper) -> jax.Array:
        return losses.awr_loss(
            batch.terms.log_pi_tm1,
            batch.prepared.advantage_tm1,
            temperature=hyper.temperature,
            max_weight=hyper.max_weight,
        )
