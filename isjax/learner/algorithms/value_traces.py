"""How returns of action values go on from a time step to the next: the traces that set their algorithms apart."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from isjax import ops
from isjax.learner.config import Config, Hyper
from isjax.ops.recurrence import scaled
from isjax.types import Series, Terms


class Bootstrap(NamedTuple):
    """What returns are made of, `[T, B]` each: constants of a gradient step."""

    q_tm1: Series
    """The value of the action taken, in the state that a time step starts from."""
    v_t: Series
    """The value of the state actually reached, under the target policy."""
    log_pi_tm1: Series
    """Log-probability of the action taken, under the target policy."""


class Return(NamedTuple):
    """What action values should become, `[T, B]`."""

    target_tm1: Series
    log_weight_tm1: Series | None = None
    """Logarithm of what a time step counts; `None` if all count alike."""


Trace = Callable[[Bootstrap, Terms, Config, Hyper], Return]
"""How returns go on."""


def one_step(b: Bootstrap, terms: Terms, config: Config, hyper: Hyper) -> Return:
    """`r + γ V(s')` (S&B 2018, eq. 6.8 and 6.9): no ratio is needed, whoever acted."""
    return Return(terms.r_t + scaled(terms.discount_t, b.v_t))


def sampled(b: Bootstrap, terms: Terms, config: Config, hyper: Hyper) -> Return:
    """SARSA(λ) by its forward view (S&B 2018, eq. 6.7, section 12.7): with the action taken next, where it is known."""
    follows = terms.same_episode_t & (jnp.arange(len(b.q_tm1)) < len(b.q_tm1) - 1)[:, None]
    q_t = jnp.where(follows, jnp.roll(b.q_tm1, -1, axis=0), b.v_t)
    return Return(_lambda_returns(b._replace(v_t=q_t), terms, hyper))


def n_step(b: Bootstrap, terms: Terms, config: Config, hyper: Hyper) -> Return:
    """Of n rewards, then `V` (S&B 2018, eq. 7.11 and the text below it)."""
    if config.n_step == 1:
        return one_step(b, terms, config, hyper)
    found = ops.n_step_off_policy(
        b.v_t,
        terms.r_t,
        terms.discount_t,
        ops.log_ratios(b.log_pi_tm1, terms.log_mu_tm1),
        terms.same_episode_t,
        n=config.n_step,
        kind="expected_sarsa",
        is_valid_t=terms.is_valid_t,
    )
    return Return(found.return_tm1, found.log_weight_tm1 if config.n_step_correction == "ratios" else None)


def retrace(b: Bootstrap, terms: Terms, config: Config, hyper: Hyper) -> Return:
    """`λ min(1, ρ)` (Munos et al. 2016)."""
    log_rho_tm1 = ops.log_ratios(b.log_pi_tm1, terms.log_mu_tm1)
    return Return(ops.retrace(b.q_tm1, b.v_t, *_rewards(terms), log_rho_tm1, **_options(terms, hyper)))


def tree_backup(b: Bootstrap, terms: Terms, config: Config, hyper: Hyper) -> Return:
    """`λ π(a|s)` (Precup et al. 2000)."""
    return Return(ops.tree_backup(b.q_tm1, b.v_t, *_rewards(terms), b.log_pi_tm1, **_options(terms, hyper)))


def q_sigma(b: Bootstrap, terms: Terms, config: Config, hyper: Hyper) -> Return:
    """Q(σ): the trace factor is `σ ρ + (1 − σ) π` (S&B 2018, eq. 7.17), times λ."""
    rho = ops.clipped_ratio(ops.log_ratios(b.log_pi_tm1, terms.log_mu_tm1), jnp.inf)
    factor = hyper.sigma * rho + (1.0 - hyper.sigma) * jnp.exp(b.log_pi_tm1)
    return Return(ops.general_off_policy_q(b.q_tm1, b.v_t, *_rewards(terms), factor, **_options(terms, hyper)))


def peng(b: Bootstrap, terms: Terms, config: Config, hyper: Hyper) -> Return:
    """Peng's Q(λ), the λ-return of values under the target policy: nothing corrects for who acted."""
    return Return(_lambda_returns(b, terms, hyper))


def _rewards(terms: Terms) -> tuple[Series, Series]:
    return terms.r_t, terms.discount_t


def _options(terms: Terms, hyper: Hyper) -> dict[str, Any]:
    return {"same_episode_t": terms.same_episode_t, "is_valid_t": terms.is_valid_t, "lambda_": hyper.lambda_}


def _lambda_returns(b: Bootstrap, terms: Terms, hyper: Hyper) -> Series:
    return ops.lambda_returns(b.v_t, *_rewards(terms), **_options(terms, hyper))
