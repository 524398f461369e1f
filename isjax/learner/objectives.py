"""Algorithms by name: what each minimizes, as a function of the unroll's terms. A user's own objective is one more."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from isjax import losses, ops
from isjax.errors import FieldError
from isjax.learner.config import Config, Hyper
from isjax.learner.uses import COSTS, REPLAY, TARGETS, refuse_unused, refuse_used_nowhere, without_unused
from isjax.losses._rows import cost
from isjax.ops.recurrence import scaled
from isjax.types import Metrics, Objective, Series, Terms


class Algorithm(NamedTuple):
    """How a learner learns from an unroll."""

    loss: Objective
    """`(terms, hyper) → (loss, metrics)`, minimized by gradient steps."""
    fix: Callable[[Terms, Any], tuple[Series, Series]] | None = None
    """`(terms, hyper) → (advantage_tm1, target_tm1)`, if they are settled once, under the parameters before the
    first gradient step: `loss` then finds them in its terms, for rows in any order. Otherwise every gradient step
    sees whole unrolls and corrects them anew."""
    in_trust_region: bool = False
    """Whether the policy takes TRPO's step; `loss` is then the critic's."""
    adapts_kl_cost: bool = False
    """Whether `terms.kl_cost` is adapted after every update, so that its KL comes to `hyper.max_kl`."""
    uses: tuple[str, ...] | None = None
    """Which settings of `uses.PARTICULAR` have a say: others are refused where they are given. `None`: any may."""


_FIXED = ("normalize_advantages", *TARGETS, *COSTS)
"""What an algorithm uses that fixes its advantages."""


def impala(config: Config) -> Algorithm:
    """V-trace actor-critic, or one of its ablations (Espeholt et al. 2018)."""

    def loss(terms: Terms, hyper: Hyper) -> tuple[jax.Array, Metrics]:
        return _actor_critic(terms, hyper, correction=config.correction)

    bounds = {"v-trace": ("clip_rho", "clip_c", "clip_pg_rho"), "one-step": ("clip_pg_rho",)}
    return Algorithm(loss, uses=("correction", "lambda_", *bounds.get(config.correction, ()), *COSTS, *REPLAY))


def a2c(config: Config) -> Algorithm:
    """Advantage actor-critic: the policy that acted is taken for the one that learns (Mnih et al. 2016)."""
    del config
    loss = lambda terms, hyper: _actor_critic(terms, hyper, correction="none")  # noqa: E731
    return Algorithm(loss, uses=("lambda_", *COSTS, *REPLAY))


def reinforce(config: Config) -> Algorithm:
    """Returns to the unroll's end against a baseline, each step times its own ratio (Williams 1992)."""
    del config

    def loss(terms: Terms, hyper: Hyper) -> tuple[jax.Array, Metrics]:
        return _actor_critic(terms, dataclasses.replace(hyper, lambda_=1.0), correction="one-step")

    return Algorithm(loss, uses=("clip_pg_rho", *COSTS, *REPLAY))


def pg_is(config: Config) -> Algorithm:
    """Off-policy policy gradient with products of ratios from the start of the unroll or episode on."""

    def loss(terms: Terms, hyper: Hyper) -> tuple[jax.Array, Metrics]:
        advantage_tm1, target_tm1 = jax.lax.stop_gradient(corrected_advantage(terms, hyper))
        policy = losses.product_of_ratios_loss(
            terms.log_pi_tm1,
            terms.log_mu_tm1,
            advantage_tm1,
            terms.same_episode_t,
            terms.is_valid_t,
            truncation=hyper.clip_pg_rho,
            self_normalized=config.products == "self-normalized",
        )
        return _with_critic(policy, terms, target_tm1, hyper)

    return Algorithm(loss, uses=("products", "clip_pg_rho", *TARGETS, *COSTS, *REPLAY))


def p3o(config: Config) -> Algorithm:
    """Clipping and KL penalty set by the effective sample size (Fakoor et al. 2020)."""
    del config

    def loss(terms: Terms, hyper: Hyper) -> tuple[jax.Array, Metrics]:
        policy = losses.p3o_loss(terms.log_pi_tm1, terms.log_mu_tm1, terms.advantage_tm1)
        return _with_critic(policy, terms, terms.target_tm1, hyper)

    return Algorithm(loss, fix=corrected_advantage, uses=_FIXED)


def ppo(config: Config) -> Algorithm:
    """The clipped surrogate; its ratio is taken to the policy that acted (Schulman et al. 2017)."""
    loss = lambda terms, hyper: _ppo(terms, hyper, None, config)  # noqa: E731
    return Algorithm(loss, fix=corrected_advantage, uses=(*_FIXED, "clip_epsilon", "clip_values"))


def ppo_decoupled(config: Config) -> Algorithm:
    """PPO whose clip is around the parameters before the update, not around those that acted (Hilton et al. 2022)."""
    loss = lambda terms, hyper: _ppo(terms, hyper, terms.log_prox_tm1, config)  # noqa: E731
    return Algorithm(loss, fix=corrected_advantage, uses=(*_FIXED, "clip_epsilon", "clip_values"))


def ppo_kl(config: Config) -> Algorithm:
    """The surrogate with an adaptive penalty on KL(prox ‖ π) (Schulman et al. 2017, section 4)."""
    del config

    def loss(terms: Terms, hyper: Hyper) -> tuple[jax.Array, Metrics]:
        policy = losses.kl_penalty_loss(
            terms.log_pi_tm1, terms.log_mu_tm1, terms.advantage_tm1, terms.kl_tm1, beta=terms.kl_cost
        )
        return _with_critic(policy, terms, terms.target_tm1, hyper)

    return Algorithm(loss, fix=corrected_advantage, adapts_kl_cost=True, uses=(*_FIXED, "max_kl", "kl_cost"))


def awr(config: Config) -> Algorithm:
    """Advantage-weighted regression (Peng et al. 2019)."""
    del config

    def loss(terms: Terms, hyper: Hyper) -> tuple[jax.Array, Metrics]:
        policy = losses.awr_loss(
            terms.log_pi_tm1, terms.advantage_tm1, temperature=hyper.temperature, max_weight=hyper.max_weight
        )
        return _with_critic(policy, terms, terms.target_tm1, hyper)

    return Algorithm(loss, fix=corrected_advantage, uses=(*_FIXED, "temperature", "max_weight"))


def trpo(config: Config) -> Algorithm:
    """Trust region policy optimization: a natural-gradient step with a line search (Schulman et al. 2015)."""
    del config

    def loss(terms: Terms, hyper: Hyper) -> tuple[jax.Array, Metrics]:
        value = losses.value_loss(terms.v_tm1, terms.target_tm1)
        metrics = {"loss/value": value, "loss/entropy": jnp.mean(terms.entropy_tm1)} | _ratios(terms, hyper)
        return value, jax.lax.stop_gradient(metrics)

    uses = ("normalize_advantages", "max_kl", *TARGETS)
    return Algorithm(loss, fix=corrected_advantage, in_trust_region=True, uses=uses)


ALGORITHMS: dict[str, Callable[[Config], Algorithm]] = {
    "impala": impala,
    "a2c": a2c,
    "reinforce": reinforce,
    "pg-is": pg_is,
    "p3o": p3o,
    "ppo": ppo,
    "ppo-kl": ppo_kl,
    "ppo-decoupled": ppo_decoupled,
    "awr": awr,
    "trpo": trpo,
}


def get_algorithm(config: Config, objective: Objective | Algorithm | None = None) -> Algorithm:
    """A user's own objective as an algorithm, or the one that `config.algorithm` names.

    Raises:
      ValueError: there is none of that name, or its settings do not go together.
    """
    if isinstance(objective, Algorithm):
        algorithm = objective
    elif objective is not None:
        algorithm = Algorithm(objective)
    elif config.algorithm in ALGORITHMS:
        algorithm = ALGORITHMS[config.algorithm](config)
    else:
        raise FieldError("algorithm", f"one of {', '.join(ALGORITHMS)}", repr(config.algorithm))
    _check(config, algorithm)
    refuse_unused(config, algorithm.uses)
    return algorithm


def check_settings(config: Config, hyper: Hyper) -> None:
    """Raises `ValueError` for a setting that is out of range, or that was given and has no say. For the host."""
    hyper.check()
    refuse_unused(config, get_algorithm(config).uses, hyper)


def settings_in_use(settings: Sequence[tuple[Config, Hyper]]) -> list[tuple[Config, Hyper]]:
    """Settings of a sweep, each with what has no say in it as it is by default.

    Raises:
      ValueError: one of them has no say anywhere.
    """
    uses = [_uses(config) for config, _ in settings]
    refuse_used_nowhere(settings, uses)
    return [without_unused(config, each, hyper) for (config, hyper), each in zip(settings, uses, strict=True)]


def _uses(config: Config) -> tuple[str, ...] | None:
    return ALGORITHMS[config.algorithm](config).uses if config.algorithm in ALGORITHMS else None


def corrected_advantage(terms: Terms, hyper: Hyper) -> tuple[Series, Series]:
    """`(advantage, target)` by V-trace, the advantage without its own ratio: that is for the loss to put in.

    Where every log-ratio is 0 both are those of generalized advantage estimation.
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


def _actor_critic(terms: Terms, hyper: Hyper, *, correction: Any) -> tuple[jax.Array, Metrics]:
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
        lambda_=hyper.lambda_,
        clip_rho=hyper.clip_rho,
        clip_c=hyper.clip_c,
        clip_pg_rho=hyper.clip_pg_rho,
        value_cost=hyper.value_cost,
        entropy_cost=hyper.entropy_cost,
    )


def _ppo(terms: Terms, hyper: Hyper, log_prox_tm1: Series | None, config: Config) -> tuple[jax.Array, Metrics]:
    return losses.ppo_loss(
        terms.log_pi_tm1,
        terms.log_mu_tm1,
        terms.advantage_tm1,
        terms.v_tm1,
        terms.target_tm1,
        terms.entropy_tm1,
        clip_epsilon=hyper.clip_epsilon,
        log_prox_tm1=log_prox_tm1,
        v_old_tm1=terms.v_prox_tm1 if config.clip_values else None,
        value_cost=hyper.value_cost,
        entropy_cost=hyper.entropy_cost,
    )


def _with_critic(policy: jax.Array, terms: Terms, target_tm1: Series, hyper: Hyper) -> tuple[jax.Array, Metrics]:
    """A policy loss with the value's and the entropy's, and metrics by the names that every algorithm uses."""
    value = losses.value_loss(terms.v_tm1, target_tm1, terms.is_valid_t)
    minus_entropy = losses.entropy_loss(terms.entropy_tm1, terms.is_valid_t)
    metrics = {"loss/policy": policy, "loss/value": value, "loss/entropy": -minus_entropy} | _ratios(terms, hyper)
    loss = policy + cost(hyper.value_cost, value) + cost(hyper.entropy_cost, minus_entropy)
    return loss, jax.lax.stop_gradient(metrics)


def _ratios(terms: Terms, hyper: Hyper) -> Metrics:
    log_rho_tm1 = ops.log_ratios(terms.log_pi_tm1, terms.log_mu_tm1)
    found = ops.ratio_diagnostics(log_rho_tm1, clip_rho=hyper.clip_rho, clip_c=hyper.clip_c, is_valid=terms.is_valid_t)
    return {f"ratio/{name}": x for name, x in found.items()}


def _check(config: Config, algorithm: Algorithm) -> None:
    """Raises `ValueError` for settings that this algorithm has no use for, or cannot do with."""
    if config.normalize_advantages and algorithm.fix is None:
        rule = f"off for {config.algorithm}, whose advantages change with every gradient step"
        raise FieldError("normalize_advantages", rule, "on")
    if config.replay_fraction and algorithm.fix is not None:
        rule = f"0 for {config.algorithm}, whose advantages are settled before the first gradient step"
        raise FieldError("replay_fraction", rule, config.replay_fraction)
    if (config.burn_in or config.replay_mask) and not config.replay_fraction:
        name = "burn_in" if config.burn_in else "replay_mask"
        raise FieldError(name, "left alone where {replay_fraction} is 0", getattr(config, name))
    if algorithm.in_trust_region and config.towers != "separate":
        rule = f"separate for {config.algorithm}, or the critic would move the policy out of its trust region"
        raise FieldError("towers", rule, config.towers)
    rows_count = algorithm.fix is not None and config.memory == "none"
    columns = config.num_envs * config.unroll_length if rows_count else config.batch_envs
    if columns % config.minibatches:
        what = (
            "{num_envs} · {unroll_length}"
            if rows_count
            else "{num_envs}" + " with replay" * (config.replay_fraction > 0)
        )
        raise FieldError("minibatches", f"a divisor of {what}, which is {columns}", config.minibatches)
