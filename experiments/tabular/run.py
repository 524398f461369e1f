"""Tables of action values: on and off the policy, over one step and several, and what makes values diverge.

Step sizes of methods over several steps are chosen on other learners than those that are reported.

    python -m experiments.tabular.run [--quick | --redraw]
"""

import re
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.drawing import BLUE, BROWN, GRAY, GREEN, ORANGE, PURPLE, RED, band, exact, legend, panels, title
from experiments.experiment import Experiment, run
from experiments.tabular import measures

HERE = Path(__file__).parent
COLORS = {"SARSA": BLUE, "expected SARSA": GREEN, "Q-learning": RED}
LONG = {"n-step SARSA": BLUE, "tree backup": GREEN, "Q(½)": PURPLE, "SARSA(λ)": ORANGE, "Q-learning(λ)": RED}
OFF_POLICY = {"SARSA, ratios": BLUE, "Q(1)": ORANGE, "Q(½)": PURPLE, "tree backup": GREEN, "uncorrected": RED}
TRIAD = {
    "all three": RED,
    "without off-policy": BLUE,
    "without approximation": GREEN,
    "without bootstrapping": ORANGE,
}


def measure(quick: bool) -> dict:
    return {
        "seeds": measures.SEEDS,
        "cliff": measures.online(quick),
        "step_sizes": measures.step_sizes(quick),
        "longer": measures.longer(quick),
        "off_policy": measures.prediction(quick),
        "triad": measures.deadly(quick),
    }


def around(x: dict, place: int | None = None, form: str = ".1f") -> str:
    """A value with its interval."""
    value, low, high = (x[end] if place is None else x[end][place] for end in ("value", "low", "high"))
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def answer(result: dict) -> str:
    found, off, three = result["cliff"], result["off_policy"], result["triad"]
    late = {name: found[name]["late"]["value"] for name in COLORS}
    path = {name: usual(found[name])[0] for name in COLORS}
    n, uncorrected, backup = off["n"][-1], off["uncorrected"]["value"][-1], off["tree backup"]["value"][-1]
    diverged = three["all three"]["value"][-1]
    return typeset(
        f"On the cliff SARSA earns {late['SARSA']:.0f} an episode while it learns and Q-learning "
        f"{late['Q-learning']:.0f}, though its greedy path is the best one ({path['Q-learning']}) and SARSA's keeps "
        f"away from the edge ({path['SARSA']}); from another policy's steps {n}-step returns end at an error of "
        f"{uncorrected:.1f} without a correction and {backup:.2f} with tree backup; and any one part of the deadly "
        f"triad can be dropped, but with all three values grow to {diverged:.0g} where 0 is right."
    )


def typeset(text: str) -> str:
    """With a minus in front of numbers instead of a hyphen."""
    return re.sub(r"(?<![\w)])-(?=\d)", "−", text)


def usual(found: dict) -> tuple[str, float]:
    """The return of the most frequent greedy path that arrives, and its share."""
    shares = {total: share for total, share in found["paths"].items() if total != "nan"}
    best = max(shares, key=shares.get) if shares else "none"
    return typeset(best), shares.get(best, 0.0)


def details(result: dict) -> str:
    parts = details_of_one_step(result), details_of_several(result), details_of_triad(result["triad"])
    return typeset(" ".join(parts))


def details_of_one_step(result: dict) -> str:
    found, sizes = result["cliff"], result["step_sizes"]
    known, ends = found["exact"], {name: sizes["asymptotic"][name]["value"] for name in COLORS}
    late = ", ".join(f"{name} {around(found[name]['late'])}" for name in COLORS)
    best = ", ".join(f"{name} {max(sizes['interim'][name]['value']):.0f}" for name in COLORS)
    paths = "; ".join(f"{name} {shares(found[name])}" for name in COLORS)
    known_best, known_soft = known["Q-learning"], known["expected SARSA"]
    return (
        f"Returns of the last fifth of {found['episodes'][-1]} episodes on the cliff (ε = {found['epsilon']:g}, α = "
        f"{found['step_size']:g}, {found['learners']} learners): {late}. Exact: the ε-greedy policy of the best values "
        f"earns {known_best:.1f}, the best of all ε-soft policies {known_soft:.1f}, whose greedy path is one row from "
        f"the edge, at {known['soft_optimal_path']:g}. Greedy paths that arrive, by return: {paths}. The first "
        f"{sizes['episodes'][0]} episodes, at the best step size: {best}; late ones, at α = {sizes['step_sizes'][0]:g} "
        f"and {sizes['step_sizes'][-1]:g}: "
        f"{', '.join(f'{name} {x[0]:.0f} and {x[-1]:.0f}' for name, x in ends.items())}."
    )


def shares(found: dict) -> str:
    """Of the greedy paths that arrive."""
    arrived = [(total, share) for total, share in found["paths"].items() if total != "nan" and share >= 0.005]
    return ", ".join(f"{share:.0%} {total}" for total, share in arrived)


def details_of_several(result: dict) -> str:
    long, off = result["longer"], result["off_policy"]
    ns, lambdas = (", ".join(f"{x:g}" for x in long[name]) for name in ("n", "lambda"))
    returns = "; ".join(f"{name} " + ", ".join(f"{x:.0f}" for x in long[name]["value"]) for name in LONG)
    errors = "; ".join(f"{name} " + ", ".join(f"{x:.2f}" for x in off[name]["value"]) for name in OFF_POLICY)
    bias = ", ".join(f"{x:.2f}" for x in off["bias"])
    return (
        f"Returns of the first {long['episodes']} episodes by n = {ns} or λ = {lambdas}: {returns}. Errors of the "
        f"values of a random walk between corners (exactly −14 to −22), after {off['steps']:,} steps of a policy that "
        f"mostly goes down and right, by n: {errors}; what remains of uncorrected returns is, exactly, {bias}."
    )


def details_of_triad(found: dict) -> str:
    growth = ", ".join(f"{name} {found[name]['growth']:+.3f}" for name in TRIAD)
    alone, fits = found["first_state_alone"], found["least_squares"]
    return (
        f"Two states with values w and 2w (all true values 0): the expected update grows by {growth}. Updates of the "
        f"first state alone make w {alone['run']:.4g} times as large in {alone['updates']} (exactly "
        f"{alone['exact']:.4g}; it grows for γ > ½), and least-squares fits of expected returns, which sample nothing, "
        f"{fits['run']:.4g} times in {fits['sweeps']} (exactly {fits['exact']:.4g}; for γ > "
        f"{fits['diverges_above']:.3f})."
    )


def draw(result: dict) -> Figure:
    drawing, axes = panels(2, 3, (13.5, 8.0))
    draw_online(axes[0, 0], result["cliff"])
    draw_paths(axes[0, 1], result["cliff"])
    draw_step_sizes(axes[0, 2], result["step_sizes"])
    draw_longer(axes[1, 0], result["longer"])
    draw_off_policy(axes[1, 1], result["off_policy"])
    draw_triad(axes[1, 2], result["triad"])
    return drawing


def draw_online(panel: Axes, found: dict) -> None:
    ends = found["episodes"][0], found["episodes"][-1]
    for name, color in COLORS.items():
        band(panel, found["episodes"], found[name]["return"], color=color, marker=None, label=name)
        if name in found["exact"]:
            exact(panel, ends, [found["exact"][name]] * 2, "", color=color)
    panel.set(ylim=(-100, -10), xlabel="episodes", ylabel="return of an episode (mean)")
    panel.text(ends[1], -17, "dashed: exact", ha="right", fontsize=8)
    legend(panel, loc="lower right")
    title(panel, "Cliff walking, while learning")


def draw_paths(panel: Axes, found: dict) -> None:
    """The usual greedy path of each method, in the grid."""
    panel.grid(visible=False)
    for row, column in np.ndindex(4, 12):
        is_cliff = row == 3 and 0 < column < 11
        panel.add_patch(
            Rectangle((column, 3 - row), 1, 1, facecolor=GRAY if is_cliff else "white", edgecolor="#cccccc")
        )
    for shift, (name, color) in zip((0.12, 0.0, -0.12), COLORS.items(), strict=True):
        for path in found[name]["usual_path"]:
            rows, columns = np.divmod(np.array(path), 12)
            total, share = usual(found[name])
            label = f"{name}: {total} ({share:.0%} of learners)"
            panel.plot(columns + 0.5 + shift, 3.5 - rows + shift, color=color, linewidth=2, label=label)
    panel.text(6, 0.5, "cliff", ha="center", va="center", color="white", fontweight="bold")
    panel.text(0.5, 0.15, "start", ha="center", fontsize=8)
    panel.text(11.5, 0.15, "goal", ha="center", fontsize=8)
    panel.set(xlim=(0, 12), ylim=(-2.6, 4), xticks=[], yticks=[], aspect="equal")
    panel.spines[["left", "bottom"]].set_visible(False)
    legend(panel, loc="lower center")
    title(panel, "Usual greedy path after learning")


def draw_step_sizes(panel: Axes, found: dict) -> None:
    for name, color in COLORS.items():
        band(panel, found["step_sizes"], found["asymptotic"][name], color=color, label=name)
        band(panel, found["step_sizes"], found["interim"][name], color=color, linestyle="dotted", marker="s")
    x = f"step size (dotted: first {found['episodes'][0]} episodes; solid: late)"
    panel.set(ylim=(-165, 0), xlabel=x, ylabel="return of an episode (mean)")
    legend(panel, loc="lower center")
    title(panel, "Cliff walking by step size")


def draw_longer(panel: Axes, found: dict) -> None:
    horizons = range(len(found["n"]))
    for name, color in LONG.items():
        is_trace = name.endswith("(λ)")
        x = np.linspace(0, len(found["n"]) - 1, len(found["lambda"])) if is_trace else horizons
        band(panel, x, found[name], color=color, linestyle="dashed" if is_trace else "solid", label=name)
    lambdas = ", ".join(f"{x:g}" for x in found["lambda"])
    panel.set(
        xlabel=f"n (dashed: λ = {lambdas}, in equal steps)", ylabel=f"mean return, first {found['episodes']} episodes"
    )
    panel.set_xticks(list(horizons), [str(n) for n in found["n"]])
    legend(panel, loc="lower center", ncols=2)
    title(panel, "Cliff walking, more than one step, best α")


def draw_off_policy(panel: Axes, found: dict) -> None:
    for name, color in OFF_POLICY.items():
        band(panel, found["n"], found[name], color=color, label=name)
    # Of one step it is 0, which a logarithmic axis has not.
    exact(panel, measures.HORIZONS[1:], found["bias"][1:], "bias of uncorrected, exact", color=BROWN)
    panel.set(xscale="log", yscale="log", xlabel="n", ylabel="error of the values (mean)")
    panel.set_xticks(found["n"], [str(n) for n in found["n"]])
    panel.set_xticks([], minor=True)
    legend(panel)
    title(panel, "Values of a random policy from another's steps")


def draw_triad(panel: Axes, found: dict) -> None:
    for name, color in TRIAD.items():
        label = typeset(f"{name} ({found[name]['growth']:+.2f})")
        band(panel, found["steps"], found[name], color=color, marker=None, label=label)
    settings = found["settings"]
    x = f"steps (values w and 2w, γ = {settings['discount']:g}, α = {settings['step_size']:g})"
    panel.set(yscale="log", ylim=(1e-18, 1e24), xlabel=x, ylabel="root mean squared value (true: 0)")
    legend(panel, loc="upper left", title="and growth of the expected update", title_fontsize=8, alignment="left")
    title(panel, "The deadly triad, and what is left of it")


EXPERIMENT = Experiment(
    HERE,
    "Which tables of action values learn what, on and off the policy, and what makes values diverge?",
    measure,
    answer,
    details,
    draw,
)

if __name__ == "__main__":
    run(EXPERIMENT, __doc__)
