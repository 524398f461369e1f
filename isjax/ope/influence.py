"""Estimates as functions of how often each episode is there: standard errors and the bootstrap follow from that."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from isjax.ope.episodes import Estimate, Log, count_episodes, estimate
from isjax.ope.estimator import Estimator
from isjax.ope.precision import in_float64
from isjax.ope.resampling import Part
from isjax.types import Flags, LoggedEpisodes, Scalar

ValueOfCounts = Callable[[jax.Array], jax.Array]
"""From `[N]`, how often each episode is there, to the value `[]`; the same for counts that are all doubled."""


def jackknifed(value: ValueOfCounts, log_weights: jax.Array, is_episode: Flags) -> Estimate:
    """The estimate with the standard error of the infinitesimal jackknife.

    Efron & Tibshirani 1993, "An introduction to the bootstrap", section 21.5: what an episode contributes is the
    value and N times the derivative with respect to the number of times that it is there.

    Args:
      value: the estimate as a function of counts.
      log_weights: `[N]`, logarithms of the weights that the rewards of each episode got.
      is_episode: `[N]`.
    """
    count = is_episode.astype(log_weights.dtype)
    at_ones, slope = jax.value_and_grad(value)(count)
    return estimate(at_ones, at_ones + count_episodes(is_episode, count) * slope, log_weights, is_episode)


def resampled(value: ValueOfCounts) -> Part:
    """The value at any counts `[R, N]`, for the bootstrap, in float64."""
    compiled = jax.jit(lambda counts: jax.lax.map(value, counts))

    def part(counts: np.ndarray) -> np.ndarray:
        with in_float64():
            return np.asarray(compiled(jnp.asarray(counts)))

    return part


def mean_weight_of_states(of: Estimator, log: LoggedEpisodes, discount: Scalar, num_states: int) -> Estimate:
    """The mean weight of an estimator that tells its own, as what it makes of a reward of 1 at each step.

    Ended episodes stay in a state of their own, and are rewarded there too.
    """
    is_valid_t, state_tm1 = jnp.asarray(log.is_valid_t), jnp.asarray(log.state_tm1)  # type: ignore[arg-type]
    zeros = jnp.zeros_like(log.r_t)
    goes_on_t = jnp.any(is_valid_t, 1, keepdims=True) & jnp.any(is_valid_t, 0, keepdims=True)
    found = of.function(
        jnp.where(is_valid_t, log.log_rho_tm1, 0.0),
        zeros + 1.0,
        discount,
        is_valid_t=goes_on_t,
        state_tm1=jnp.where(is_valid_t, state_tm1, num_states),
        num_states=num_states + 1,
        **({"v_tm1": zeros, "q_tm1": zeros} if of.needs_model else {}),
    )
    length = jnp.max(Log.checked(zeros, zeros + 1.0, discount, goes_on_t).returns)
    return found._replace(value=found.value / length, standard_error=found.standard_error / length)
