"""What metrics mean: how several updates, and several learners, become one number, and what a page calls it.

One table, which the learner, the sinks, the terminal and the page read.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from isjax.types import Metrics

Reduction = Literal["mean", "sum", "min", "max", "last", "per_episode"]
"""Over updates: "per_episode" is a mean that each update weighs in by its episodes, "last" the state of the last one.
Over learners: means become the interquartile mean, sums and extremes stay what they are, states have none."""


class Metric(NamedTuple):
    """A metric by its name."""

    name: str
    reduction: Reduction
    title: str
    unit: str


_TABLE: tuple[Metric, ...] = (
    Metric("update", "last", "Updates", "updates"),
    Metric("env_steps", "last", "Environment steps", "steps"),
    Metric("alive", "last", "Whether the learner is alive", "learner"),
    Metric("died_at", "last", "Update at which the learner died", "update"),
    Metric("episodes", "sum", "Episodes that ended", "episodes"),
    Metric("episode_return", "per_episode", "Return of the episodes that ended", "return"),
    Metric("resets/pool", "last", "Reset states in the pool", "states"),
    Metric("resets/reused", "sum", "Episodes that started where another one had", "episodes"),
    Metric("ratio/ess_fraction", "mean", "Effective sample size: 1 is on-policy", "share of rows"),
    Metric("ratio/min", "min", "Smallest ratio", "ratio"),
    Metric("ratio/mean", "mean", "Mean of the ratios", "ratio"),
    Metric("ratio/max", "max", "Largest ratio", "ratio"),
    Metric("ratio/std", "mean", "Standard deviation of the ratios", "ratio"),
    Metric("ratio/clipped_rho", "mean", "Ratios that the target's clip cuts", "share of rows"),
    Metric("ratio/clipped_c", "mean", "Ratios that the trace's clip cuts", "share of rows"),
    Metric("ratio/kl_k1", "mean", "KL of behavior from target, estimator k1", "nats"),
    Metric("ratio/kl_k3", "mean", "KL of behavior from target, estimator k3", "nats"),
    Metric("ratio/lag", "mean", "Lag: updates between acting and learning", "updates"),
    Metric("loss/policy", "mean", "Loss of the policy", "loss"),
    Metric("loss/value", "mean", "Loss of the value", "loss"),
    Metric("loss/total", "mean", "Loss in total", "loss"),
    Metric("loss/entropy", "mean", "Entropy of the policy", "nats"),
    Metric("loss/grad_norm", "mean", "Norm of the gradient, before it is clipped", "norm"),
    Metric("q/taken", "mean", "Value of the actions taken", "return"),
    Metric("q/target", "mean", "What these values should become", "return"),
    Metric("replay/error", "mean", "Error of unrolls, which a replay draws by", "return"),
    Metric("replay/weight", "mean", "Weight of unrolls drawn so", "weight"),
    Metric("exploration/epsilon", "mean", "Share of actions that explore", "share"),
    Metric("exploration/temperature", "mean", "Temperature of exploration", "return"),
    Metric("entropy/temperature", "mean", "Temperature: what entropy is worth", "return per nat"),
    Metric("trust/kl", "mean", "KL of the step in the trust region", "nats"),
    Metric("trust/kl_max", "max", "Largest KL of a step in the trust region", "nats"),
    Metric("trust/accepted", "mean", "Steps that the line search accepted", "share"),
    Metric("trust/improvement", "mean", "Improvement of the surrogate", "advantage"),
    Metric("kl/update", "mean", "KL that an update came to", "nats"),
    Metric("kl/cost", "mean", "Factor of the KL penalty", "factor"),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _TABLE}
"""The metrics of isjax, and those that were registered."""
_WEIGHT = "_weight"
_RESERVED = (*(metric.name for metric in _TABLE[:6]), _WEIGHT)


def register_metric(name: str, *, title: str, reduction: Reduction = "mean", unit: str = "value") -> Metric:
    """Says what a metric of an algorithm or objective means, for tables and pages.

    Args:
      name: as the loss returns it, such as "q/overestimation".
      title: what a page calls it.
      reduction: how several gradient steps and updates become one number: mean, sum, min, max or last.
      unit: of its axis.

    Raises:
      ValueError: isjax itself has a metric of that name, or there is no such reduction.

    >>> register_metric("doc/error", title="Largest error", reduction="max").reduction, metric_of("doc/error").title
    ('max', 'Largest error')
    """
    if any(metric.name == name for metric in _TABLE):
        raise ValueError(f"A metric must not be called {name}, which is one of isjax's own.")
    allowed = ("mean", "sum", "min", "max", "last")
    if reduction not in allowed:
        raise ValueError(f"reduction must be one of {', '.join(allowed)}, but it is {reduction!r}.")
    METRICS[name] = Metric(name, reduction, title, unit)
    return METRICS[name]


def metric_of(name: str) -> Metric:
    """What is registered of a metric. Others are means, or extremes where their names end so.

    >>> metric_of("trust/kl_max").reduction, metric_of("my/error").reduction, metric_of("my/error_max").reduction
    ('max', 'mean', 'max')
    """
    extreme: dict[str, Reduction] = {"min": "min", "max": "max"}
    ending = name.rpartition("/")[2].rpartition("_")[2]
    return METRICS.get(name) or Metric(name, extreme.get(ending, "mean"), name, "value")


def check_own(metrics: Metrics) -> None:
    """Raises `ValueError` for a metric of an objective that nobody could keep."""
    for name, x in metrics.items():
        if name in _RESERVED:
            raise ValueError(f"A metric must not be called {name}, which is one of the learner's own.")
        if jnp.ndim(x) > 1:
            raise ValueError(f"The metric {name} must be a number or [K], but its shape is {list(jnp.shape(x))}.")


def start(like: Metrics) -> Metrics:
    """Nothing merged yet; `like` gives names and shapes (arrays or their `jax.eval_shape`)."""

    def empty(name: str, x: jax.Array) -> jax.Array:
        reduction = metric_of(name).reduction
        if reduction in ("last", "sum"):  # a sum of booleans is a number
            return jnp.zeros(x.shape, x.dtype if reduction == "last" else jnp.promote_types(x.dtype, jnp.int32))
        fill = {"min": jnp.inf, "max": -jnp.inf}.get(reduction, 0.0)
        return jnp.full(x.shape, fill, jnp.promote_types(x.dtype, jnp.float32))

    merged = {name: empty(name, x) for name, x in like.items()}
    fewest = min((x.shape for x in like.values()), key=len)
    return merged | {_WEIGHT: jnp.zeros(fewest, jnp.int32)}


def merge(merged: Metrics, new: Metrics) -> Metrics:
    """Adds the metrics of one more update. Those of a learner that is not alive change nothing but its state."""
    counts = jnp.asarray(new.get("alive", True))
    result = {_WEIGHT: merged[_WEIGHT] + counts}
    for name, x in new.items():
        so_far, reduction = merged[name], metric_of(name).reduction
        if reduction == "last":
            result[name] = x
        elif reduction == "min":
            result[name] = jnp.where(expand(counts, x), jnp.minimum(so_far, x), so_far)
        elif reduction == "max":
            result[name] = jnp.where(expand(counts, x), jnp.maximum(so_far, x), so_far)
        elif reduction == "per_episode":
            result[name] = so_far + jnp.where(counts & (new["episodes"] > 0), x * new["episodes"], 0.0)
        else:
            result[name] = so_far + jnp.where(expand(counts, x), x, 0)
    return result


def finish(merged: Metrics) -> Metrics:
    """The metrics of everything merged; NaN where there was nothing to take a mean of."""
    weights = {"mean": merged[_WEIGHT], "per_episode": merged.get("episodes")}
    result = {}
    for name, x in merged.items():
        weight = weights.get(metric_of(name).reduction)
        if name != _WEIGHT:
            result[name] = x if weight is None else x / expand(weight, x).astype(x.dtype)
    return result


def expand(flags: jax.Array, like: jax.Array) -> jax.Array:
    """The same along the axes that `like` has beyond those of `flags`."""
    return flags.reshape(flags.shape + (1,) * (like.ndim - flags.ndim))


def without_nan(metrics: Metrics) -> Metrics:
    """0 for the return of learners that ended no episode: a NaN that is meant stops whoever debugs the others."""
    returns = jnp.where(metrics["episodes"] > 0, metrics["episode_return"], 0.0)
    return metrics | {"episode_return": returns}


def with_nan(metrics: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Takes `without_nan` back, on the host."""
    returns = metrics["episode_return"]
    return metrics | {"episode_return": np.where(metrics["episodes"] > 0, returns, np.nan).astype(returns.dtype)}
