"""Whether verdicts on logs are right: to be trusted, and better than what ran.

Ten small decision processes, drawn from seeds that were fixed beforehand, each with one log of 1,000 episodes and a
target policy nearer to or farther from the one that acted; their values follow from dynamic programming. Lower bounds
are tried on many logs of three bandits; and where two policies are worth the same, the share of logs is counted that
calls one of them better.

    python -m experiments.log_verdicts.run [--quick]
"""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure
from scipy import special

from experiments.drawing import BLUE, GREEN, ORANGE, RED, exact, legend, panels, title
from experiments.experiment import Experiment, run
from experiments.log_verdicts import open_bandit
from isjax import ope
from isjax.types import LoggedEpisodes

HERE = Path(__file__).parent
SEEDS = tuple(range(100, 110))
COVERAGE_SEED, NULL_SEED = 1, 2
ESTIMATOR = "weighted_per_decision_is"
LEVEL = 0.95
STATES, ACTIONS = 4, 3
BANDITS = {
    "near": ((0.5, 0.5), (0.2, 0.8), (0.3, 0.6)),
    "far": ((0.9, 0.1), (0.1, 0.9), (0.3, 0.6)),
    "three arms": ((0.5, 0.3, 0.2), (0.1, 0.1, 0.8), (0.2, 0.5, 0.1)),
}
"""Behavior policy, target policy, probabilities of a reward of 1."""


def softmax(x: np.ndarray) -> np.ndarray:
    p = np.exp(x - x.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def process(seed: int) -> dict:
    """A decision process with a horizon and two policies, all drawn from the seed."""
    rng = np.random.default_rng(seed)
    mu_logits, other = rng.normal(size=(2, STATES, ACTIONS))
    return {
        "horizon": int(rng.choice([1, 5, 10, 20])),
        "start": rng.dirichlet(np.ones(STATES)),
        "move": rng.dirichlet(np.ones(STATES), (STATES, ACTIONS)),
        "reward": rng.normal(size=(STATES, ACTIONS)),
        "mu": softmax(mu_logits),
        "pi": softmax(mu_logits + rng.uniform(0.1, 1.5) * other),
        "rng": rng,
    }


def value(of: dict, policy: np.ndarray) -> float:
    """By dynamic programming, undiscounted."""
    v = np.zeros(STATES)
    for _ in range(of["horizon"]):
        v = np.sum(policy * (of["reward"] + of["move"] @ v), 1)
    return float(of["start"] @ v)


def log_of(of: dict, episodes: int) -> LoggedEpisodes:
    """Episodes of μ, rewards with unit noise."""
    rng = of["rng"]
    draw: Callable = lambda p: (p.cumsum(-1) > rng.random((len(p), 1))).argmax(-1)  # noqa: E731
    state = draw(np.tile(of["start"], (episodes, 1)))
    log_rho, reward = np.zeros((2, of["horizon"], episodes))
    for t in range(of["horizon"]):
        action = draw(of["mu"][state])
        log_rho[t] = np.log(of["pi"] / of["mu"])[state, action]
        reward[t] = of["reward"][state, action] + rng.normal(size=episodes)
        state = draw(of["move"][state, action])
    return LoggedEpisodes(log_rho, reward, np.ones(reward.shape, bool))


def verdict(seed: int, episodes: int) -> dict:
    """What the log of a process says, and what is true."""
    of = process(seed)
    truth = {"value": value(of, of["pi"]), "what_ran": value(of, of["mu"])}
    evaluation = ope.evaluate_log(log_of(of, episodes), 1.0, key=jax.random.key(seed), estimators=(ESTIMATOR,))
    judged = evaluation.estimates[ESTIMATOR]
    fields = ("value", "low", "high", "effective_sample_size", "trust", "verdict", "difference", "better")
    found = {name: getattr(judged, name) for name in (*fields, "difference_low", "difference_high")}
    return {"seed": seed, "horizon": of["horizon"], "truth": truth, **found}


def bandit(rng: np.random.Generator, name: str, n: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Log-weights and rewards of a log, and the target's value."""
    mu, pi, q = map(np.array, BANDITS[name])
    action = rng.choice(len(mu), n, p=mu)
    return np.log(pi / mu)[action], 1.0 * (rng.random(n) < q[action]), float(pi @ q)


def lower_bounds(log_weight: np.ndarray, reward: np.ndarray, seed: int) -> dict[str, float]:
    """Every kind of bound."""
    arrays = np.float32(log_weight)[None], np.float32(reward)[None], 1.0
    estimate = ope.ordinary_is(*arrays)
    unit = {"low": 0.0, "high": 1.0}
    return {
        "truncated (Thomas)": ope.truncated_lower_bound(log_weight, reward, low=0.0),
        "self-normalized (ESLB)": ope.self_normalized_lower_bound(log_weight, reward, **unit),
        "confidence sequence": float(ope.lower_confidence_sequence(log_weight, reward, **unit)[-1]),
        "empirical likelihood": ope.empirical_likelihood_lower_bound(log_weight, reward, low=0.0),
        "Student": float(ope.student_lower_bound(estimate)),
        "BCa": bca_lower_bound(np.exp(log_weight) * reward, seed),
    }


def bca_lower_bound(x: np.ndarray, seed: int, resamples: int = 500) -> float:
    """Of a mean, in plain NumPy (Efron & Tibshirani 1993, section 14.3): nothing is compiled for each of many logs."""
    rng = np.random.default_rng(seed)
    drawn = rng.choice(x, (resamples, len(x))).mean(1)
    middle = special.ndtri(np.clip(np.mean(drawn < x.mean()), 0.5 / resamples, 1.0 - 0.5 / resamples))
    influence = x.mean() - x
    skewness = -np.sum(influence**3) / (6.0 * max(np.sum(influence**2), 1e-300) ** 1.5)
    z = middle + special.ndtri(1.0 - LEVEL)
    return float(np.quantile(drawn, special.ndtr(middle + z / (1.0 - skewness * z))))


def coverage(repetitions: int, sizes: tuple[int, ...]) -> list[dict]:
    """How often each bound holds, and where it lies in the mean."""
    rows = []
    for case in BANDITS:
        for n in sizes:
            rng = np.random.default_rng([COVERAGE_SEED, n, len(rows)])
            found: dict[str, list[float]] = {}
            for seed in range(repetitions):
                log_weight, reward, truth = bandit(rng, case, n)
                for name, bound in lower_bounds(log_weight, reward, seed).items():
                    found.setdefault(name, []).append(bound)
            held = {name: float(np.mean(np.array(x) <= truth)) for name, x in found.items()}
            mean = {name: float(np.mean(x)) for name, x in found.items()}
            rows.append({"bandit": case, "episodes": n, "truth": truth, "held": held, "mean": mean})
    return rows


def alike(repetitions: int, n: int) -> dict:
    """Policies that are worth the same: how many logs call the target better, or worse."""
    rng = np.random.default_rng(NULL_SEED)
    answers = []
    for i in range(repetitions):
        action = rng.choice(3, n, p=[0.5, 0.3, 0.2])
        log_rho = np.log(np.array([0.2, 0.3, 0.5]) / [0.5, 0.3, 0.2])[action][None]
        log = LoggedEpisodes(log_rho, 1.0 * (rng.random((1, n)) < 0.2), np.ones((1, n), bool))
        evaluation = ope.evaluate_log(log, 1.0, key=jax.random.key(i), estimators=("weighted_is",), resamples=500)
        answers.append(evaluation.estimates["weighted_is"].better)
    return {word: answers.count(word) / repetitions for word in ("yes", "no", "unclear")} | {"logs": repetitions}


def measure(quick: bool) -> dict:
    episodes, repetitions, sizes, same = (200, 3, (50,), 5) if quick else (1000, 100, (100, 1000), 300)
    return {
        "seeds": {"processes": list(SEEDS), "coverage": COVERAGE_SEED, "alike": NULL_SEED},
        "level": LEVEL,
        "estimator": ESTIMATOR,
        "verdicts": [verdict(seed, episodes) for seed in (SEEDS[:3] if quick else SEEDS)],
        "coverage": coverage(repetitions, sizes),
        "alike": alike(same, 300),
        "open_bandit": {} if quick else open_bandit.measure(),
    }


def is_wrong(of: dict) -> bool:
    """Whether better was called worse, or the other way round."""
    gain = of["truth"]["value"] - of["truth"]["what_ran"]
    return (of["better"] == "yes" and gain <= 0) or (of["better"] == "no" and gain >= 0)


def answer(result: dict) -> str:
    verdicts = result["verdicts"]
    sure = [of for of in verdicts if of["better"] != "unclear"]
    trusted = [of for of in verdicts if of["trust"] != "no"]
    held = sum(of["low"] <= of["truth"]["value"] <= of["high"] for of in trusted)
    wrong = sum(map(is_wrong, verdicts))
    return (
        f"Of {len(verdicts)} verdicts on logs that nobody tuned on {len(sure)} say better or worse, {wrong} of them "
        f"wrongly, and {held} of the {len(trusted)} intervals that are not called untrustworthy hold the true value; "
        f"where two policies are worth the same, {result['alike']['yes']:.1%} of logs call the target better"
    ).replace("%", " %") + "."


def details(result: dict) -> str:
    names = list(result["coverage"][0]["held"])
    worst = {name: min(row["held"][name] for row in result["coverage"]) for name in names}
    mean = {name: np.mean([row["mean"][name] / row["truth"] for row in result["coverage"]]) for name in names}
    bounds = "; ".join(f"{name} {worst[name]:.2f} and {mean[name]:.2f}" for name in names)
    said = f"Lower bounds of 95 %: the least share that held among six cases, and their mean over the truth: {bounds}."
    for campaign, of in result["open_bandit"].items():
        said += (
            f" Open Bandit, {campaign}, uniform choice from a log of Thompson sampling: IPW {of['ipw']:.7f}, SNIPW "
            f"{of['snipw']:.7f}, effective sample size {of['effective_sample_size']:.4g}, truth {of['truth']:.4f}, "
            f"trust it: *{of['trust']}*."
        )
    return said


def draw(result: dict) -> Figure:
    """Differences with their bounds beside the truth, and bounds' coverage."""
    drawing, ((differences, held),) = panels(1, 2, (10, 3.8))
    colors = {"yes": GREEN, "no": RED, "unclear": ORANGE}
    for i, of in enumerate(result["verdicts"]):
        color = colors[of["better"]]
        ends = [[of["difference"] - of["difference_low"]], [of["difference_high"] - of["difference"]]]
        differences.errorbar([of["difference"]], [i], xerr=ends, fmt="o", color=color, capsize=3, markersize=4)
        differences.plot([of["truth"]["value"] - of["truth"]["what_ran"]], [i], "kx", markersize=6)
    for word, color in colors.items():
        differences.plot([], [], "o", color=color, label=f"better: {word}")
    differences.plot([], [], "kx", label="truth")
    differences.axvline(0.0, color="black", linewidth=0.8)
    named = [f"seed {of['seed']}, T = {of['horizon']}" for of in result["verdicts"]]
    differences.set(xscale="symlog", yticks=range(len(named)), yticklabels=named, xlabel="value − value of what ran")
    differences.tick_params(axis="y", labelsize=7)
    title(differences, "Better than what ran?")
    legend(differences, loc="best")
    names = list(result["coverage"][0]["held"])
    for place, name in enumerate(names):
        shares = [row["held"][name] for row in result["coverage"]]
        held.plot([place] * len(shares), shares, "o", color=BLUE, alpha=0.6, markersize=5)
    exact(held, [-0.5, len(names) - 0.5], [LEVEL] * 2, "as promised: 0.95")
    held.set(ylim=(0.8, 1.01), ylabel="share of the bounds that hold", xticks=range(len(names)))
    held.set_xticklabels(names, rotation=25, ha="right", fontsize=7)
    title(held, "Lower bounds, six cases each")
    legend(held, loc="lower left")
    return drawing


EXPERIMENT = Experiment(
    HERE,
    "Are verdicts on logs right: whether to trust an estimate, and whether the target is better than what ran?",
    measure,
    answer,
    details,
    draw,
)

if __name__ == "__main__":
    run(EXPERIMENT, __doc__)
