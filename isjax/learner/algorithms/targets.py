"""What several algorithms learn from and tell: V-trace's advantages, the critic's share of a loss, ratios."""

import jax
import jax.numpy as jnp

from isjax import losses, ops
from isjax.learner.config import Hyper
from isjax.losses._rows import cost
from isjax.ops.recurrence import scaled
from isjax.types import Metrics, Series, Terms, Tree


def corrected_advantage(terms: Terms, hyper: Hyper) -> tuple[Series, Series]:
    """`(advantage_tm1, target_tm1)` by V-trace.

    The advantage is `r_t + γ_t v_{t+1} − V(x_t)` with the target `v_{t+1}` of the next time step. V-trace multiplies
    it by the clipped ratio of its own action; here it is without that factor, which belongs to the loss. Where every
    log-ratio is 0 both are those of generalized advantage estimation.
    """
    target_tm1 = ops.vtrace(
        terms.v_tm1,
        terms.v_t,
        terms.r_t,
        terms.discount_t,
        ops.log_ratios(terms.log_pi_tm1, terms.log_mu_tm1),
        terms.same_episode_t,
        is_valid_t=terms.is_valid_t,
        lambda_=hyper.lambda_,
        clip_rho=hyper.clip_rho,
        clip_c=hyper.clip_c,
    ).target_tm1
    correction = target_tm1 - terms.v_tm1
    if terms.is_valid_t is not None:
        correction = jnp.where(terms.is_valid_t, correction, 0.0)
    correction_next = jnp.concatenate([correction[1:], jnp.zeros_like(correction[:1])])
    correction_next = jnp.where(terms.same_episode_t, correction_next, 0.0)
    following = scaled(terms.discount_t, terms.v_t + hyper.lambda_ * correction_next)
    return terms.r_t + following - terms.v_tm1, target_tm1


def with_critic(policy: jax.Array, terms: Terms, target_tm1: Series, hyper: Hyper) -> tuple[jax.Array, Metrics]:
    """A policy's loss with those of the value and the entropy, and metrics by the names that every algorithm uses."""
    value = losses.value_loss(terms.v_tm1, target_tm1, terms.is_valid_t)
    minus_entropy = losses.entropy_loss(terms.entropy_tm1, terms.is_valid_t)
    metrics = {"loss/policy": policy, "loss/value": value, "loss/entropy": -minus_entropy}
    loss = policy + cost(hyper.value_cost, value) + cost(hyper.entropy_cost, minus_entropy)
    return loss, jax.lax.stop_gradient(metrics | ratios(terms, hyper))


def followed(target: Tree, params: Tree, rate: jax.Array | float) -> Tree:
    """A target network after a step of so large a share of the way to the parameters (Polyak averaging)."""
    return jax.tree.map(lambda old, new: (1.0 - rate) * old + rate * new, target, params)


def ratios(terms: Terms, hyper: Hyper) -> Metrics:
    """What the ratios are like before they are clipped."""
    log_rho_tm1 = ops.log_ratios(terms.log_pi_tm1, terms.log_mu_tm1)
    found = ops.ratio_diagnostics(log_rho_tm1, clip_rho=hyper.clip_rho, clip_c=hyper.clip_c, is_valid=terms.is_valid_t)
    return {f"ratio/{name}": x for name, x in found.items()}
