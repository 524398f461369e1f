"""The ratio of the state distributions of two policies at each step, from the paths into a state."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from isjax._checks import check_count, check_flags, check_integer, check_same_shape
from isjax.errors import FieldError
from isjax.ope.episodes import episodes, safe_log
from isjax.ops.ratios import LARGEST_LOG_RATIO, clipped_ratio
from isjax.types import Flags, Series


class StateRatios(NamedTuple):
    """Estimates of `d^π_t(s) / d^μ_t(s)`, and of both distributions; `T` steps, `N` episodes, `S` states."""

    ratio: jax.Array
    """`[T, S]`; 0 where no episode was in the state at that step. It saturates at `exp(80)`."""
    d_pi: jax.Array
    """`[T, S]`, the probability of being in the state at that step under the target policy; what the states lack to 1
    has ended. Its sum, ended episodes included, is 1 in expectation only, unless self-normalized."""
    d_mu: jax.Array
    """`[T, S]`, the share of episodes that were in the state at that step."""
    log_ratio_tm1: Series
    """`[T, N]`, the logarithm of the ratio for the state that each row starts from, as `losses.state_ratio_loss` takes
    it; `−inf` where the target policy cannot have come there, 0 in padding."""


def state_ratios(
    log_rho_tm1: Series,
    state_tm1: jax.Array,
    is_valid_t: Flags | None = None,
    *,
    num_states: int,
    self_normalized: bool = False,
) -> StateRatios:
    """`d^π_t(s) / d^μ_t(s)` for each step and state: the mean product of ratios over all paths into the state.

    Xie, Ma & Wang 2019, https://arxiv.org/abs/1906.03393, section 4: `d̂_{t+1}(s') = Σ_s P̂_t(s'|s) d̂_t(s)` with
    `P̂_t(s'|s)` the mean of `ρ_t 1{s'}` over visits to s at step t. By visits, the ratio at `s'` is the mean over
    them of `ρ_t` times the ratio one step before: no product is longer than one step. Ended episodes are a state of
    their own.

    Args:
      log_rho_tm1: `[T, N]`, `log π(a|s) − log μ(a|s)`; `−inf` where the target policy never acts so.
      state_tm1: `[T, N]`, integers in 0 … `num_states − 1`: the state that each row starts from. It has to tell all
        that actions and transitions depend on; where it does not, the ratio is biased.
      is_valid_t: `[T, N]`, false for padding, which follows an episode and may hold anything. A column without a
        valid row is no episode and does not count.
      num_states: S.
      self_normalized: divides the ratios of each state and step by their mean, so that the rows of `P̂` sum to 1:
        biased, consistent, finite for any finite log-ratios.

    Returns:
      `StateRatios`.

    Raises:
      ValueError: the arrays are not all `[T, N]`, or a state is out of range (seen outside of `jit` only).
      TypeError: an array is not floating, states are no integers, or `is_valid_t` is not boolean.

    >>> log_rho = jnp.log(jnp.array([[1.5, 0.5], [1.0, 1.0]])); state = jnp.array([[0, 0], [1, 2]])
    >>> state_ratios(log_rho, state, num_states=3).ratio
    Array([[1. , 0. , 0. ],
           [0. , 1.5, 0.5]], dtype=float32)
    """
    log_rho_tm1, _, valid_t = episodes(log_rho_tm1, jnp.zeros_like(log_rho_tm1), 1.0, is_valid_t)
    state_tm1 = checked_states(state_tm1, valid_t, num_states)
    count = jnp.any(valid_t, 0).astype(log_rho_tm1.dtype)
    paths = follow_paths(log_rho_tm1, state_tm1, count, num_states, self_normalized=self_normalized)
    ratio = clipped_ratio(paths.log_table[:, :num_states], jnp.inf)
    share = paths.visits[:, :num_states] / jnp.maximum(jnp.sum(count), 1.0)
    return StateRatios(ratio, ratio * share, share, jnp.where(valid_t, paths.log_ratio_tm1, 0.0))


class Paths(NamedTuple):
    """What following all episodes forwards gives; state `S` is that of having ended."""

    log_ratio_tm1: Series
    """`[T, N]`, of the state each row starts from."""
    log_rho_tm1: Series
    """`[T, N]`, the ratio of each row's action: 0 once ended; self-normalized if that was asked for."""
    log_table: jax.Array
    """`[T, S + 1]`; `−inf` where no episode was."""
    visits: jax.Array
    """`[T, S + 1]`."""


def follow_paths(
    log_rho_tm1: Series, state_tm1: jax.Array, count: jax.Array, num_states: int, *, self_normalized: bool
) -> Paths:
    """The state ratios where episode i is there `count[i]` times.

    Args:
      log_rho_tm1: `[T, N]`, checked: 0 in padding.
      state_tm1: `[T, N]`, as `checked_states` gives them.
      count: `[N]`, at least 0.
      num_states: S.
      self_normalized: see `state_ratios`.
    """
    log_rho_tm1 = jnp.minimum(log_rho_tm1, LARGEST_LOG_RATIO)

    def step(log_product: jax.Array, row: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        log_rho, state = row
        visits = jax.ops.segment_sum(count, state, num_states + 1)
        table = log_mean_by_state(log_product, state, count, visits)
        if self_normalized:
            mean = log_mean_by_state(log_rho, state, count, visits)[state]
            log_rho = jnp.where(jnp.isneginf(mean), -jnp.inf, log_rho - jnp.where(jnp.isneginf(mean), 0.0, mean))
        log_ratio = table[state]
        return log_ratio + log_rho, (log_ratio, log_rho, table, visits)

    start = jnp.zeros_like(log_rho_tm1[0] * count)
    return Paths(*jax.lax.scan(step, start, (log_rho_tm1, state_tm1))[1])


def log_mean_by_state(log_x: jax.Array, state: jax.Array, count: jax.Array, visits: jax.Array) -> jax.Array:
    """Logarithm of the mean of `exp(log_x)` over the episodes in each state, `[N]` to `[S + 1]`."""
    largest = jax.ops.segment_max(jnp.where(count > 0, log_x, -jnp.inf), state, len(visits))
    largest = jax.lax.stop_gradient(jnp.where(jnp.isneginf(largest), 0.0, largest))
    relative = jnp.where(count > 0, log_x - largest[state], -jnp.inf)
    total = jax.ops.segment_sum(count * jnp.exp(relative), state, len(visits))
    return largest + safe_log(total) - jnp.log(jnp.where(visits > 0, visits, 1.0))


def checked_states(state_tm1: jax.Array, is_valid_t: Flags, num_states: int) -> jax.Array:
    """The states `[T, N]` as int32, and `num_states` where an episode has ended.

    Raises what `state_ratios` promises to raise.
    """
    check_integer(state_tm1=state_tm1)
    check_same_shape(log_rho_tm1=is_valid_t, state_tm1=state_tm1)
    check_flags(is_valid_t=is_valid_t)
    check_count(num_states=num_states)
    if not (isinstance(state_tm1, Tracer) or isinstance(is_valid_t, Tracer)):
        counted = np.asarray(state_tm1)[np.asarray(is_valid_t)]
        wrong = counted[(counted < 0) | (counted >= num_states)]
        if wrong.size:
            rule = f"be integers in 0 … num_states − 1, which is {num_states - 1}"
            raise FieldError("state_tm1", rule, wrong[0], "{field} must {rule}, but one is {value}.")
    return jnp.where(is_valid_t, jnp.asarray(state_tm1), num_states).astype(jnp.int32)
