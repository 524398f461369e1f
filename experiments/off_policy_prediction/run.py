"""Corrected returns against exact values: the collision task, and the counterexample of Baird.

Step sizes of the collision task are chosen on other seeds than those that are reported.

    python -m experiments.off_policy_prediction.run [--quick | --redraw]
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.drawing import BLACK, BLUE, GREEN, ORANGE, PURPLE, RED, band, exact, panels, title
from experiments.experiment import Experiment, run, summary
from experiments.off_policy_prediction import baird, collision
from experiments.off_policy_prediction.methods import METHODS
from isjax.stats import interquartile_mean

HERE = Path(__file__).parent
CHOOSING_SEED, REPORTED_SEED, BAIRD_SEED = 0, 1, 2
STEP_SIZES = tuple(2.0**-k for k in range(9))
ODDS = {"collision": 1.0, "soft collision": 0.8}
UNROLL, BOOK_STEP_SIZE, TABLE_STEP_SIZE, LARGEST_RATIO = 10, 0.01, 0.1, 7.0
LAMBDAS = tuple(float(x) for x in np.linspace(0.0, 1.0, 21))
LOOKS = {
    "one-step TD": {"color": BLACK, "linestyle": "dotted"},
    "per-decision IS": {"color": RED, "linestyle": "solid"},
    "V-trace": {"color": BLUE, "linestyle": "solid"},
    "Retrace": {"color": ORANGE, "linestyle": "dashed"},
    "tree backup": {"color": GREEN, "linestyle": "dashdot"},
}


def collide(odds: float, runs: int, episodes: int) -> dict:
    """Every method at its best step size, and the mean error at each."""
    true = collision.exact(collision.target(odds))
    limit = collision.vtrace_fixed_point(collision.target(odds))
    shown = np.unique(np.round(np.geomspace(1, episodes, 40)).astype(int))
    found: dict = {
        "exact": true.tolist(),
        "vtrace_fixed_point": limit.tolist(),
        "vtrace_bias": float(collision.root_mean_square(limit - true)),
        "episodes": shown.tolist(),
    }
    choosing, reported = (jax.random.split(jax.random.key(seed), runs) for seed in (CHOOSING_SEED, REPORTED_SEED))
    for name in METHODS:
        chosen = collision.errors(name, choosing, jnp.asarray(STEP_SIZES), odds=odds, episodes=episodes)
        best = int(np.argmin(interquartile_mean(jnp.mean(chosen, 2))))
        errors = np.asarray(collision.errors(name, reported, jnp.asarray(STEP_SIZES), odds=odds, episodes=episodes))
        found[name] = {
            "step_size": STEP_SIZES[best],
            "error": summary(errors[:, best, shown - 1]),
            "mean_error_by_step_size": summary(errors.mean(2)),
        }
    return found


def counterexample(runs: int, steps: int, *, tabular: bool) -> dict:
    """The root mean squared value along the way; intervals are those of its logarithm."""
    keys = jax.random.split(jax.random.key(BAIRD_SEED), runs)
    task, unrolls = baird.problem(tabular=tabular), steps // UNROLL
    shown = np.unique(np.linspace(0, unrolls, 41).astype(int))
    found: dict = {"steps": (shown * UNROLL).tolist()}
    for name in METHODS:
        step_size = BOOK_STEP_SIZE
        if tabular:  # the same product of step size and largest ratio for all
            step_size = TABLE_STEP_SIZE * (1.0 if name in baird.TRACES else LARGEST_RATIO)
        errors = baird.errors(name, task, keys, step_size, unrolls=unrolls, steps=UNROLL)
        logs = summary(np.log10(np.maximum(np.asarray(errors)[:, shown], 1e-30)))
        found[name] = {"step_size": step_size} | {end: (10.0 ** np.asarray(x)).tolist() for end, x in logs.items()}
    return found


def measure(quick: bool) -> dict:
    runs, episodes, steps, table_steps = (10, 50, 200, 200) if quick else (50, 2000, 2000, 50_000)
    tasks = list(ODDS)[1:] if quick else list(ODDS)
    return {
        "seeds": {"choosing": CHOOSING_SEED, "reported": REPORTED_SEED, "baird": BAIRD_SEED, "runs_of_each": runs},
        "step_sizes": list(STEP_SIZES),
        "unroll": UNROLL,
        **{name: collide(ODDS[name], runs, episodes) for name in tasks},
        "baird": counterexample(runs, steps, tabular=False),
        "baird_table": counterexample(runs, table_steps, tabular=True),
        "growth": {"lambda": list(LAMBDAS)} | {name: [baird.growth(name, x) for x in LAMBDAS] for name in METHODS},
    }


def answer(result: dict) -> str:
    soft, linear = result["soft collision"], result["baird"]
    return (
        f"{answer_collision(result)}with a soft one V-trace keeps an error of "
        f"{soft['V-trace']['error']['value'][-1]:.2g}, near the bias of its fixed point ({soft['vtrace_bias']:.2g}), "
        f"where per-decision IS has {soft['per-decision IS']['error']['value'][-1]:.2g}; and with Baird's features all "
        f"diverge, V-trace to {linear['V-trace']['value'][-1]:,.0f} where one-step TD is at "
        f"{linear['one-step TD']['value'][-1]:,.0f}."
    )


def answer_collision(result: dict) -> str:
    """Of the task with a deterministic target, which `--quick` leaves out."""
    if "collision" not in result:
        return ""
    found = {name: result["collision"][name]["mean_error_by_step_size"]["value"] for name in METHODS}
    return (
        "With a deterministic target V-trace, Retrace and tree backup are one method and the quickest (mean error "
        f"{min(found['V-trace']):.3f}, one-step TD {min(found['one-step TD']):.3f}, per-decision IS "
        f"{min(found['per-decision IS']):.3f}); "
    )


def details(result: dict) -> str:
    soft, linear, table, growth = (result[name] for name in ("soft collision", "baird", "baird_table", "growth"))
    ends = [(name, soft[name]["error"]) for name in METHODS]
    errors = ", ".join(f"{name} {x['value'][-1]:.2g} [{x['low'][-1]:.2g}, {x['high'][-1]:.2g}]" for name, x in ends)
    tamed = min(x for x, rate in zip(growth["lambda"], growth["per-decision IS"], strict=True) if rate < 1e-9)
    slower = growth["one-step TD"][0] / growth["V-trace"][0]
    values = {name: linear[name]["value"][-1] for name in METHODS}
    return (
        f"With a soft target, after {soft['episodes'][-1]:,} episodes: {errors}; action values of deterministic "
        f"transitions have no noise left. Baird's features: after {linear['steps'][-1]:,} steps values "
        f"of 0, first {linear['V-trace']['value'][0]:.1f}, are {values['one-step TD']:,.0f} with semi-gradient TD, "
        f"{values['per-decision IS']:,.0f} per-decision in unrolls of {result['unroll']} and {values['V-trace']:,.0f} "
        f"with the rest, whose clipped or cut corrections diverge {slower:.0f} times slower; in endless unrolls the "
        f"expected update of per-decision IS stops diverging from λ = {tamed:g} on. With a table all converge (V-trace "
        f"{table['V-trace']['value'][-1]:.2g}, per-decision IS {table['per-decision IS']['value'][-1]:.2g} after "
        f"{table['steps'][-1]:,} steps)."
    )


def draw(result: dict) -> Figure:
    drawing, axes = panels(2, 3, (13, 7.8))
    for panel, name in zip(axes[0], [name for name in ODDS if name in result], strict=False):
        draw_errors(panel, result[name], name)
    draw_step_sizes(axes[0, 2], result["soft collision"], result["step_sizes"])
    draw_values(axes[1, 0], result["baird"], "Baird's features, unrolls of 10: all diverge")
    draw_growth(axes[1, 1], result["growth"])
    draw_values(axes[1, 2], result["baird_table"], "Baird's problem with a table")
    handles, labels = axes[1, 0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=10)
    return drawing


def draw_errors(panel: Axes, found: dict, task: str) -> None:
    for name, look in LOOKS.items():
        band(panel, found["episodes"], found[name]["error"], **look, marker=None)
    if found["vtrace_bias"] > 1e-6:
        exact(panel, found["episodes"], [found["vtrace_bias"]] * len(found["episodes"]), "", color=PURPLE)
        panel.text(0.8, found["vtrace_bias"] * 0.5, "bias of V-trace's\nfixed point", color=PURPLE, fontsize=9)
    else:
        panel.text(40, 0.3, "V-trace, Retrace and tree\nbackup are one method here", fontsize=9)
    panel.set(xscale="log", yscale="log", ylim=(1e-3, 1), xlabel="episodes", ylabel="error of the values (IQM)")
    title(panel, f"{task.capitalize()}, each at its best step size")


def draw_step_sizes(panel: Axes, found: dict, step_sizes: list[float]) -> None:
    for name, look in LOOKS.items():
        band(panel, step_sizes, found[name]["mean_error_by_step_size"], **look, markersize=4)
    panel.set(xscale="log", ylim=(0, 0.6), xlabel="step size", ylabel="mean error over all episodes (IQM)")
    title(panel, "Soft collision, by step size")


def draw_values(panel: Axes, found: dict, text: str) -> None:
    for name, look in LOOKS.items():
        band(panel, found["steps"], found[name], **look, marker=None, label=name)
    panel.set(yscale="log", xlabel="steps", ylabel="root mean squared value (true: 0)")
    title(panel, text)


def draw_growth(panel: Axes, growth: dict) -> None:
    for name, look in LOOKS.items():
        panel.plot(growth["lambda"], growth[name], **look)
    panel.axhline(0.0, color=BLACK, linewidth=0.8)
    panel.text(0.02, -0.012, "at 0: the expected update converges", fontsize=9, va="top")
    panel.set(ylim=(-0.04, 0.26), xlabel="λ (one-step TD: 0)", ylabel="growth of the expected update")
    title(panel, "Baird's features, endless unrolls, exact")


EXPERIMENT = Experiment(
    HERE,
    "Do corrected returns learn the values of another policy: which quickest, with what bias, and when not at all?",
    measure,
    answer,
    details,
    draw,
)

if __name__ == "__main__":
    run(EXPERIMENT, __doc__)
