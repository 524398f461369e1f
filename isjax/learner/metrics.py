"""Metrics of several updates in one: means, sums, extremes, each by its name."""

import jax
import jax.numpy as jnp
import numpy as np

from isjax.learner.unroll import expand
from isjax.types import Metrics

_SUMS = ("episodes",)
_MINIMA = ("ratio/min",)
_MAXIMA = ("ratio/max", "trust/kl_max")
_LAST = ("update", "env_steps", "alive", "died_at")
_WEIGHT = "_weight"


def start(like: Metrics) -> Metrics:
    """Nothing merged yet; `like` gives names and shapes (arrays or their `jax.eval_shape`)."""

    def empty(name: str, x: jax.Array) -> jax.Array:
        fill = jnp.inf if name in _MINIMA else -jnp.inf if name in _MAXIMA else 0
        return jnp.full(x.shape, fill, x.dtype)

    merged = {name: empty(name, x) for name, x in like.items()}
    fewest = min((x.shape for x in like.values()), key=len)
    return merged | {_WEIGHT: jnp.zeros(fewest)}


def merge(merged: Metrics, new: Metrics) -> Metrics:
    """Adds the metrics of one more update. Those of a learner that is not alive change nothing but its state."""
    counts = jnp.asarray(new.get("alive", True))
    result = {_WEIGHT: merged[_WEIGHT] + counts}
    for name, x in new.items():
        so_far = merged[name]
        if name in _LAST:
            result[name] = x
        elif name in _MINIMA:
            result[name] = jnp.where(counts, jnp.minimum(so_far, x), so_far)
        elif name in _MAXIMA:
            result[name] = jnp.where(counts, jnp.maximum(so_far, x), so_far)
        elif name == "episode_return":
            result[name] = so_far + jnp.where(counts & (new["episodes"] > 0), x * new["episodes"], 0.0)
        else:
            result[name] = so_far + jnp.where(expand(counts, x), x, 0)
    return result


def finish(merged: Metrics) -> Metrics:
    """The metrics of everything merged; NaN where there was nothing to take a mean of."""
    weight = merged[_WEIGHT]
    result = {}
    for name, x in merged.items():
        if name == _WEIGHT:
            continue
        if name == "episode_return":
            x = x / merged["episodes"]
        elif name not in (*_SUMS, *_MINIMA, *_MAXIMA, *_LAST):
            x = x / expand(weight, x)
        result[name] = x
    return result


def without_nan(metrics: Metrics) -> Metrics:
    """0 for the return of learners that ended no episode: a NaN that is meant stops whoever debugs the others."""
    returns = jnp.where(metrics["episodes"] > 0, metrics["episode_return"], 0.0)
    return metrics | {"episode_return": returns}


def with_nan(metrics: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Takes `without_nan` back, on the host."""
    returns = metrics["episode_return"]
    return metrics | {"episode_return": np.where(metrics["episodes"] > 0, returns, np.nan).astype(returns.dtype)}
