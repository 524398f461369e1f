"""Estimators that weigh each reward with the ratios of the decisions before it."""

import jax
import jax.numpy as jnp
import numpy as np

from isjax.ope.episodes import Estimate, Log, estimate, mean_estimate, safe_log, weighted
from isjax.ope.estimator import Estimator, Family
from isjax.ope.resampling import Part, Ratios, Sample, mean_over_episodes, one_ratio, relative_weights
from isjax.ope.trajectory import linearized, ratio_estimate
from isjax.ops.ratios import clipped_ratio
from isjax.ops.weights import log_sum_exp, normalized_weights
from isjax.types import Flags, Scalar, Series


def per_decision_is(log_rho_tm1: Series, r_t: Series, discount: Scalar, is_valid_t: Flags | None = None) -> Estimate:
    """Per-decision importance sampling, `(1/N) Σ_i Σ_t γ^t ρ_{i,0:t} r_{i,t+1}`: unbiased.

    Precup, Sutton & Singh 2000; Sutton & Barto 2018, section 5.9. Products saturate as in
    `ordinary_is`.

    The arguments, the result and the errors are those of `ordinary_is`.

    >>> log_rho = jnp.log(jnp.array([[2.0], [4.0]])); r = jnp.ones((2, 1))
    >>> per_decision_is(log_rho, r, 0.5).value
    Array(6., dtype=float32)
    """
    log = Log.checked(log_rho_tm1, r_t, discount, is_valid_t)
    per_episode = jnp.sum(weighted(log.discount_t * clipped_ratio(log.log_product_t, jnp.inf), log.r_t), 0)
    return mean_estimate(per_episode, log_sum_exp(log.log_row_weight_t, 0), log.is_episode)


def weighted_per_decision_is(
    log_rho_tm1: Series, r_t: Series, discount: Scalar, is_valid_t: Flags | None = None
) -> Estimate:
    """Consistent weighted per-decision importance sampling: each time step is normalized on its own.

    `Σ_t γ^t (Σ_i ρ_{i,0:t} r_{i,t+1} / Σ_i ρ_{i,0:t})`: Thomas 2015, eq. 3.6. An episode that has ended
    stays in the denominator with the product it ended with, and rewards of 0. Finite for any finite
    log-ratios; a step at which every weight is zero adds 0.

    The arguments, the result and the errors are those of `ordinary_is`.

    >>> log_rho = jnp.log(jnp.array([[3.0, 1.0], [1.0, 1.0]])); r = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> weighted_per_decision_is(log_rho, r, 1.0).value
    Array(1., dtype=float32)
    """
    log = Log.checked(log_rho_tm1, r_t, discount, is_valid_t)
    weight_t = step_weights(log)
    return per_step_estimate(weight_t, log.r_t, log)


def _resampled_steps(sample: Sample) -> list[Part]:
    weight_t = resampled_step_weights(sample.log)
    return [Ratios(np.exp(sample.log.log_discount_t)[:, 0], weight_t * sample.log.r_t, weight_t)]


def weighted_per_decision_is_ratio_form(
    log_rho_tm1: Series, r_t: Series, discount: Scalar, is_valid_t: Flags | None = None
) -> Estimate:
    """Weighted per-decision importance sampling as first published. NOT consistent for the value.

    `Σ_i Σ_t γ^t ρ_{i,0:t} r_{i,t+1} / Σ_i Σ_t γ^t ρ_{i,0:t}`: Precup, Sutton & Singh 2000. It is the
    weighted mean of a reward, not of a return, and converges to the value over the mean discounted length;
    here to compare with. Use `weighted_per_decision_is`.

    The arguments, the result and the errors are those of `ordinary_is`.

    >>> log_rho = jnp.log(jnp.array([[3.0, 1.0], [1.0, 1.0]])); r = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> weighted_per_decision_is_ratio_form(log_rho, r, 1.0).value
    Array(0.5, dtype=float32)
    """
    log = Log.checked(log_rho_tm1, r_t, discount, is_valid_t)
    weight_t = normalized_weights(log.log_row_weight_t, None, where=log.is_valid_t)
    weight = jnp.sum(weight_t, 0)
    mean_reward = jnp.sum(weighted(weight_t, log.r_t), 0) / jnp.where(weight > 0, weight, 1.0)
    return ratio_estimate(weight, mean_reward, log)


def _resampled_rewards(sample: Sample) -> list[Part]:
    log_weight_t = np.where(sample.log.is_valid_t, np.asarray(sample.log.log_row_weight_t), -np.inf)
    return one_ratio(relative_weights(log_weight_t, None), np.asarray(sample.log.r_t))


def step_weights(log: Log) -> Series:
    """`ρ_{i,0:t} / Σ_j ρ_{j,0:t}`, `[T, N]`, of all episodes, those that ended before included."""
    return normalized_weights(log.log_product_t, 1, where=jnp.broadcast_to(log.is_episode[None], log.r_t.shape))


def resampled_step_weights(log: Log) -> np.ndarray:
    """`ρ_{i,0:t}` in NumPy, relative to the largest of each step."""
    return relative_weights(np.where(log.is_episode[None], log.log_product_t, -np.inf))


def per_step_estimate(weight_t: Series, x_t: Series, log: Log) -> Estimate:
    """`Σ_t γ^t Σ_i weight_{t,i} x_{t,i}` for weights `[T, N]` that are normalized in each step."""
    value_t = jnp.sum(weighted(weight_t, x_t), 1)
    contribution_t = linearized(weight_t, x_t, value_t, log.is_episode)
    return estimate(
        jnp.sum(log.discount_t[:, 0] * value_t),
        jnp.sum(log.discount_t * contribution_t, 0),
        total_step_weight(weight_t, log),
        log.is_episode,
    )


def total_step_weight(weight_t: Series, log: Log) -> jax.Array:
    """`[N]`, logarithm of `Σ_t γ^t weight_{t,i}` over the steps that some episode reaches."""
    reached_t = jnp.any(log.is_valid_t, 1, keepdims=True)
    total = jnp.sum(jnp.where(reached_t, log.discount_t * weight_t, 0.0), 0)
    return safe_log(total)


def mean_step_weights(log: Log, discount: Scalar) -> jax.Array:
    """`[N]`, logarithms of each episode's products of ratios so far, averaged over all discounted steps."""
    return log.mean_over_steps(log.log_product_t)


PER_DECISION = Family(log_weights=mean_step_weights, is_per_step=True)
"""Each step has a weight of its own."""

PER_DECISION_IS = Estimator(
    function=per_decision_is, family=PER_DECISION, title="per decision", resampling=mean_over_episodes
)
WEIGHTED_PER_DECISION_IS = Estimator(
    function=weighted_per_decision_is,
    family=PER_DECISION,
    title="weighted per decision",
    resampling=_resampled_steps,
)
WEIGHTED_PER_DECISION_IS_RATIO_FORM = Estimator(
    function=weighted_per_decision_is_ratio_form,
    family=PER_DECISION,
    title="weighted per decision ratio form",
    resampling=_resampled_rewards,
    is_consistent=False,
)
