"""Who acted: the behavior policy estimated by counting, and given propensities held against what was done."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from isjax._checks import check_count, check_flags, check_integer, check_same_shape, check_time_axis
from isjax.errors import FieldError
from isjax.ops.ratios import MAX_LOG_RATIO
from isjax.types import Flags, Series

FARTHEST = 4.0
"""How many standard errors a mean ratio may lie from 1, and a frequency from its propensity, before it is told."""
FEWEST_EPISODES = 100
"""A state's mean ratio is judged where so many episodes come to it: before, a rare action may be missing by chance."""
FEWEST_EXPECTED = 5.0
"""A frequency is judged where both the action and its absence are expected that often."""


def estimate_behavior(
    state_tm1: jax.Array,
    action_tm1: jax.Array,
    is_valid_t: Flags | None = None,
    *,
    history: int = 0,
    smoothing: float = 0.0,
    num_actions: int | None = None,
) -> Series:
    """Log-probabilities of the logged actions under the behavior policy, estimated by counting how often it took them.

    Regression importance sampling, RIS(n) of Hanna, Niekum & Stone 2019, https://arxiv.org/abs/1806.01347:
    `μ̂(a_t | s_{t−n:t}, a_{t−n:t−1})` is the share of action `a_t` among all steps with that state and history. For
    logs without propensities; and where they are known, the estimated ones in their place make estimates of the
    target's value more precise, by correcting for what was drawn too often. Counted from the very log that is
    evaluated, as it should be. Intervals of estimators that take `log π − log μ̂` for given are then too wide rather
    than too narrow.

    Args:
      state_tm1: `[T, N]` or `[T, N, K]`, integers: the state that each row starts from.
      action_tm1: `[T, N]`, integers: the action taken there.
      is_valid_t: `[T, N]`, false for padding, which follows an episode and may hold anything.
      history: n, how many steps before enter beside the state; at the beginning of an episode as many as there are.
        The longer, the smaller the variance of estimates from many episodes, and the larger the bias from few.
      smoothing: what is added to the count of each action (Laplace), at least 0; above 0 it needs `num_actions`.
      num_actions: how many actions there are.

    Returns:
      `[T, N]`, at most 0, float32 or float64 as JAX is set; 0 in padding.

    Raises:
      ValueError: shapes differ or an option is out of range.
      TypeError: states or actions are no integers, or `is_valid_t` is not boolean.

    >>> action = jnp.array([[0, 1, 1, 1]])
    >>> jnp.exp(estimate_behavior(jnp.zeros((1, 4), int), action))
    Array([[0.25, 0.75, 0.75, 0.75]], dtype=float32)
    """
    check_integer(state_tm1=state_tm1, action_tm1=action_tm1)
    check_time_axis(action_tm1=action_tm1)
    state_tm1, action_tm1 = jnp.asarray(state_tm1), jnp.asarray(action_tm1)
    if action_tm1.ndim != 2 or state_tm1.shape[:2] != action_tm1.shape or state_tm1.ndim > 3:
        shapes = f"state_tm1 {list(state_tm1.shape)}, action_tm1 {list(action_tm1.shape)}"
        raise ValueError(f"state_tm1 must be [T, N] or [T, N, K] and action_tm1 [T, N], but got: {shapes}.")
    check_same_shape(action_tm1=action_tm1, is_valid_t=is_valid_t)
    check_flags(is_valid_t=is_valid_t)
    _check_options(history, smoothing, num_actions)
    valid_t = jnp.ones(action_tm1.shape, bool) if is_valid_t is None else jnp.asarray(is_valid_t)
    known = _contexts(state_tm1, action_tm1, history)
    with_action = jnp.concatenate([known, action_tm1[..., None]], -1)
    taken, visits = (_times_seen(x, valid_t) for x in (with_action, known))
    share = (taken + smoothing) / (visits + smoothing * (num_actions or 0))
    return jnp.log(jnp.where(valid_t, share, 1.0))


def _check_options(history: int, smoothing: float, num_actions: int | None) -> None:
    if history != 0:
        check_count(history=history)
    if not 0.0 <= smoothing < float("inf"):
        raise FieldError("smoothing", "finite and at least 0", smoothing)
    if num_actions is not None:
        check_count(num_actions=num_actions)
    elif smoothing > 0:
        raise FieldError("num_actions", "given where smoothing is above 0", num_actions)


def _contexts(state_tm1: jax.Array, action_tm1: jax.Array, history: int) -> jax.Array:
    """`[T, N, C]`: what a row's action may depend on, zeros before an episode's beginning, and how many there are."""
    rows = len(action_tm1)
    states = state_tm1.reshape((*action_tm1.shape, -1)).astype(jnp.promote_types(state_tm1.dtype, jnp.int32))
    row = jnp.broadcast_to(jnp.arange(rows, dtype=states.dtype)[:, None, None], (*action_tm1.shape, 1))
    columns = [states, jnp.minimum(row, history)]
    for back in range(1, history + 1):
        for x in (states, action_tm1[..., None]):
            columns.append(jnp.pad(x, ((back, 0), (0, 0), (0, 0)))[:rows].astype(states.dtype))
    return jnp.concatenate(columns, -1)


def _times_seen(keys: jax.Array, valid_t: Flags) -> jax.Array:
    """How many valid rows have the same key `[T, N, C]`, for each row."""
    keys = keys.reshape(-1, keys.shape[-1])
    order = jnp.lexsort(keys.T)
    ordered = keys[order]
    is_new = jnp.any(ordered[1:] != ordered[:-1], -1)
    number = jnp.concatenate([jnp.zeros(1, int), jnp.cumsum(is_new)])
    seen = jax.ops.segment_sum(valid_t.reshape(-1)[order].astype(jnp.int32), number, len(keys))[number]
    return jnp.zeros_like(seen).at[order].set(seen).reshape(valid_t.shape).astype(jnp.result_type(float))


class Calibration(NamedTuple):
    """How often each action was taken in each state, against what its propensity says; `[K]` each, by state, action."""

    state: np.ndarray
    action: np.ndarray
    visits: np.ndarray
    """Of the state."""
    frequency: np.ndarray
    """The share of the visits in which the action was taken."""
    propensity: np.ndarray
    """The mean of those given where it was taken."""
    deviation: np.ndarray
    """The frequency less the propensity in standard errors; NaN where the counts are too small to judge."""


class PropensityCheck(NamedTuple):
    """What can be said of propensities without knowing the behavior policy. Numbers are plain floats."""

    mean_ratio: float
    """The mean of `π / μ` over all steps: 1 in expectation if the propensities are right and μ takes every action
    that π does."""
    standard_error: float
    """Of that mean, from the spread between episodes."""
    state_mean_ratio: np.ndarray
    """`[S]`, the same for each state that occurs, in ascending order; empty without states."""
    state_standard_error: np.ndarray
    """`[S]`."""
    calibration: Calibration | None
    """None without states and actions."""
    complaints: tuple[str, ...]
    """In words, what does not fit; empty if nothing does not."""


def check_propensities(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    is_valid_t: Flags | None = None,
    *,
    state_tm1: jax.Array | None = None,
    action_tm1: jax.Array | None = None,
    densities: bool = False,
) -> PropensityCheck:
    """Holds propensities against what is known without them: ratios average to 1, and actions are as frequent.

    The mean ratio is 1 at every step and in every state, whatever the target policy. That shows propensities of
    another policy, of another action, or after a transformation; and actions that μ never takes. With discrete
    states and actions, frequencies show it action by action. For data on the host, not under `jit`.

    Args:
      log_pi_tm1: `[T, N]`, log-probability of the logged action under the target policy.
      log_mu_tm1: `[T, N]`, the same under the policy that acted, as the log has it.
      is_valid_t: `[T, N]`, false for padding, which may hold anything.
      state_tm1: `[T, N]`, integers.
      action_tm1: `[T, N]`, integers.
      densities: whether the logarithms are those of densities, which may be positive.

    Returns:
      A `PropensityCheck`.

    Raises:
      ValueError: shapes differ.
      TypeError: an array is of the wrong kind.

    >>> log_mu = jnp.zeros((1, 400)); log_pi = jnp.log(jnp.full((1, 400), 0.5))
    >>> check_propensities(log_pi, log_mu).complaints[0]
    'all propensities are 1: they are missing, or the policy that acted never varied'
    """
    check_same_shape(log_pi_tm1=log_pi_tm1, log_mu_tm1=log_mu_tm1, is_valid_t=is_valid_t)
    check_same_shape(log_mu_tm1=log_mu_tm1, state_tm1=state_tm1, action_tm1=action_tm1)
    check_flags(is_valid_t=is_valid_t)
    for name, x in (("state_tm1", state_tm1), ("action_tm1", action_tm1)):
        if x is not None:
            check_integer(**{name: x})
    if jnp.ndim(log_mu_tm1) != 2:
        raise ValueError(f"log_mu_tm1 must be [T, N], but its shape is {list(jnp.shape(log_mu_tm1))}.")
    valid = np.ones(np.shape(log_mu_tm1), bool) if is_valid_t is None else np.asarray(is_valid_t)
    log_mu = np.asarray(log_mu_tm1, np.float64)[valid]
    log_pi = np.asarray(log_pi_tm1, np.float64)[valid]
    episode = np.nonzero(valid)[1]
    never = np.isneginf(log_pi)
    ratio = np.where(never, 0.0, np.exp(np.minimum(np.where(never, 0.0, log_pi - log_mu), MAX_LOG_RATIO)))
    mean, error, _ = (float(x[0]) for x in _means(ratio, np.zeros(len(ratio), int), episode))
    complaints = _complaints_of_form(log_mu, densities) + _complaint_of_mean(mean, error)
    by_state, calibration = (np.zeros(0),) * 3, None
    if state_tm1 is not None:
        names, state = np.unique(np.asarray(state_tm1)[valid], return_inverse=True)
        by_state = _means(ratio, state, episode)
        complaints += _complaints_of_states(names, *by_state)
        if action_tm1 is not None:
            calibration = _calibration(np.asarray(state_tm1)[valid], np.asarray(action_tm1)[valid], np.exp(log_mu))
            complaints += _complaints_of_actions(calibration)
    return PropensityCheck(mean, error, by_state[0], by_state[1], calibration, complaints)


def _means(ratio: np.ndarray, group: np.ndarray, episode: np.ndarray) -> tuple[np.ndarray, ...]:
    """The mean ratio of each group, `[S]`, its standard error with episodes as what was sampled, and their number."""
    groups = int(group.max(initial=-1)) + 1
    rows = np.bincount(group, minlength=groups)
    mean = np.bincount(group, ratio, groups) / np.maximum(rows, 1)
    pairs, place = np.unique(np.stack([group, episode]), axis=1, return_inverse=True)
    total = np.bincount(place.ravel(), (ratio - mean[group]))
    clusters = np.bincount(pairs[0], minlength=groups)
    squares = np.bincount(pairs[0], total**2, groups) * clusters / np.maximum(clusters - 1, 1)
    error = np.sqrt(squares) / np.maximum(rows, 1)
    if not groups:
        return np.full(1, np.nan), np.full(1, np.inf), np.zeros(1, int)
    return mean, np.where(clusters > 1, error, np.inf), clusters


def _calibration(state: np.ndarray, action: np.ndarray, mu: np.ndarray) -> Calibration:
    states, of_state = np.unique(state, return_inverse=True)
    pairs, of_pair = np.unique(np.stack([of_state, action]), axis=1, return_inverse=True)
    of_pair = of_pair.ravel()
    taken = np.bincount(of_pair)
    visits = np.bincount(of_state)[pairs[0]]
    propensity = np.bincount(of_pair, mu) / taken
    expected = visits * propensity
    can_judge = (expected >= FEWEST_EXPECTED) & (visits - expected >= FEWEST_EXPECTED)
    spread = np.sqrt(np.where(can_judge, expected * (1.0 - propensity), np.nan))
    return Calibration(states[pairs[0]], pairs[1], visits, taken / visits, propensity, (taken - expected) / spread)


def _complaints_of_form(log_mu: np.ndarray, densities: bool) -> tuple[str, ...]:
    """Of numbers that are no logarithms of probabilities."""
    if not log_mu.size:
        return ()
    if np.isnan(log_mu).any() or np.isposinf(log_mu).any():
        return ("some propensities are no numbers",)
    if np.isneginf(log_mu).any():
        return ("an action of propensity 0 was taken",)
    if np.all(log_mu == 0):
        return ("all propensities are 1: they are missing, or the policy that acted never varied",)
    if np.all((log_mu >= 0) & (log_mu <= 1)):
        return ("all of log_mu lie in [0, 1]: these are probabilities, not their logarithms",)
    if not densities and log_mu.max() > 0:
        return (f"log_mu goes up to {log_mu.max():.3g}, above 0: these are densities, or no logarithms",)
    return ()


def _complaint_of_mean(mean: float, error: float) -> tuple[str, ...]:
    if not abs(mean - 1.0) > FARTHEST * error + 1e-3:
        return ()
    what = f"the mean ratio of steps is {mean:.3g} (standard error {error:.2g}), not 1"
    return (f"{what}: propensities are wrong, or actions are missing",)


def _complaints_of_states(
    names: np.ndarray, mean: np.ndarray, error: np.ndarray, clusters: np.ndarray
) -> tuple[str, ...]:
    """Of the state that is farthest off, if one is too far for so many."""
    deviation = np.where(clusters >= FEWEST_EPISODES, np.abs(mean - 1.0) / (error + 1e-3 / FARTHEST), 0.0)
    if not deviation.max(initial=0.0) > _limit(len(names)):
        return ()
    worst = int(np.argmax(deviation))
    return (f"in state {names[worst]} the mean ratio is {mean[worst]:.3g} (standard error {error[worst]:.2g}), not 1",)


def _complaints_of_actions(of: Calibration) -> tuple[str, ...]:
    deviation = np.abs(np.where(np.isnan(of.deviation), 0.0, of.deviation))
    if not deviation.max(initial=0.0) > _limit(len(deviation)):
        return ()
    worst = int(np.argmax(deviation))
    taken = f"in state {of.state[worst]} action {of.action[worst]} was taken in {of.frequency[worst]:.3g} of the visits"
    return (f"{taken}, where its propensity is {of.propensity[worst]:.3g}",)


def _limit(comparisons: int) -> float:
    """How many standard errors so many comparisons seldom exceed by chance; `FARTHEST` up to a hundred or so."""
    return max(FARTHEST, float(np.sqrt(2.0 * np.log(20.0 * comparisons))))
