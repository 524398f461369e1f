"""The bootstrap of all estimators at once: sums over the episodes drawn are products of matrices."""

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from isjax.ope.episodes import Estimate, Log
from isjax.ope.on_host import on_host
from isjax.ope.precision import in_float64
from isjax.ope.threefry import drawn_with_replacement, is_threefry
from isjax.ops.ratios import MAX_LOG_RATIO
from isjax.stats.draws import counts_of, drawn_indices
from isjax.types import Key, LoggedEpisodes

DRAWN_AT_ONCE = 2**22
"""How many episodes are drawn, or steps estimated, at a time, over all resamples: 32 MiB an array."""


class Ratios(NamedTuple):
    """A part of an estimate: `Σ_k scale_k (Σ_i x_ki) / (Σ_i weight_ki)`, summed over the episodes drawn."""

    scale: np.ndarray
    """`[K]`."""
    x: np.ndarray
    """`[K, N]`."""
    weight: np.ndarray
    """`[K, N]`."""

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """The part's value `[R]`, each episode being drawn as often as `counts` `[R, N]` says; 0 / 0 is 0."""
        x, weight = counts @ self.x.T, counts @ self.weight.T
        return np.divide(x, weight, out=np.zeros_like(x), where=weight > 0) @ self.scale


class Truncated(NamedTuple):
    """`truncated_is`, which is no such ratio: where weights are cut follows from all that are drawn."""

    weight: np.ndarray
    """`[N]`."""
    returns: np.ndarray
    """`[N]`."""
    is_episode: np.ndarray
    """`[N]`, 0 or 1."""

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """The value `[R]`, each episode being drawn as often as `counts` `[R, N]` says."""
        n = np.maximum(counts @ self.is_episode, 1.0)
        clip = np.minimum(counts @ self.weight / np.sqrt(n), math.exp(MAX_LOG_RATIO))
        return (counts * np.minimum(self.weight, clip[:, None])) @ self.returns / n


Part = Callable[[np.ndarray], np.ndarray]


class Sample(NamedTuple):
    """A whole log, all arrays being NumPy's and float64, for what an estimator's bootstrap is made of."""

    log: Log
    discount: float
    estimate: Estimate
    """What the estimator made of the log."""
    v_tm1: np.ndarray
    """`[T, N]`, zero past the end, and everywhere if there is no model."""
    q_tm1: np.ndarray
    log_rho_tm1: np.ndarray
    """`[T, N]`, zero past the end."""
    state_tm1: np.ndarray
    """`[T, N]`; zeros if the log holds no states."""
    num_states: int
    """0 if the log holds no states."""


Resampling = Callable[[Sample], list[Part]]
"""The parts that the value of an estimator is the sum of, whichever episodes are drawn."""


def mean_over_episodes(sample: Sample) -> list[Part]:
    """An estimate that is a plain mean of what each episode contributes."""
    contribution = np.asarray(sample.estimate.per_episode, np.float64)[None]
    return [Ratios(np.ones(1), contribution, np.asarray(sample.log.is_episode, np.float64)[None])]


def one_ratio(weight_t: np.ndarray, x_t: np.ndarray) -> list[Part]:
    """An estimate that is one ratio, of a weighted sum to the sum of all weights `[T, N]`."""
    return [Ratios(np.ones(1), np.sum(weight_t * x_t, 0)[None], np.sum(weight_t, 0)[None])]


def relative_weights(log_weight: np.ndarray, axis: int | None = 1) -> np.ndarray:
    """The weights, relative to the largest along an axis or of all."""
    log_weight = np.asarray(log_weight, np.float64)
    largest = np.max(log_weight, axis, keepdims=True)
    return np.exp(log_weight - np.where(np.isfinite(largest), largest, 0.0))


class Draws:
    """Which episodes each resample is made of. Drawing begins at once, beside whatever else is done.

    Iterating gives, for as many resamples at a time as fit, how often each episode is drawn, `[R, N]`. They are the
    samples that `isjax.stats.bootstrap_interval` draws from the same key.

    Args:
      key: a typed key, `jax.random.key(seed)`.
      shape: `(T, N)` of the log.
      resamples: how many samples are drawn, at least 1.
    """

    def __init__(self, key: Key, shape: tuple[int, ...], resamples: int) -> None:
        self._key, self._episodes, self._resamples = key, shape[1], resamples
        self._is_threefry = is_threefry(key)
        self._at_once = min(resamples, max(1, DRAWN_AT_ONCE // max(shape)))
        self._pool = ThreadPoolExecutor(1)
        self._ahead = self._pool.submit(self._draw, 0)

    def __iter__(self) -> Iterator[np.ndarray]:
        for first in range(0, self._resamples, self._at_once):
            index = self._ahead.result()[: self._resamples - first]
            if first + self._at_once < self._resamples:
                self._ahead = self._pool.submit(self._draw, first + self._at_once)
            yield counts_of(index, self._episodes)

    def _draw(self, first: int) -> np.ndarray:
        if self._is_threefry:
            last = min(first + self._at_once, self._resamples)
            return drawn_with_replacement(self._key, self._episodes, first, last)
        return np.asarray(_drawn(self._key, first, self._at_once, self._resamples, self._episodes))


def resampled_values(
    draws: Iterable[np.ndarray],
    episodes: LoggedEpisodes,
    discount: float,
    estimates: dict[str, Estimate],
    resamplings: dict[str, Resampling],
) -> dict[str, np.ndarray]:
    """The value of each estimator on samples of the episodes, drawn with replacement.

    The values are those of the estimators, computed in float64: no log-weight counts that lies 745 or more below the
    largest.

    Args:
      draws: how often each episode is drawn, `[R, N]` at a time, as `Draws` gives it.
      episodes: the log.
      discount: γ in [0, 1].
      estimates: what the estimators made of the whole log, by name.
      resamplings: how they resample, by name; those that are not among them are left out.

    Returns:
      `[resamples]` for each of the estimators.
    """
    exact = on_host(Log.checked, episodes.log_rho_tm1, episodes.r_t, discount, episodes.is_valid_t)
    model = [
        np.zeros(exact.r_t.shape) if x is None else np.where(exact.is_valid_t, np.asarray(x, np.float64), 0.0)
        for x in (episodes.v_tm1, episodes.q_tm1)
    ]
    log_rho_tm1 = np.where(exact.is_valid_t, np.asarray(episodes.log_rho_tm1, np.float64), 0.0)
    state_tm1 = np.zeros(exact.r_t.shape, int) if episodes.state_tm1 is None else np.asarray(episodes.state_tm1)
    with in_float64():
        rest = (model[0], model[1], log_rho_tm1, state_tm1, number_of_states(episodes))
        parts = {name: of(Sample(exact, discount, estimates[name], *rest)) for name, of in resamplings.items()}
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in parts}
    for counts in draws:
        with np.errstate(all="ignore"):  # An estimate that overflowed stays so.
            for name, of_name in parts.items():
                drawn[name].append(np.sum([part(counts) for part in of_name], 0))
    return {name: np.concatenate(values) for name, values in drawn.items()}


def number_of_states(episodes: LoggedEpisodes) -> int:
    """One more than the largest state of a log; 0 if it holds none."""
    if episodes.state_tm1 is None:
        return 0
    return int(np.max(np.asarray(episodes.state_tm1), initial=0, where=np.asarray(episodes.is_valid_t))) + 1


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _drawn(key: Key, first: int, count: int, resamples: int, n: int) -> jax.Array:
    """`[count, n]`, the episodes of the resamples from `first` on; those beyond the last repeat it."""
    keys = jax.random.split(key, resamples)[jnp.minimum(first + jnp.arange(count), resamples - 1)]
    return jax.vmap(lambda key: drawn_indices(key, (n,)))(keys)
