"""Objectives by name: what an algorithm minimizes, as a function of the unroll's terms."""

import jax

from isjax.learner.config import Hyper
from isjax.losses import impala_loss
from isjax.types import Metrics, Objective, Terms


def impala(terms: Terms, hyper: Hyper) -> tuple[jax.Array, Metrics]:
    """V-trace actor-critic (Espeholt et al. 2018)."""
    return impala_loss(
        terms.log_pi_tm1,
        terms.log_mu_tm1,
        terms.v_tm1,
        terms.v_t,
        terms.r_t,
        terms.discount_t,
        terms.same_episode_t,
        terms.entropy_tm1,
        lambda_=hyper.lambda_,
        clip_rho=hyper.clip_rho,
        clip_c=hyper.clip_c,
        clip_pg_rho=hyper.clip_pg_rho,
        value_cost=hyper.value_cost,
        entropy_cost=hyper.entropy_cost,
    )


OBJECTIVES: dict[str, Objective] = {"impala": impala}


def get_objective(name: str) -> Objective:
    """The objective of that name.

    Raises:
      ValueError: there is none.
    """
    if name not in OBJECTIVES:
        raise ValueError(f"algorithm must be one of {', '.join(OBJECTIVES)}, but it is {name!r}.")
    return OBJECTIVES[name]
