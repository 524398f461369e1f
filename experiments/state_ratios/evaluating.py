"""Many logs of one process, all estimators on each: bias, squared error, coverage of intervals, verdicts."""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from experiments.state_ratios.processes import Process, padded
from isjax import ope
from isjax.types import LoggedEpisodes

EPISODES = 1000
ICU_STEPS, ICU_SHARE = 60, 0.3
PLAIN = ("ordinary_is", "weighted_is", "truncated_is", "per_decision_is", "weighted_per_decision_is")
MODEL = ("doubly_robust", "weighted_doubly_robust", "marginalized_doubly_robust")
ALL = (*PLAIN, "marginalized_is", "self-normalized marginalized_is", *MODEL)
Z = 1.962
"""Of Student's 95 % intervals from a thousand episodes."""
WRONG = 0.5
"""The model says this much of the truth."""


@functools.partial(jax.jit, static_argnames=("name", "num_states", "horizon"))
def estimate(name: str, log: dict, num_states: int, horizon: int) -> ope.Estimate:
    """One estimate at γ = 1, by the estimator of that name; `horizon` matters to the stationary one."""
    arrays = (log["log_rho"], log["r"], 1.0)
    states = {"state_tm1": log["state"], "is_valid_t": log["is_valid"], "num_states": num_states}
    model = {"v_tm1": log["v"], "q_tm1": log["q"]} if "v" in log else {}
    if name == "stationary_is":
        last = jnp.sum(jnp.any(log["is_valid"], 1)) - 1
        cut = jnp.broadcast_to(jnp.arange(len(log["r"]))[:, None] == last, log["r"].shape)
        return ope.stationary_is(*arrays, **states, truncated_t=cut, horizon=horizon)
    if name == "self-normalized marginalized_is":
        return ope.marginalized_is(*arrays, **states, self_normalized=True)
    if name.startswith("marginalized"):
        return getattr(ope, name)(*arrays, **states, **(model if name in MODEL else {}))
    return getattr(ope, name)(*arrays, log["is_valid"], **(model if name in MODEL else {}))


@functools.partial(jax.jit, static_argnames=("name", "num_states", "horizon"))
def value(name: str, log: dict, num_states: int, horizon: int) -> jax.Array:
    """The value alone, which is quicker."""
    return estimate(name, log, num_states, horizon).value


def logs(process: Process, runs: int, *, seed: int, rows: int, with_model: bool) -> Iterator[dict]:
    """So many logs of `EPISODES` as `estimate` takes them, of one shape."""
    rng = np.random.default_rng(seed)
    v, q = (WRONG * x for x in process.values())
    for _ in range(runs):
        log = process.sample(rng, EPISODES)
        place = np.arange(process.horizon)[:, None], log.pop("hidden")
        action = log.pop("action")
        if with_model:
            log |= {"v": v[place], "q": q[(*place, action)]}
        yield {name: padded(x, rows) for name, x in log.items()}


def errors(
    process: Process, runs: int, *, seed: int, rows: int, num_states: int, names: list[str], with_intervals: bool
) -> dict:
    """Of each estimator over so many logs: bias, mean squared error, and the coverage of Student's intervals."""
    found: dict[str, list] = {name: [] for name in names}
    with_model = any(name in MODEL for name in names)
    for log in logs(process, runs, seed=seed, rows=rows, with_model=with_model):
        for name in names:
            horizon = process.horizon if name == "stationary_is" else 0
            if with_intervals:
                of = estimate(name, log, num_states, horizon)
                found[name].append((float(of.value), float(of.standard_error)))
            else:
                found[name].append((float(value(name, log, num_states, horizon)), np.nan))
    exact = process.exact_errors() if len(process.start) < 100 else {}
    known = {"value": process.value, "estimators": list(names), "runs": runs, "exact": exact}
    return known | {name: _summary(np.array(of), process.value) for name, of in found.items()}


def _summary(rows: np.ndarray, true: float) -> dict[str, float]:
    value, standard_error = rows.T
    found = {"bias": float(value.mean() - true), "mean_squared_error": float(np.mean((value - true) ** 2))}
    if not np.isnan(standard_error).all():
        found["coverage"] = float(np.mean(np.abs(value - true) <= Z * standard_error))
    return found


def ratio_error(process: Process, episodes: int, *, seed: int, runs: int = 10) -> float:
    """Of `state_ratios`, over steps and states, weighted by how often μ is there."""
    d_pi, d_mu = process.distributions(process.pi), process.distributions(process.mu)
    exact = np.divide(d_pi, d_mu, out=np.zeros_like(d_pi), where=d_mu > 0)
    rng, squares = np.random.default_rng(seed), []
    for _ in range(runs):
        log = process.sample(rng, episodes)
        found = _ratios(log["log_rho"], log["state"], log["is_valid"], len(process.start))
        squares.append(np.sum(d_mu * (np.asarray(found) - exact) ** 2) / process.horizon)
    return float(np.sqrt(np.mean(squares)))


@functools.partial(jax.jit, static_argnums=3)
def _ratios(log_rho: jax.Array, state: jax.Array, is_valid: jax.Array, num_states: int) -> jax.Array:
    return ope.state_ratios(log_rho, state, is_valid, num_states=num_states).ratio


def verdicts(process: Process, *, seed: int, rows: int) -> dict[str, str]:
    """Whether `evaluate_log` trusts each estimate from one log of `EPISODES`."""
    (log,) = logs(process, 1, seed=seed, rows=rows, with_model=True)
    names = ("log_rho", "r", "is_valid", "v", "q", "state")
    logged = LoggedEpisodes(*(jnp.asarray(log[name]) for name in names))
    found = ope.evaluate_log(logged, 1.0, key=jax.random.key(seed), resamples=0)
    return {name: of.trust for name, of in found.estimates.items()}
