"""How often one batch can be learned from, by objective.

CartPole, the same batches of 8 × 64 rows, each learned from in so many epochs of four minibatches (whole batches for
products of ratios, which need rows in order), with one step size for all: that of isjax's PPO. Five objectives: the
plain policy gradient, which takes the rows for its own however often it has learned from them; products of ratios;
the clipped surrogate; the surrogate with an adaptive KL penalty; and TRPO, whose policy takes one step in its trust
region while its critic alone makes the epochs. Stability is the return of the worst tenth of the learners.

    python -m experiments.sample_reuse.run [--quick | --redraw]
"""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.drawing import BLUE, GRAY, GREEN, ORANGE, RED, band, legend, panels, title
from experiments.experiment import Experiment, run, summary
from experiments.learners import final_returns
from isjax.learner.defaults import defaults

HERE = Path(__file__).parent
OBJECTIVES = {
    "plain": ("a2c", GRAY),
    "products of ratios": ("pg-is", ORANGE),
    "clipped": ("ppo", BLUE),
    "KL penalty": ("ppo-kl", GREEN),
    "trust region": ("trpo", RED),
}
EPOCHS = (1, 2, 4, 8, 16, 32)
STEPS, LEARNERS, SEED = 100_000, 20, 0
LOST = 100.0
"""A learner below this return at the end counts as lost."""


def worst_tenth(x: jnp.ndarray) -> jnp.ndarray:
    """Mean of the lowest tenth over the first axis."""
    return jnp.mean(jnp.sort(x, 0)[: max(1, x.shape[0] // 10)], 0)


def measure(quick: bool) -> dict:
    epochs = (2,) if quick else EPOCHS
    config, hyper = defaults("CartPole-v1", "ppo")
    # The advantages of a2c and of products change with every gradient step, so that no objective standardizes its own.
    config = dataclasses.replace(config, normalize_advantages=False)
    found = {}
    for name, (algorithm, _) in OBJECTIVES.items():
        rows = []
        for count in epochs:
            changes = dict(algorithm=algorithm, epochs=count, steps=1024 if quick else STEPS)
            if algorithm == "pg-is":
                changes |= dict(minibatches=1)
            if algorithm == "trpo":
                changes |= dict(share_torso=False)
            changed = dataclasses.replace(config, **changes)
            rows.append(final_returns(changed, hyper, 2 if quick else LEARNERS, SEED))
            print(name, count, np.round(rows[-1]), flush=True)
        returns = np.stack(rows, 1)
        found[name] = {
            "died": np.isnan(returns).sum(0).tolist(),
            "returns": np.nan_to_num(returns, nan=0.0).T.tolist(),
            "iqm": summary(np.nan_to_num(returns, nan=0.0)),
            "worst": summary(np.nan_to_num(returns, nan=0.0), worst_tenth),
        }
    return {"seed": SEED, "learners": LEARNERS, "steps": STEPS, "epochs": list(epochs), "objectives": found}


def answer(result: dict) -> str:
    last = {name: np.asarray(found["returns"][-1]) for name, found in result["objectives"].items()}
    plain = last.pop("plain")
    return (
        f"{result['epochs'][-1]} times by every objective that corrects for it, whose worst learner is at "
        f"{min(x.min() for x in last.values()):.0f}; of the plain gradient's {plain.size} learners "
        f"{(plain < LOST).sum()} ends below {LOST:g}, the worst at {plain.min():.0f}."
    )


def details(result: dict) -> str:
    epochs = result["epochs"]
    shown = [i for i, count in enumerate(epochs) if count in (1, 4, 8, 32)] or [0]
    parts = []
    for name, found in result["objectives"].items():
        values = ", ".join(f"{found['iqm']['value'][i]:.0f}" for i in shown)
        least = np.min(found["returns"][-1])
        parts.append(f"{name} {values} (worst tenth {found['worst']['value'][-1]:.0f}, worst learner {least:.0f})")
    return (
        f"IQM returns of {result['learners']} learners on CartPole after {result['steps']:,} steps with "
        f"{', '.join(str(epochs[i]) for i in shown)} epochs, and the worst with {epochs[-1]}: {'; '.join(parts)}."
    )


def draw(result: dict) -> Figure:
    drawing, ((center, worst),) = panels(1, 2, (11, 4.2))
    for name, found in result["objectives"].items():
        for panel, what in ((center, "iqm"), (worst, "worst")):
            band(panel, result["epochs"], found[what], color=OBJECTIVES[name][1], label=name)
    for panel, text in ((center, "Return (IQM)"), (worst, "Stability: the worst tenth of the learners")):
        panel.set_xscale("log", base=2)
        panel.set_xticks(result["epochs"], [str(x) for x in result["epochs"]])
        panel.set(xlabel="epochs a batch", ylabel="return", ylim=(0, 515))
        title(panel, text)
    legend(center, loc="lower right")
    return drawing


EXPERIMENT = Experiment(HERE, "How often can one batch be learned from, by objective?", measure, answer, details, draw)

if __name__ == "__main__":
    run(EXPERIMENT, __doc__)
