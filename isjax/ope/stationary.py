"""The stationary form of marginalized importance sampling: visits of all steps together."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from isjax._checks import check_count, check_flags, check_same_shape
from isjax.errors import FieldError
from isjax.ope.episodes import Estimate, Log, safe_log, weighted
from isjax.ope.influence import jackknifed
from isjax.ope.state_ratios import checked_states, log_mean_by_state
from isjax.ops.ratios import LARGEST_LOG_RATIO, clipped_ratio
from isjax.types import Flags, Scalar, Series

MOST_STATES = 4096
"""The stationary form solves a linear system of as many equations as there are states."""


def stationary_is(
    log_rho_tm1: Series,
    r_t: Series,
    discount: Scalar,
    state_tm1: jax.Array,
    is_valid_t: Flags | None = None,
    *,
    num_states: int,
    truncated_t: Flags | None = None,
    self_normalized: bool = True,
    horizon: int | None = None,
) -> Estimate:
    """Marginalized importance sampling where transitions and rewards are the same at every step: all visits count.

    `Σ_s d^π_γ(s) r̂(s) / (1 − γ)` with `d^π_γ = (1 − γ)(I − γ P̂^T)^{-1} d̂_0`, where `P̂(s'|s)` and `r̂(s)` are the means
    of `ρ 1{s'}` and `ρ r` over visits to s at any step: Liu et al. 2018, https://arxiv.org/abs/1810.12429, for a
    table of states. Where the assumption holds it needs far fewer episodes than `marginalized_is`.

    Args:
      log_rho_tm1: `[T, N]`, `log π(a|s) − log μ(a|s)`; `−inf` where the target policy never acts so.
      r_t: `[T, N]`, rewards.
      discount: γ in [0, 1], a scalar; below 1 if `horizon` is left out.
      state_tm1: `[T, N]`, integers in 0 … `num_states − 1`: the state that each row starts from.
      is_valid_t: `[T, N]`, false for padding, which follows an episode and may hold anything.
      num_states: S.
      truncated_t: `[T, N]`, true where a time limit or the log's end cut the episode: the state that the row led to
        is not known, and the row does not count as a transition. Left out, every episode ended in a terminal state.
      self_normalized: divides by the sum of the ratios in a state instead of the number of visits, so that `P̂` is a
        matrix of probabilities. Otherwise its rows sum to 1 in expectation only, and the value may diverge.
      horizon: how many rewards the value sums; left out, all to come.

    Returns:
      An `Estimate` of the value of the episodes' first states under the target policy, with the standard error of the
      infinitesimal jackknife.

    Raises:
      ValueError: the arrays are not all `[T, N]`, an option is out of range, or a state is (seen outside of `jit`).
      TypeError: an array is not floating, states are no integers, or a flag is not boolean.

    >>> x, state = jnp.ones((2, 1)), jnp.array([[0], [1]])
    >>> stationary_is(0.0 * x, x, 0.5, state, num_states=2).value
    Array(1.5, dtype=float32)
    """
    log = Log.checked(log_rho_tm1, r_t, discount, is_valid_t)
    _check_horizon(discount, horizon, num_states)
    visits = _visits(log, log_rho_tm1, log.r_t, state_tm1, truncated_t, num_states)

    def value(count: jax.Array) -> jax.Array:
        of = _process(visits, count, num_states, self_normalized)
        return of.start @ _values(of, discount, horizon)

    count = log.is_episode.astype(log.r_t.dtype)
    return jackknifed(
        value, _log_weights(visits, count, num_states, discount, horizon, self_normalized), log.is_episode
    )


class _Visits(NamedTuple):
    """Every row of a log, `[T, N]` each."""

    log_rho_tm1: Series
    r_t: Series
    """Zero where an episode has ended."""
    state_tm1: jax.Array
    """`num_states` where an episode has ended."""
    state_t: jax.Array
    """What the row led to: `num_states` where that is terminal."""
    is_known_t: Flags
    """Whether it is known what the row led to; false where an episode has ended."""


class _Process(NamedTuple):
    """The process under the target policy, as estimated."""

    start: jax.Array
    """`[S]`."""
    transition: jax.Array
    """`[S, S]`; what a row lacks to 1 ends."""
    reward: jax.Array
    """`[S]`."""


def _check_horizon(discount: Scalar, horizon: int | None, num_states: int) -> None:
    check_count(num_states=num_states)
    if num_states > MOST_STATES:
        raise FieldError("num_states", f"at most {MOST_STATES} for a stationary estimate", num_states)
    if horizon is not None:
        check_count(horizon=horizon)
    elif isinstance(discount, int | float) and discount >= 1:
        raise FieldError("discount", "below 1 for a stationary estimate without a horizon", discount)


def _visits(
    log: Log, log_rho_tm1: Series, r_t: Series, state_tm1: jax.Array, truncated_t: Flags | None, num_states: int
) -> _Visits:
    state_tm1 = checked_states(state_tm1, log.is_valid_t, num_states)
    state_t = jnp.concatenate([state_tm1[1:], jnp.full_like(state_tm1[:1], num_states)])
    is_known_t = log.is_valid_t & ~cut_rows(log, truncated_t)
    log_rho_tm1 = jnp.minimum(jnp.asarray(log_rho_tm1, log.r_t.dtype), LARGEST_LOG_RATIO)
    return _Visits(jnp.where(log.is_valid_t, log_rho_tm1, 0.0), r_t, state_tm1, state_t, is_known_t)


def cut_rows(log: Log, truncated_t: Flags | None) -> Flags:
    """Where an episode was cut: rows that no other of it follows, if `truncated_t` says so."""
    check_same_shape(log_rho_tm1=log.r_t, truncated_t=truncated_t)
    check_flags(truncated_t=truncated_t)
    if truncated_t is None:
        return jnp.zeros_like(log.is_valid_t)
    follows_t = jnp.concatenate([log.is_valid_t[1:], jnp.zeros_like(log.is_valid_t[:1])])
    return jnp.asarray(truncated_t) & ~follows_t


def _process(visits: _Visits, count: jax.Array, num_states: int, self_normalized: bool) -> _Process:
    """Where episode i is there `count[i]` times."""
    count_t = jnp.broadcast_to(count[None], visits.r_t.shape)
    known_t = jnp.where(visits.is_known_t, count_t, 0.0)
    rho = clipped_ratio(visits.log_rho_tm1, jnp.inf)
    if self_normalized:
        # Relative to the largest of each state, so that no sum overflows.
        mean = _mean_by_state(visits, count_t, num_states)
        relative = visits.log_rho_tm1 - jnp.where(jnp.isneginf(mean), 0.0, mean)
        rho = jnp.where(jnp.isneginf(mean), 0.0, clipped_ratio(relative, jnp.inf))

    def by_state(x: jax.Array) -> jax.Array:
        return jax.ops.segment_sum(x.ravel(), visits.state_tm1.ravel(), num_states + 1)[:num_states]

    def inverse(x: jax.Array) -> jax.Array:
        return jnp.where(x > 0, 1.0 / jnp.where(x > 0, x, 1.0), 0.0)

    pairs = jnp.zeros((num_states + 1, num_states + 1), rho.dtype)
    pairs = pairs.at[visits.state_tm1, visits.state_t].add(known_t * rho)[:num_states, :num_states]
    of_known = by_state(known_t * rho) if self_normalized else by_state(known_t)
    of_all = by_state(count_t * rho) if self_normalized else by_state(count_t)
    reward = by_state(weighted(count_t * rho, visits.r_t)) * inverse(of_all)
    start = jax.ops.segment_sum(count, visits.state_tm1[0], num_states + 1)[:num_states]
    return _Process(start / jnp.maximum(jnp.sum(count), 1.0), pairs * inverse(of_known)[:, None], reward)


def _mean_by_state(visits: _Visits, count_t: jax.Array, num_states: int) -> jax.Array:
    """`[T, N]`, the logarithm of the mean ratio in each row's state."""
    state, count = visits.state_tm1.ravel(), count_t.ravel()
    seen = jax.ops.segment_sum(count, state, num_states + 1)
    return log_mean_by_state(visits.log_rho_tm1.ravel(), state, count, seen)[state].reshape(count_t.shape)


def _values(of: _Process, discount: Scalar, horizon: int | None) -> jax.Array:
    """`[S]`, values of the states."""
    if horizon is None:
        return jnp.linalg.solve(jnp.eye(len(of.reward), dtype=of.reward.dtype) - discount * of.transition, of.reward)

    def step(_: jax.Array, v: jax.Array) -> jax.Array:
        return of.reward + weighted(jnp.asarray(discount, v.dtype), of.transition @ v)

    return jax.lax.fori_loop(0, horizon, step, jnp.zeros_like(of.reward))


def _log_weights(
    visits: _Visits, count: jax.Array, num_states: int, discount: Scalar, horizon: int | None, self_normalized: bool
) -> jax.Array:
    """`[N]`, up to a constant: discounted visits under the target policy over those in the log, times the ratios."""
    of = _process(visits, count, num_states, self_normalized)
    if horizon is None:
        identity = jnp.eye(num_states, dtype=of.reward.dtype)
        d_pi = jnp.linalg.solve(identity - discount * of.transition.T, of.start)
    else:

        def step(_: jax.Array, d: jax.Array) -> jax.Array:
            return of.start + weighted(jnp.asarray(discount, d.dtype), of.transition.T @ d)

        d_pi = jax.lax.fori_loop(0, horizon, step, jnp.zeros_like(of.start))
    is_row = visits.state_tm1 < num_states
    seen = jax.ops.segment_sum(jnp.where(is_row, count[None], 0.0).ravel(), visits.state_tm1.ravel(), num_states + 1)
    ratio = jnp.append(jnp.maximum(d_pi, 0.0), 0.0) / jnp.where(seen > 0, seen, 1.0)
    rho = clipped_ratio(visits.log_rho_tm1, jnp.inf)
    return safe_log(jnp.sum(jnp.where(is_row, ratio[visits.state_tm1] * rho, 0.0), 0))
