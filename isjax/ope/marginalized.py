"""Marginalized importance sampling: rewards weighed by the ratio of states and that of one action, not by products."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from isjax.ope.episodes import Estimate, Log, weighted
from isjax.ope.estimator import Estimator, Family, register
from isjax.ope.influence import jackknifed, resampled
from isjax.ope.model_assisted import model_values
from isjax.ope.resampling import Part, Sample
from isjax.ope.state_ratios import Paths, checked_states, follow_paths
from isjax.ops.ratios import clipped_ratio
from isjax.types import Flags, Scalar, Series


def marginalized_is(
    log_rho_tm1: Series,
    r_t: Series,
    discount: Scalar,
    state_tm1: jax.Array,
    is_valid_t: Flags | None = None,
    *,
    num_states: int,
    self_normalized: bool = False,
) -> Estimate:
    """Marginalized importance sampling, `Σ_t γ^t Σ_s d̂^π_t(s) r̂_t(s)`, for states that are integers.

    Xie, Ma & Wang 2019, https://arxiv.org/abs/1906.03393, eq. 3.2; Liu et al. 2018. The same as
    `(1/N) Σ_i Σ_t γ^t w_t(s_t) ρ_t r_{t+1}` with the estimated ratios `w_t = d̂^π_t / d̂^μ_t` of `state_ratios` in
    place of the products `ρ_{0:t−1}`, whose conditional means they are. Its error grows polynomially with the number
    of steps, that of products exponentially. It is consistent where the state tells all that actions, rewards and
    transitions depend on, and biased where it does not; where every state has a single path it is `per_decision_is`.

    Args:
      log_rho_tm1: `[T, N]`, `log π(a|s) − log μ(a|s)`; `−inf` where the target policy never acts so.
      r_t: `[T, N]`, rewards.
      discount: γ in [0, 1], a scalar.
      state_tm1: `[T, N]`, integers in 0 … `num_states − 1`: the state that each row starts from.
      is_valid_t: `[T, N]`, false for padding, which follows an episode and may hold anything. A column without a
        valid row is no episode and does not count.
      num_states: S.
      self_normalized: divides the ratios of each state and step by their mean: a weighted mean of rewards in each
        state, and transitions that sum to 1. Biased, consistent, finite for any finite log-ratios.

    Returns:
      An `Estimate` of the value of the episodes' first states under the target policy. Its standard error is that of
      the infinitesimal jackknife, which knows that the ratios were estimated from the same episodes.

    Raises:
      ValueError: the arrays are not all `[T, N]`, the discount is not a number in [0, 1], or a state is out of range
        (seen outside of `jit` only).
      TypeError: an array is not floating, states are no integers, or `is_valid_t` is not boolean.

    >>> log_rho = jnp.log(jnp.array([[1.0, 1.0], [2.0, 1.0]])); r = jnp.array([[0.0, 0.0], [1.0, 0.0]])
    >>> marginalized_is(log_rho, r, 1.0, jnp.zeros((2, 2), int), num_states=1).value
    Array(1., dtype=float32)
    """
    log = Log.checked(log_rho_tm1, r_t, discount, is_valid_t)
    options = _Options(num_states, self_normalized)
    return _estimate(log, log_rho_tm1, log.r_t, jnp.zeros_like(log.r_t), state_tm1, options)


def marginalized_doubly_robust(
    log_rho_tm1: Series,
    r_t: Series,
    discount: Scalar,
    state_tm1: jax.Array,
    is_valid_t: Flags | None = None,
    *,
    v_tm1: Series,
    q_tm1: Series,
    num_states: int,
    self_normalized: bool = False,
) -> Estimate:
    """Marginalized importance sampling with a model as control variate: double reinforcement learning.

    `(1/N) Σ_i Σ_t γ^t w_t(s_t) (ρ_t (r_{t+1} − q̂_t) + v̂_t)` with the ratios of `state_ratios`: Kallus & Uehara 2020,
    https://arxiv.org/abs/1908.08526, eq. 6, whose `μ_{t−1}` before `v̂_t` has the same mean over a state's visits.
    It is consistent if the ratios or the model are right, and efficient if both are. With a model of zeros it is
    `marginalized_is`.

    `v_tm1` and `q_tm1` `[T, N]` are a model's values, under the target policy, of the state that a row starts from
    and of that state and the action taken. The other arguments, the result and the errors are those of
    `marginalized_is`.

    >>> log_rho = jnp.log(jnp.array([[2.0]])); r = jnp.array([[3.0]]); v, q = jnp.array([[1.0]]), jnp.array([[2.5]])
    >>> marginalized_doubly_robust(log_rho, r, 1.0, jnp.array([[0]]), v_tm1=v, q_tm1=q, num_states=1).value
    Array(2., dtype=float32)
    """
    log = Log.checked(log_rho_tm1, r_t, discount, is_valid_t)
    v_tm1, q_tm1 = model_values(log, v_tm1, q_tm1)
    options = _Options(num_states, self_normalized)
    return _estimate(log, log_rho_tm1, log.r_t - q_tm1, v_tm1, state_tm1, options)


class _Rows(NamedTuple):
    """What the estimate is computed from; checked, `[T, N]` each."""

    log_rho_tm1: Series
    state_tm1: jax.Array
    """`num_states` where an episode has ended."""
    r_t: Series
    """Less the model's value of state and action."""
    v_tm1: Series
    discount_t: Series
    """`[T, 1]`, `γ^t`."""


def _estimate(
    log: Log, log_rho_tm1: Series, r_t: Series, v_tm1: Series, state_tm1: jax.Array, options: "_Options"
) -> Estimate:
    """Of what was checked but for the states."""
    log_rho_tm1 = jnp.where(log.is_valid_t, jnp.asarray(log_rho_tm1, log.r_t.dtype), 0.0)
    state_tm1 = checked_states(state_tm1, log.is_valid_t, options.num_states)
    rows = _Rows(log_rho_tm1, state_tm1, r_t, v_tm1, log.discount_t)
    paths = _paths(rows, log.is_episode.astype(r_t.dtype), options)
    log_step_weight_t = paths.log_ratio_tm1 + paths.log_rho_tm1
    found = jackknifed(functools.partial(_value, rows, options), log.mean_over_steps(log_step_weight_t), log.is_episode)
    return found._replace(log_step_weight_t=jnp.where(log.is_episode[None], log_step_weight_t, -jnp.inf))


class _Options(NamedTuple):
    num_states: int
    self_normalized: bool


def _paths(rows: _Rows, count: jax.Array, options: _Options) -> Paths:
    return follow_paths(rows.log_rho_tm1, rows.state_tm1, count, **options._asdict())


def _value(rows: _Rows, options: _Options, count: jax.Array) -> jax.Array:
    """The estimate where episode i is there `count[i]` times."""
    paths = _paths(rows, count, options)
    weight_t = clipped_ratio(paths.log_ratio_tm1 + paths.log_rho_tm1, jnp.inf)
    of_data = weighted(rows.discount_t * weight_t, rows.r_t)
    of_model = weighted(rows.discount_t * clipped_ratio(paths.log_ratio_tm1, jnp.inf), rows.v_tm1)
    per_episode = jnp.sum(of_data + of_model, 0)
    return jnp.sum(weighted(count, per_episode)) / jnp.maximum(jnp.sum(count), 1.0)


def _resampled(sample: Sample, *, has_model: bool) -> list[Part]:
    """With the ratios estimated anew in each resample."""
    log = sample.log
    options = _Options(sample.num_states, self_normalized=False)
    v_tm1, q_tm1 = (sample.v_tm1, sample.q_tm1) if has_model else np.zeros((2, *log.r_t.shape))
    state_tm1 = checked_states(jnp.asarray(sample.state_tm1), log.is_valid_t, options.num_states)
    arrays = (log.r_t - q_tm1, v_tm1, np.exp(log.log_discount_t))
    rows = _Rows(jnp.asarray(sample.log_rho_tm1), state_tm1, *map(jnp.asarray, arrays))
    return [resampled(functools.partial(_value, rows, options))]


STATES = Family(log_weights=None, is_per_step=True)
"""Each step has a weight of its own, which the estimate itself tells."""

MARGINALIZED_IS = register(
    Estimator(
        function=marginalized_is,
        family=STATES,
        title="marginalized",
        resampling=functools.partial(_resampled, has_model=False),
        needs_states=True,
    )
)
MARGINALIZED_DOUBLY_ROBUST = register(
    Estimator(
        function=marginalized_doubly_robust,
        family=STATES,
        title="marginalized doubly robust",
        resampling=functools.partial(_resampled, has_model=True),
        needs_model=True,
        needs_states=True,
    )
)
