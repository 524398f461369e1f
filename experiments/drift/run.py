"""How far the states of two policies drift apart, and what the bounds on it promise.

Everything is exact, in float64: distributions of the state by powers of the transition matrix, values by solving the
Bellman equation. Random problems have 10 states, 3 actions and 3 possible successors; the "trap" is the problem that
the bound is made for: the second policy leaves the only good state with odds ε, for good.

    python -m experiments.drift.run [--quick | --redraw]
"""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.drawing import BLACK, BLUE, GRAY, GREEN, ORANGE, RED, exact, legend, panels, title
from experiments.experiment import Experiment, run
from isjax.ops import state_drift_bound, surrogate_error_bound, total_variation_bound, trust_region_bound

HERE = Path(__file__).parent
STATES, ACTIONS, SUCCESSORS, DISCOUNT, SEED = 10, 3, 3, 0.9, 0
DRIFT_EPSILON, STEPS = 0.05, 60
EPSILONS = tuple(float(x) for x in np.geomspace(1e-3, 0.3, 16))
FOREVER = 300
"""Steps after which γ^t is 0 for all that matters."""


class Problem(NamedTuple):
    """A tabular Markov decision process."""

    transition: np.ndarray
    """`[S, A, S]`."""
    reward: np.ndarray
    """`[S, A]`, from 0 to 1."""
    start: np.ndarray
    """`[S]`."""


def random_problem(rng: np.random.Generator) -> Problem:
    transition = np.zeros((STATES, ACTIONS, STATES))
    for row in transition.reshape(-1, STATES):
        row[rng.choice(STATES, SUCCESSORS, replace=False)] = rng.dirichlet(np.ones(SUCCESSORS))
    return Problem(transition, rng.uniform(size=(STATES, ACTIONS)), rng.dirichlet(np.ones(STATES)))


def trap() -> Problem:
    """In the good state (reward 1) the first action stays, the second one leads to where nothing is won."""
    transition = np.zeros((2, 2, 2))
    transition[0, 0, 0] = transition[0, 1, 1] = transition[1, :, 1] = 1.0
    return Problem(transition, np.array([[1.0, 1.0], [0.0, 0.0]]), np.array([1.0, 0.0]))


def state_distributions(problem: Problem, policy: np.ndarray, steps: int) -> np.ndarray:
    """`[steps, S]`, the distribution of the state at each step, from t = 0 on."""
    matrix = np.einsum("sa,sat->st", policy, problem.transition)
    rows = [problem.start]
    for _ in range(steps - 1):
        rows.append(rows[-1] @ matrix)
    return np.stack(rows)


def advantages(problem: Problem, policy: np.ndarray) -> tuple[float, np.ndarray]:
    """The value of the start, and `A(s, a)`."""
    matrix = np.einsum("sa,sat->st", policy, problem.transition)
    v = np.linalg.solve(np.eye(len(matrix)) - DISCOUNT * matrix, np.sum(policy * problem.reward, 1))
    q = problem.reward + DISCOUNT * problem.transition @ v
    return float(problem.start @ v), q - v[:, None]


def towards_best(policy: np.ndarray, advantage: np.ndarray, epsilon: float) -> np.ndarray:
    """The mixture of a policy with the greedy one that lies ε away in its farthest state."""
    greedy = np.eye(policy.shape[1])[np.argmax(advantage, 1)]
    distance = np.max(np.sum(np.abs(greedy - policy), 1) / 2)
    return policy + epsilon / distance * (greedy - policy)


def measure_drift(problem: Problem, policy: np.ndarray, other: np.ndarray) -> np.ndarray:
    """`[STEPS]`, the L1 distance of the two distributions of the state."""
    return np.abs(state_distributions(problem, other, STEPS) - state_distributions(problem, policy, STEPS)).sum(1)


def improvement(problem: Problem, policy: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """What a step truly gains, what the surrogate says, and what each bound takes off it."""
    value, advantage = advantages(problem, policy)
    gain = advantages(problem, other)[0] - value
    expected = np.sum(other * advantage, 1)
    visits = DISCOUNT ** np.arange(FOREVER) @ state_distributions(problem, policy, FOREVER)
    epsilon = float(np.max(np.abs(other - policy).sum(1)) / 2)
    divergence = np.sum(other * np.log(other / policy), 1).max()
    return {
        "epsilon": epsilon,
        "epsilon_by_pinsker": float(total_variation_bound(divergence)),
        "true": gain,
        "surrogate": float(visits @ expected),
        "surrogate_bound": float(surrogate_error_bound(epsilon, DISCOUNT, FOREVER, np.abs(expected).max())),
        "trust_region_bound": float(trust_region_bound(epsilon, DISCOUNT, np.abs(advantage).max())),
    }


def measure(quick: bool) -> dict:
    with jax.enable_x64(True):
        return measured(20 if quick else 1000)


def measured(problems: int) -> dict:
    rng = np.random.default_rng(SEED)
    drifts, steps = [], []
    for _ in range(problems):
        problem, policy = random_problem(rng), rng.dirichlet(np.ones(ACTIONS), STATES)
        advantage = advantages(problem, policy)[1]
        drifts.append(measure_drift(problem, policy, towards_best(policy, advantage, DRIFT_EPSILON)))
        steps.append([improvement(problem, policy, towards_best(policy, advantage, each)) for each in EPSILONS])
    stays = np.array([[1.0, 0.0], [1.0, 0.0]])
    leaves = np.array([[1.0 - DRIFT_EPSILON, DRIFT_EPSILON], [1.0, 0.0]])
    bound = np.asarray(state_drift_bound(DRIFT_EPSILON, np.arange(STEPS)))
    columns = {name: np.array([[step[name] for step in each] for each in steps]) for name in steps[0][0]}
    return {
        "seed": SEED,
        "problems": problems,
        "discount": DISCOUNT,
        "drift": {
            "epsilon": DRIFT_EPSILON,
            "random": quantiles(np.stack(drifts)),
            "trap": measure_drift(trap(), stays, leaves).tolist(),
            "bound": bound.tolist(),
            "violations": int(np.sum(np.stack(drifts) > bound + 1e-9)),
        },
        "steps": steps_found(columns),
    }


def steps_found(columns: dict[str, np.ndarray]) -> dict:
    """`[problems, epsilons]` each: quantiles, and whether a bound was ever broken."""
    error = np.abs(columns["true"] - columns["surrogate"])
    bounds = {name: columns[f"{name}_bound"] for name in ("surrogate", "trust_region")}
    promised = {name: np.mean(columns["surrogate"] > bound, 0) for name, bound in bounds.items()}
    return {
        "epsilon": list(EPSILONS),
        "epsilon_by_pinsker": quantiles(columns["epsilon_by_pinsker"]),
        "true": quantiles(columns["true"]),
        "error": quantiles(error),
        **{f"{name}_bound": quantiles(bound) for name, bound in bounds.items()},
        "violations": {name: int(np.sum(error > bound + 1e-9)) for name, bound in bounds.items()},
        "promised": {name: share.tolist() for name, share in promised.items()},
        "improved": np.mean(columns["true"] > 0, 0).tolist(),
    }


def quantiles(x: np.ndarray) -> dict[str, list[float]]:
    """Median and the middle 95 % of the problems; nothing is sampled within a problem."""
    names = ("low", "value", "high")
    return dict(zip(names, np.quantile(x, (0.025, 0.5, 0.975), axis=0).tolist(), strict=True))


def largest_promised(steps: dict, name: str) -> float:
    """The largest step at which a bound still promises half of the problems an improvement; 0 if it never does."""
    kept = [each for each, share in zip(steps["epsilon"], steps["promised"][name], strict=True) if share >= 0.5]
    return max(kept, default=0.0)


def answer(result: dict) -> str:
    drift, half = result["drift"], STEPS // 2
    return (
        f"Never farther than 2(1 − (1 − ε)^t): {drift['violations']} of {result['problems']:,} random problems break "
        f"it and a trap attains it, while at ε = {drift['epsilon']:g} the median problem has drifted "
        f"{drift['random']['value'][half]:.3f} of the {drift['bound'][half]:.2f} allowed after {half} steps."
    )


def details(result: dict) -> str:
    drift, steps, half = result["drift"], result["steps"], STEPS // 2
    return (
        f"2εt is {2 * drift['epsilon'] * half:.0f} after {half} steps. TRPO's bound "
        f"holds everywhere ({steps['violations']['trust_region']} broken) and is loose: its median at ε = "
        f"{steps['epsilon'][0]:g} is {ratio(steps, 'trust_region', 0):,.0f} times the surrogate's error, and it "
        f"promises half of the problems an improvement up to ε = {largest_promised(steps, 'trust_region'):.2g} only, "
        f"while {100 * steps['improved'][-1]:.0f} % still improve at {steps['epsilon'][-1]:.1g}."
    )


def ratio(steps: dict, name: str, place: int) -> float:
    """How many times the surrogate's error a bound is, in the median."""
    return steps[f"{name}_bound"]["value"][place] / steps["error"]["value"][place]


def draw(result: dict) -> Figure:
    drawing, ((drift, error, promise),) = panels(1, 3, (13, 4.2))
    draw_drift(drift, result["drift"], result["problems"])
    draw_errors(error, result["steps"])
    epsilon = result["steps"]["epsilon"]
    for name, share, color in (
        ("in truth", result["steps"]["improved"], BLUE),
        ("by Σ γᵗ drift", result["steps"]["promised"]["surrogate"], GREEN),
        ("by TRPO's bound", result["steps"]["promised"]["trust_region"], RED),
    ):
        promise.plot(epsilon, share, marker="o", markersize=3.5, color=color, label=name)
    promise.set(xscale="log", ylim=(-0.03, 1.06), xlabel="size of the step, ε", ylabel="share of the problems")
    title(promise, "Which steps are sure to improve")
    legend(promise, loc="center right", bbox_to_anchor=(1.03, 0.5), handlelength=1.0)
    return drawing


def draw_drift(panel: Axes, drift: dict, problems: int) -> None:
    t = np.arange(STEPS)
    exact(panel, t, np.minimum(2 * drift["epsilon"] * t, 10), "2εt", color=GRAY)
    exact(panel, t, drift["bound"], "2(1 − (1 − ε)ᵗ)")
    panel.plot(t[::4], drift["trap"][::4], "o", color=ORANGE, markersize=4, label="the trap")
    panel.plot(t, drift["random"]["value"], color=BLUE, label=f"{problems:,} random problems (median, 95 %)")
    panel.fill_between(t, drift["random"]["low"], drift["random"]["high"], color=BLUE, alpha=0.18, linewidth=0)
    panel.set(ylim=(0, 2.1), xlabel="step t", ylabel="L1 distance of the states, at most 2")
    title(panel, f"Drift of the states, ε = {drift['epsilon']:g}")
    legend(panel, loc="lower right", bbox_to_anchor=(1.0, 0.08))


def draw_errors(panel: Axes, steps: dict) -> None:
    for name, label, color in (
        ("trust_region_bound", "TRPO's bound", RED),
        ("surrogate_bound", "Σ γᵗ drift bound", GREEN),
        ("true", "true improvement", BLUE),
        ("error", "error of the surrogate", BLACK),
    ):
        panel.plot(steps["epsilon"], steps[name]["value"], marker="o", markersize=3.5, color=color, label=label)
        low, high = (np.maximum(steps[name][end], 1e-9) for end in ("low", "high"))
        panel.fill_between(steps["epsilon"], low, high, color=color, alpha=0.12, linewidth=0)
    panel.set(xscale="log", yscale="log", ylim=(1e-8, None), xlabel="size of the step, ε", ylabel="value of the start")
    title(panel, "Improvement, and what may be off")
    legend(panel, loc="lower right")


EXPERIMENT = Experiment(
    HERE,
    "How far do the states of two close policies drift apart, and how much of that do the bounds see?",
    measure,
    answer,
    details,
    draw,
)

if __name__ == "__main__":
    run(EXPERIMENT, __doc__)
