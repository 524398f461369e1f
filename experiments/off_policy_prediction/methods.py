"""Off-policy prediction with linear features, by the operators of `isjax.ops`."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from isjax import ops


class Rows(NamedTuple):
    """Steps of one stream, `[T]` each; states and actions are indices."""

    state_tm1: jax.Array
    action_tm1: jax.Array
    state_t: jax.Array
    """Anything where the discount is 0."""
    r_t: jax.Array
    discount_t: jax.Array
    is_valid_t: jax.Array


class Problem(NamedTuple):
    """What is to be learned from: policies, features, and where learning starts."""

    pi: jax.Array
    """`[S, A]`."""
    mu: jax.Array
    """`[S, A]`."""
    features: jax.Array
    """`[S, K]`, of states."""
    action_features: jax.Array
    """`[S, A, K']`, of states and actions."""
    start: jax.Array
    """`[K]`."""
    action_start: jax.Array
    """`[K']`."""


class Method(NamedTuple):
    """How returns are corrected."""

    targets: Callable[..., jax.Array]
    """`(estimate_tm1, v_t, r_t, discount_t, log_pi_tm1, log_mu_tm1, is_valid_t) → targets`, `[T]` each."""
    on_actions: bool
    """Whether it learns values of actions."""


def vtrace(x, v, r, d, log_pi, log_mu, valid) -> jax.Array:
    return ops.vtrace(x, v, r, d, ops.log_ratios(log_pi, log_mu), is_valid_t=valid).target_tm1


def per_decision(x, v, r, d, log_pi, log_mu, valid) -> jax.Array:
    return ops.per_decision_control_variate(x, v, r, d, ops.log_ratios(log_pi, log_mu), is_valid_t=valid)


def one_step(x, v, r, d, log_pi, log_mu, valid) -> jax.Array:
    log_rho = ops.log_ratios(log_pi, log_mu)
    return ops.per_decision_control_variate(x, v, r, d, log_rho, is_valid_t=valid, lambda_=0.0)


def retrace(x, v, r, d, log_pi, log_mu, valid) -> jax.Array:
    return ops.retrace(x, v, r, d, ops.log_ratios(log_pi, log_mu), is_valid_t=valid)


def tree_backup(x, v, r, d, log_pi, log_mu, valid) -> jax.Array:
    return ops.tree_backup(x, v, r, d, log_pi, is_valid_t=valid)


METHODS = {
    "one-step TD": Method(one_step, False),
    "per-decision IS": Method(per_decision, False),
    "V-trace": Method(vtrace, False),
    "Retrace": Method(retrace, True),
    "tree backup": Method(tree_backup, True),
}
"""With λ = 1, except for the first, semi-gradient TD(0)."""


def start(method: Method, problem: Problem) -> jax.Array:
    """The weights that learning starts from."""
    return problem.action_start if method.on_actions else problem.start


def values(method: Method, problem: Problem, weights: jax.Array) -> jax.Array:
    """`[S]`, values of the states under the target policy."""
    if not method.on_actions:
        return problem.features @ weights
    return jnp.sum(problem.pi * (problem.action_features @ weights), -1)


def learned(method: Method, problem: Problem, weights: jax.Array, rows: Rows, step_size: jax.Array) -> jax.Array:
    """The weights after a semi-gradient step towards the corrected returns of these rows."""
    row = (rows.state_tm1, rows.action_tm1)
    features = problem.action_features[row] if method.on_actions else problem.features[rows.state_tm1]
    estimate = features @ weights
    v_t = values(method, problem, weights)[rows.state_t]
    log_pi, log_mu = jnp.log(problem.pi[row]), jnp.log(problem.mu[row])
    target = method.targets(estimate, v_t, rows.r_t, rows.discount_t, log_pi, log_mu, rows.is_valid_t)
    return weights + step_size * jnp.where(rows.is_valid_t, target - estimate, 0.0) @ features
