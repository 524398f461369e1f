"""Actor-critics that see whole unrolls, and correct them anew in every gradient step."""

import dataclasses
from typing import Any

import jax

from isjax import losses, ops
from isjax.learner.algorithms.base import COSTS, REPLAY, TARGETS, Algorithm, Batch, register_algorithm
from isjax.learner.algorithms.targets import corrected_advantage, with_critic
from isjax.learner.config import Config, Hyper
from isjax.types import Metrics, Series, Terms

_BOUNDS = {"v-trace": ("clip_rho", "clip_c", "clip_pg_rho"), "one-step": ("clip_pg_rho",)}
"""The bounds that a correction uses."""


@register_algorithm("impala")
class Impala(Algorithm):
    """V-trace actor-critic, or one of its ablations (Espeholt et al. 2018)."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        bounds = {*_BOUNDS.get(config.correction, ())} | ({"clip_rho"} if config.emphasis else set())
        self.uses = ("correction", "emphasis", "lambda_", *sorted(bounds), *COSTS, *REPLAY)

    def loss(self, batch: Batch, hyper: Hyper) -> tuple[jax.Array, Metrics]:
        weight_tm1 = _emphasis(batch.terms, hyper) if self.config.emphasis else None
        return _actor_critic(batch.terms, hyper, correction=self.config.correction, weight_tm1=weight_tm1)


@register_algorithm("a2c")
class AdvantageActorCritic(Algorithm):
    """The policy that acted is taken for the one that learns (Mnih et al. 2016)."""

    uses = ("lambda_", *COSTS, *REPLAY)

    def loss(self, batch: Batch, hyper: Hyper) -> tuple[jax.Array, Metrics]:
        return _actor_critic(batch.terms, hyper, correction="none")


@register_algorithm("reinforce")
class Reinforce(Algorithm):
    """Returns to the unroll's end against a baseline, each time step times its own ratio (Williams 1992)."""

    uses = ("clip_pg_rho", *COSTS, *REPLAY)

    def loss(self, batch: Batch, hyper: Hyper) -> tuple[jax.Array, Metrics]:
        return _actor_critic(batch.terms, dataclasses.replace(hyper, lambda_=1.0), correction="one-step")


@register_algorithm("pg-is")
class PolicyGradientOfProducts(Algorithm):
    """Off-policy policy gradient with products of ratios from the start of the unroll or episode on."""

    uses = ("products", "clip_pg_rho", *TARGETS, *COSTS, *REPLAY)

    def loss(self, batch: Batch, hyper: Hyper) -> tuple[jax.Array, Metrics]:
        terms = batch.terms
        advantage_tm1, target_tm1 = jax.lax.stop_gradient(corrected_advantage(terms, hyper))
        policy = losses.product_of_ratios_loss(
            terms.log_pi_tm1,
            terms.log_mu_tm1,
            advantage_tm1,
            terms.same_episode_t,
            terms.is_valid_t,
            truncation=hyper.clip_pg_rho,
            self_normalized=self.config.products == "self-normalized",
        )
        return with_critic(policy, terms, target_tm1, hyper)


def _emphasis(terms: Terms, hyper: Hyper) -> Series:
    """Emphatic weights over their mean in the batch, so that a learning rate means what it does without them."""
    log_rho_tm1 = ops.log_ratios(terms.log_pi_tm1, terms.log_mu_tm1)
    found = ops.emphasis(
        terms.discount_t,
        jax.lax.stop_gradient(log_rho_tm1),
        terms.same_episode_t,
        lambda_=hyper.lambda_,
        clip_rho=hyper.clip_rho,
        is_valid_t=terms.is_valid_t,
    )
    return ops.batch_normalized(found.emphasis_tm1, terms.is_valid_t)


def _actor_critic(
    terms: Terms, hyper: Hyper, *, correction: Any, weight_tm1: Series | None = None
) -> tuple[jax.Array, Metrics]:
    return losses.impala_loss(
        terms.log_pi_tm1,
        terms.log_mu_tm1,
        terms.v_tm1,
        terms.v_t,
        terms.r_t,
        terms.discount_t,
        terms.same_episode_t,
        terms.entropy_tm1,
        is_valid_t=terms.is_valid_t,
        correction=correction,
        weight_tm1=weight_tm1,
        lambda_=hyper.lambda_,
        clip_rho=hyper.clip_rho,
        clip_c=hyper.clip_c,
        clip_pg_rho=hyper.clip_pg_rho,
        value_cost=hyper.value_cost,
        entropy_cost=hyper.entropy_cost,
    )
