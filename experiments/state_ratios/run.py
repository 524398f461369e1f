"""Ratios of state distributions in place of products of ratios: errors by horizon, classic cases, policy gradients.

The corridor, ModelFail, ModelWin and SinglePath have exact values and, for plain products, exact errors; ICU-Sepsis has
713 states of patients and exact values by linear systems (`--quick` leaves it out; otherwise pip fetches its tables).

    python -m experiments.state_ratios.run [--quick | --redraw]
"""

from pathlib import Path

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.drawing import BLACK, BLUE, GREEN, ORANGE, PURPLE, RED, exact, legend, panels, title
from experiments.experiment import Experiment, run
from experiments.state_ratios import evaluating, gradients, processes

HERE = Path(__file__).parent
SEED = 0
HORIZONS, LENGTHS = (5, 10, 20, 50, 100, 200), (5, 10, 20, 40)
COUNTS = (10, 100, 1000, 10_000)
CASES = {
    "ModelFail": processes.model_fail(),
    "ModelFail, late": processes.model_fail(late=True),
    "ModelWin 10": processes.model_win(10),
    "ModelWin 20": processes.model_win(20),
    "ModelWin 10, .99": processes.model_win(10, 0.99),
    "SinglePath": processes.single_path(),
}
LOOKS = {
    "ordinary_is": {"color": RED, "linestyle": "solid"},
    "per_decision_is": {"color": ORANGE, "linestyle": "solid"},
    "weighted_is": {"color": RED, "linestyle": "dashed"},
    "weighted_per_decision_is": {"color": ORANGE, "linestyle": "dashed"},
    "marginalized_is": {"color": BLUE, "linestyle": "solid"},
    "self-normalized marginalized_is": {"color": BLUE, "linestyle": "dashed"},
    "stationary_is": {"color": GREEN, "linestyle": "solid"},
}
WHOSE = {"true": "true state ratio", "estimated": "estimated", "product": "product of ratios", "none": "left out"}
WEIGHTS = {
    "true": {"color": BLUE, "linestyle": "solid"},
    "estimated": {"color": GREEN, "linestyle": "solid"},
    "product": {"color": RED, "linestyle": "solid"},
    "none": {"color": PURPLE, "linestyle": "dashed"},
}


def measure(quick: bool) -> dict:
    horizons, lengths, counts = (x[:2] if quick else x for x in (HORIZONS, LENGTHS, COUNTS))
    cases = dict(list(CASES.items())[:1] if quick else CASES)
    names = ["ordinary_is", "marginalized_is"] if quick else list(LOOKS)
    states = {"seed": SEED, "num_states": 6}
    result: dict = {"seed": SEED, "episodes": evaluating.EPISODES, "horizons": {}, "cases": {}, "verdicts": {}}
    for length in horizons:
        options = {"rows": horizons[-1], "names": names, "with_intervals": False} | states
        found = evaluating.errors(processes.corridor(length), 5 if quick else 40, **options)
        result["horizons"][str(length)] = found
    error = [evaluating.ratio_error(processes.corridor(10), count, seed=SEED) for count in counts]
    result["convergence"] = {"episodes": list(counts), "error": error}
    for name, process in cases.items():
        options = {"rows": 20, "names": names if quick else evaluating.ALL, "with_intervals": True} | states
        result["cases"][name] = evaluating.errors(process, 5 if quick else 100, **options)
        if not quick:
            result["verdicts"][name] = evaluating.verdicts(process, seed=SEED, rows=20)
    if not quick:
        result["icu"] = measure_icu()
    result["gradients"] = {
        str(length): gradients.errors(processes.corridor(length), 20 if quick else 200, seed=SEED, rows=lengths[-1])
        for length in lengths
    }
    return result


def measure_icu() -> dict:
    """From ten logs of clinicians."""
    process, known = processes.icu_sepsis(evaluating.ICU_STEPS, share=evaluating.ICU_SHARE)
    options = {"rows": evaluating.ICU_STEPS, "names": [*LOOKS, *evaluating.MODEL], "with_intervals": True}
    found = evaluating.errors(process, 10, seed=SEED, num_states=713, **options)
    return {"share": evaluating.ICU_SHARE, "steps": evaluating.ICU_STEPS, "known": known} | found


def relative_error(found: dict, name: str) -> float:
    return float(np.sqrt(found[name]["mean_squared_error"]) / abs(found["value"]))


def answer(result: dict) -> str:
    last = list(result["horizons"])[-1]
    found, slopes = result["horizons"][last], result["gradients"]
    far = list(slopes)[-1]
    plain = np.sqrt(found["exact"]["ordinary_is"] / result["episodes"]) / found["value"]
    return (
        f"Yes: over {last} steps the relative error of ordinary importance sampling from {result['episodes']:,} "
        f"episodes is {plain:,.3g}, of marginalized {relative_error(found, 'marginalized_is'):.2g}; and over {far} "
        f"steps the relative variance of a policy gradient is {slopes[far]['product']['variance']:,.3g} with products, "
        f"{slopes[far]['estimated']['variance']:.2g} with estimated state ratios, where leaving them out costs a bias "
        f"of {100 * slopes[far]['none']['bias']:.0f} %."
    )


def details(result: dict) -> str:
    rows = []
    for name, found in result["cases"].items():
        for of in found["estimators"]:
            x = found[of]
            known = found["exact"].get(of)
            rows.append(
                f"| {name} | {of} | {x['bias']:+.3g} | {result['episodes'] * x['mean_squared_error']:.4g} | "
                f"{'' if known is None else format(known, '.4g')} | {100 * x['coverage']:.0f} % | "
                f"{result['verdicts'].get(name, {}).get(of, '')} |"
            )
    table = "| case | estimator | bias | n · MSE | exact | coverage | trust |\n" + "| --- " * 7 + "|\n"
    shrinks = result["convergence"]["error"]
    return (
        f"Estimated ratios d^π_t/d^μ_t of the corridor are off by {shrinks[0]:.2g} from {COUNTS[0]} episodes and by "
        f"{shrinks[-1]:.2g} from {result['convergence']['episodes'][-1]:,} (root mean square over steps and states, "
        f"weighted by d^μ). {details_icu(result)}Below, {result['episodes']:,} episodes a run; the model of the doubly "
        "robust ones is half the truth; coverage is that of Student's 95 % intervals, trust the verdict on one log. "
        "ModelFail hides its states: where the reward comes a step later, a ratio of what was seen is that of other "
        f"states, and marginalized estimates are wrong with certainty.\n\n{table}" + "\n".join(rows)
    )


def details_icu(result: dict) -> str:
    if "icu" not in result:
        return ""
    found = result["icu"]
    errors = ", ".join(
        f"{name} {relative_error(found, name):.2g} (bias {found[name]['bias']:+.2g}, coverage "
        f"{100 * found[name]['coverage']:.0f} %)"
        for name in found["estimators"]
    )
    return (
        f"ICU-Sepsis (clinicians {found['known']['clinicians']:.2f}, random {found['known']['random']:.2f}, optimal "
        f"{found['known']['optimal']:.2f}), clinicians' log, best treatment with odds {found['share']:g} (exact value "
        f"{found['value']:.4f}): relative errors {errors}. "
    )


def draw(result: dict) -> Figure:
    drawing, axes = panels(2, 2, (11, 7.6))
    draw_horizons(axes[0, 0], result)
    draw_convergence(axes[0, 1], result["convergence"])
    draw_gradients(axes[1], result["gradients"])
    return drawing


def draw_horizons(panel: Axes, result: dict) -> None:
    found = result["horizons"]
    steps = [int(name) for name in found]
    for name in found[str(steps[0])]["estimators"]:
        look = LOOKS[name]
        panel.plot(steps, [relative_error(x, name) for x in found.values()], marker="o", label=name, **look)
    for name in ("ordinary_is", "per_decision_is"):
        known = [np.sqrt(x["exact"][name] / result["episodes"]) / x["value"] for x in found.values()]
        exact(panel, steps, known, "exact, of plain products" if name == "ordinary_is" else "", linestyle="dotted")
    panel.set(xscale="log", yscale="log", xlabel="steps of an episode", ylabel="relative error")
    panel.set_xticks(steps, [str(x) for x in steps], minor=False)
    panel.set_xticks([], minor=True)
    title(panel, f"A corridor of 6 states, {result['episodes']:,} episodes")
    legend(panel)


def draw_convergence(panel: Axes, found: dict) -> None:
    panel.plot(found["episodes"], found["error"], marker="o", color=BLUE, label="state_ratios")
    first = found["error"][-1] * np.sqrt(found["episodes"][-1])
    exact(panel, found["episodes"], first / np.sqrt(found["episodes"]), "1 / √n")
    panel.set(xscale="log", yscale="log", xlabel="episodes", ylabel="error of the ratios (root mean square)")
    title(panel, "Estimated ratios against exact ones, 10 steps")
    legend(panel)


def draw_gradients(both: np.ndarray, found: dict) -> None:
    steps = [int(name) for name in found]
    for panel, what in zip(both, ("bias", "variance"), strict=True):
        for name, look in WEIGHTS.items():
            panel.plot(steps, [x[name][what] for x in found.values()], marker="o", label=WHOSE[name], **look)
        panel.set(xscale="log", yscale="log", xlabel="steps of an episode", ylabel=f"{what}, relative to the gradient")
        panel.set_xticks(steps, [str(x) for x in steps], minor=False)
        panel.set_xticks([], minor=True)
        title(panel, f"Off-policy policy gradient: {what}")
    noise = [np.sqrt(x["true"]["variance"] / x["batches"]) for x in found.values()]
    exact(both[0], steps, noise, "noise of the measurement (true ratio)", color=BLACK, linestyle="dotted")
    legend(both[0])


EXPERIMENT = Experiment(
    HERE,
    "Do ratios of state distributions break the curse of the horizon that products of ratios are under?",
    measure,
    answer,
    details,
    draw,
)

if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    run(EXPERIMENT, __doc__)
