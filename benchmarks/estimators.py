"""All off-policy estimators of one large log, each with a bootstrap of 1,000 resamples, against a loop in NumPy.

`python -m benchmarks.estimators` takes about three minutes on two cores and writes `results/estimators.json`.
The log has 100,000 episodes of 100 steps, with a model's values. The rival is what one would write with NumPy: for
each estimator and each resample, gather the episodes drawn and evaluate the definition on whole arrays, log-products
being computed once beforehand. It runs a few resamples and is scaled to 1,000, since all of them would take hours.
MAGIC, whose interval is Student's here, is timed in ours and left out of the loop.
"""

import argparse
import json
import os
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import RESULTS as FOLDER
from benchmarks.harness import provenance, publish, seconds
from isjax.ope.evaluation import evaluate_log
from isjax.types import LoggedEpisodes

RESULTS = FOLDER / "estimators.json"
RESAMPLES, DISCOUNT, GAP = 1000, 0.97, 0.05


def synthetic(steps: int, episodes: int) -> LoggedEpisodes:
    """Actions of a unit Gaussian around 0, target around `GAP`; the reward is the action, and the model is exact."""
    rng = np.random.default_rng(0)
    action = rng.standard_normal((steps, episodes), np.float32)
    to_come = (1.0 - DISCOUNT ** np.arange(steps, 0, -1)) / (1.0 - DISCOUNT) * GAP
    after = np.append(to_come[1:], 0.0)
    v = np.broadcast_to(to_come[:, None], action.shape).astype(np.float32)
    q = (action + DISCOUNT * after[:, None]).astype(np.float32)
    log_rho = GAP * action - GAP**2 / 2
    return LoggedEpisodes(*map(jnp.asarray, (log_rho, action, np.ones(action.shape, bool), v, q)))


def numpy_estimators(log: LoggedEpisodes) -> dict[str, Callable[[np.ndarray], float]]:
    """Each estimator's definition, as a function of the episodes drawn."""
    log_rho, r, _, v, q = (np.asarray(x, np.float64) for x in log)
    steps = len(r)
    power = DISCOUNT ** np.arange(steps)
    product = np.exp(np.cumsum(log_rho, 0))
    before = np.concatenate([np.ones((1, r.shape[1])), product[:-1]])
    returns, flat = power @ r, np.cumsum(r, 0)
    share = np.where(np.arange(steps) < steps - 1, (1 - DISCOUNT) * power, power)

    def truncated(i: np.ndarray) -> float:
        weight = product[-1, i]
        return float(np.mean(np.minimum(weight, weight.mean() * np.sqrt(len(i))) * returns[i]))

    def weighted_doubly_robust(i: np.ndarray) -> float:
        weight, earlier = product[:, i], before[:, i]
        weight, earlier = weight / weight.sum(1, keepdims=True), earlier / earlier.sum(1, keepdims=True)
        return float(power @ np.sum(weight * (r[:, i] - q[:, i]) + earlier * v[:, i], 1))

    return {
        "ordinary_is": lambda i: float(np.mean(product[-1, i] * returns[i])),
        "weighted_is": lambda i: float(product[-1, i] @ returns[i] / product[-1, i].sum()),
        "truncated_is": truncated,
        "per_decision_is": lambda i: float(np.mean(power @ (product[:, i] * r[:, i]))),
        "weighted_per_decision_is": lambda i: float(
            power @ (np.sum(product[:, i] * r[:, i], 1) / np.sum(product[:, i], 1))
        ),
        "discounting_aware_is": lambda i: float(np.mean(share @ (product[:, i] * flat[:, i]))),
        "weighted_discounting_aware_is": lambda i: float(
            np.sum(share @ (product[:, i] * flat[:, i])) / np.sum(share @ product[:, i])
        ),
        "doubly_robust": lambda i: float(
            np.mean(power @ (product[:, i] * (r[:, i] - q[:, i]) + before[:, i] * v[:, i]))
        ),
        "weighted_doubly_robust": weighted_doubly_robust,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small log, and nothing written")
    quick = parser.parse_args().quick
    steps, episodes, repeats, loops = (20, 500, 1, 2) if quick else (100, 100_000, 5, 4)
    log = synthetic(steps, episodes)

    def ours_of(seed: int):
        return evaluate_log(log, DISCOUNT, key=jax.random.key(seed), resamples=RESAMPLES)

    first = seconds(lambda: ours_of(0).estimates)
    rivals = numpy_estimators(log)
    ours, theirs = [], {name: [] for name in rivals}
    rng = np.random.default_rng(1)
    for repeat in range(repeats):
        ours.append(seconds(lambda seed=repeat: ours_of(seed).estimates))
        for name, estimator in rivals.items():  # in turn with ours: a noisy machine is noisy for both
            for _ in range(loops):
                drawn = rng.integers(0, episodes, episodes)
                theirs[name].append(seconds(lambda of=estimator, drawn=drawn: of(drawn)))
    evaluation = ours_of(0)
    for name, estimator in rivals.items():
        np.testing.assert_allclose(
            estimator(np.arange(episodes)), evaluation.estimates[name].value, rtol=2e-3, atol=2e-3
        )
    loop_s = RESAMPLES * sum(float(np.median(x)) for x in theirs.values())
    result = {
        "steps": steps,
        "episodes": episodes,
        "resamples": RESAMPLES,
        "estimators": list(evaluation.estimates),
        "first_call_s": first,
        "ours_s": {"median": float(np.median(ours)), "low": min(ours), "high": max(ours), "calls": repeats},
        "numpy_loop_s": loop_s,
        "numpy_resamples_timed": repeats * loops,
        "numpy_s_per_resample": {name: float(np.median(x)) for name, x in theirs.items()},
        "times_faster": loop_s / float(np.median(ours)),
        "cores": os.cpu_count(),
    } | provenance(jax.devices()[:1])
    print(json.dumps(result, indent=2))
    if not quick:
        publish(RESULTS, result, {})


if __name__ == "__main__":
    main()
