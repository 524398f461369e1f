"""What `run.py` measures, each a function of whether it is to be quick."""

import functools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np

from experiments.experiment import mean, summary
from experiments.tabular import gridworlds, triad
from experiments.tabular.learners import (
    PARTS,
    Options,
    behavior,
    control,
    learn,
    one_step,
    prediction_errors,
    windowed,
    with_traces,
)

ONE_STEP = ("SARSA", "expected SARSA", "Q-learning")
SEEDS = {"online": 0, "interim": 1, "asymptotic": 2, "off_policy": 3, "longer": 4, "triad": 5}
EPSILON, STEP_SIZE = 0.1, 0.5
STEP_SIZES = tuple(k / 10 for k in range(1, 11))
HORIZONS, LAMBDAS = (1, 2, 4, 8), (0.0, 0.5, 0.8, 0.9, 0.95)
SIGMAS = {"tree backup": 0.0, "Q(½)": 0.5, "Q(1)": 1.0}
SMALL_STEP_SIZES = tuple(2.0**-k for k in range(10))
MU = (0.15, 0.35, 0.35, 0.15)
"""Of moves up, down, right and left: what acts where a uniformly random policy is to be evaluated."""


def options(step_size: np.ndarray | float, count: int, *, lambda_: float = 0.0, sigma: float = 1.0) -> Options:
    """Of `count` learners for each step size, all those of one step size together."""
    sizes = np.repeat(np.atleast_1d(step_size), count)
    return Options(
        *(jnp.broadcast_to(jnp.asarray(x, jnp.float32), sizes.shape) for x in (sizes, EPSILON, lambda_, sigma))
    )


def joined(several: list[Options]) -> Options:
    return Options(*(jnp.concatenate(x) for x in zip(*several, strict=True)))


def method(name: str):
    """A one-step method on the cliff."""
    return control(gridworlds.cliff, one_step_of(name), name == "SARSA")


@functools.cache
def one_step_of(name: str):
    return functools.partial(one_step, name)


@functools.cache
def traces_of(name: str):
    return functools.partial(with_traces, name, 48)


@functools.cache
def window_of(kind: str, n: int, policy):
    return functools.partial(windowed, kind, n, policy)


def uniform(q, options):
    """Log-probabilities of the policy that takes all actions alike."""
    return jnp.full(q.shape, -jnp.log(4.0))


def online(quick: bool) -> dict:
    """Returns along the way on the cliff, and the greedy paths of the tables at the end."""
    learners, episodes = (10, 50) if quick else (500, 500)
    width = episodes // PARTS
    world = gridworlds.cliff()
    best, soft = (gridworlds.soft_optimal(world, epsilon) for epsilon in (0.0, EPSILON))
    found: dict = {
        "learners": learners,
        "episodes": list(range(width, episodes + 1, width)),
        "step_size": STEP_SIZE,
        "epsilon": EPSILON,
        "exact": {
            "Q-learning": gridworlds.online_return(world, best, EPSILON),
            "expected SARSA": gridworlds.online_return(world, soft, EPSILON),
            "optimal_path": gridworlds.greedy_path(world, best)[1],
            "soft_optimal_path": gridworlds.greedy_path(world, soft)[1],
        },
    }
    for name in ONE_STEP:
        key = jax.random.key(SEEDS["online"])
        end = learn(method(name), key, options(STEP_SIZE, learners), episodes=episodes)
        returns = np.asarray(end.returns) / width
        paths = [gridworlds.greedy_path(world, q) for q in np.asarray(end.q)]
        arrived = Counter(tuple(path) for path, total in paths if total == total)
        totals = Counter(f"{total:g}" for _, total in paths)
        found[name] = {
            "return": summary(returns, mean),
            "late": summary(returns[:, -PARTS // 5 :].mean(1), mean),
            "paths": {total: count / learners for total, count in sorted(totals.items())},
            "usual_path": [list(map(int, path)) for path, _ in arrived.most_common(1)],
        }
    return found


def step_sizes(quick: bool) -> dict:
    """Figure 6.3: the mean return of the first 100 episodes, and of late ones, by step size."""
    sizes = STEP_SIZES[4::5] if quick else STEP_SIZES
    few, many = ((5, 50), (5, 50)) if quick else ((200, 100), (10, 5000))
    found: dict = {"step_sizes": list(sizes), "interim": {}, "asymptotic": {}, "learners": [few[0], many[0]]}
    found |= {"episodes": [few[1], many[1]]}
    for kind, (count, episodes), begin in (("interim", few, 0), ("asymptotic", many, PARTS // 2)):
        for name in ONE_STEP:
            key, each = jax.random.key(SEEDS[kind]), options(np.array(sizes), count)
            end = learn(method(name), key, each, episodes=episodes)
            returns = np.asarray(end.returns)[:, begin:].mean(1).reshape(len(sizes), count).T / (episodes // PARTS)
            found[kind][name] = summary(returns, mean)
    return found


def longer(quick: bool) -> dict:
    """The mean return of the first 100 episodes by n and by λ, each at the step size that is best on other seeds."""
    sizes = np.array([0.1, 0.2, 0.4, 0.6, 0.8])
    count, episodes, horizons, lambdas = (4, 50, (2,), (0.9,)) if quick else (40, 100, HORIZONS, LAMBDAS)
    found: dict = {"learners": count // 2, "episodes": episodes, "n": list(horizons), "lambda": list(lambdas)}

    def best(how, each, parts):
        """`[parts]` summaries and step sizes; half of the learners choose, the other half reports."""
        end = learn(how, jax.random.key(SEEDS["longer"]), each, episodes=episodes)
        returns = np.where(end.episode < episodes, -np.inf, end.returns.sum(1)) / episodes
        returns = returns.reshape(parts, len(sizes), count)
        chosen = returns[..., : count // 2].mean(-1).argmax(-1)
        kept = returns[np.arange(parts), chosen, count // 2 :]
        return kept.T, sizes[chosen].tolist()

    kept: dict = {}
    for n in horizons:
        how = control(gridworlds.cliff, window_of("sarsa", n, behavior), False)
        kept.setdefault("n-step SARSA", []).append(best(how, options(sizes, count), 1))
        how = control(gridworlds.cliff, window_of("q_sigma", n, behavior), False)
        several = [options(sizes, count, sigma=sigma) for sigma in (0.0, 0.5)]
        both, size = best(how, joined(several), 2)
        for i, name in enumerate(("tree backup", "Q(½)")):
            kept.setdefault(name, []).append((both[:, i : i + 1], size[i : i + 1]))
    for name in ("SARSA", "Q-learning"):
        how = control(gridworlds.cliff, traces_of(name), name == "SARSA")
        several = [options(sizes, count, lambda_=lambda_) for lambda_ in lambdas]
        kept[f"{name}(λ)"] = [best(how, joined(several), len(lambdas))]
    for name, parts in kept.items():
        returns = np.concatenate([x for x, _ in parts], 1)
        found[name] = summary(returns, mean) | {"step_size": [size for _, x in parts for size in x]}
    return found


def prediction(quick: bool) -> dict:
    """Errors of the values of a uniformly random policy, from steps of another one, by n."""
    world = gridworlds.corners()
    target, mu = np.full((16, 4), 0.25), np.tile(MU, (16, 1))
    exact = gridworlds.action_values(world, target)
    count, steps, last, horizons = (4, 200, 50, (2,)) if quick else (40, 10_000, 1000, HORIZONS)
    sizes = np.array(SMALL_STEP_SIZES[::3] if quick else SMALL_STEP_SIZES)
    bias = [gridworlds.uncorrected_fixed_point(world, target, mu, n) - exact for n in HORIZONS]
    found: dict = {
        "learners": count // 2,
        "steps": steps,
        "n": list(horizons),
        "behavior": list(MU),
        "exact_values": np.sum(target * exact, -1).tolist(),
        "bias": [float(np.sqrt(np.mean(x[1:15] ** 2))) for x in bias],
        "step_sizes": sizes.tolist(),
    }
    policies = tuple(jnp.asarray(x, jnp.float32) for x in (target, mu, exact))
    kept: dict = {}
    for n in horizons:
        for kind, names in (
            ("sarsa", ("SARSA, ratios",)),
            ("q_sigma", tuple(SIGMAS)),
            ("uncorrected", ("uncorrected",)),
        ):
            each = joined([options(sizes, count, sigma=SIGMAS.get(name, 1.0)) for name in names])
            key = jax.random.key(SEEDS["off_policy"])
            how = window_of(kind, n, uniform)
            errors = prediction_errors(gridworlds.corners, how, key, each, policies, steps=steps, last=last)
            errors = np.nan_to_num(np.asarray(errors), nan=1e6, posinf=1e6).reshape(len(names), len(sizes), count)
            for name, x in zip(names, errors, strict=True):
                chosen = int(x[:, : count // 2].mean(-1).argmin())
                kept.setdefault(name, []).append((x[chosen, count // 2 :], float(sizes[chosen])))
    for name, parts in kept.items():
        found[name] = summary(np.stack([x for x, _ in parts], 1), mean) | {"step_size": [size for _, size in parts]}
    return found


def deadly(quick: bool) -> dict:
    """The triad and what is left of it; intervals are those of the logarithm of the root mean squared value."""
    count, steps, every = (10, 500, 50) if quick else (200, 10_000, 250)
    keys = jax.random.split(jax.random.key(SEEDS["triad"]), count)
    found: dict = {
        "learners": count,
        "steps": list(range(0, steps + 1, every)),
        "settings": {"discount": triad.DISCOUNT, "end": triad.END, "back": triad.BACK, "step_size": triad.STEP_SIZE},
    }
    for name, (features, back, lambda_) in triad.CASES.items():
        errors = triad.runs(jnp.asarray(features, jnp.float32), back, lambda_, keys, steps=steps, every=every)
        logs = summary(np.log10(np.maximum(np.asarray(errors), 1e-30)))
        found[name] = {"growth": triad.growth(features, back, lambda_)}
        found[name] |= {end: (10.0 ** np.asarray(x)).tolist() for end, x in logs.items()}
    first = jnp.asarray(triad.LINEAR, jnp.float32)
    updates = 100 if quick else 500
    run = triad.runs(first, 1.0, 0.0, keys[:1], steps=2 * updates, every=2 * updates)
    found["first_state_alone"] = {
        "updates": updates,
        "exact": triad.two_state_weight(updates),
        "run": float(run[0, -1] / run[0, 0]),
        "diverges_above": 0.5,
    }
    fits = triad.least_squares(triad.END, triad.DISCOUNT, 100)
    found["least_squares"] = {
        "sweeps": 100,
        "exact": ((6 - 4 * triad.END) / 5 * triad.DISCOUNT) ** 100,
        "run": fits[-1],
        "diverges_above": 5 / (6 - 4 * triad.END),
    }
    return found
