"""What 2,048 seeds show that 3, 5 or 10 do not.

Two populations of 2,048 learners on CartPole-v1: isjax's default settings, and the same with a smaller step size.
Their returns stand for the truth. Papers with n seeds are drawn from them: how far off their averages are, how often
their 95 % intervals hold the truth, and how often they order the two algorithms wrongly or find no difference.

    python -m experiments.many_seeds.run [--quick | --redraw]
"""

import dataclasses
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.drawing import BLACK, BLUE, GRAY, GREEN, ORANGE, RED, legend, panels, title
from experiments.experiment import Experiment, run, summary
from experiments.learners import final_returns
from experiments.many_seeds import papers as lib
from isjax.learner.defaults import defaults

HERE = Path(__file__).parent
STEPS, LEARNERS, SEED = 60_000, 2048, 0
RATES = {"A": 5e-3, "B": 4e-3}
"""Step sizes; 5e-3 is the default."""
COUNTS = (3, 5, 10, 20, 50, 100)
PAPERS, BOOTSTRAPPED, RESAMPLES = 20_000, 2_000, 1_000


def measure(quick: bool) -> dict:
    learners, steps = (16, 2048) if quick else (LEARNERS, STEPS)
    config, hyper = defaults("CartPole-v1")
    config = dataclasses.replace(config, steps=steps)
    returns = {}
    for place, (name, rate) in enumerate(RATES.items()):
        changed = dataclasses.replace(hyper, learning_rate=rate)
        # Seeds of their own: the two are compared as if trained by different people.
        returns[name] = np.nan_to_num(final_returns(config, changed, learners, SEED + place), nan=0.0)
        print(name, np.percentile(returns[name], [0, 5, 25, 50, 75, 95, 100]), flush=True)
    return {
        "seeds": [SEED, SEED + 1],
        "learners": learners,
        "steps": steps,
        "rates": RATES,
        "truth": {
            name: {key: float(x[0]) for key, x in lib.estimates(each[None]).items()} for name, each in returns.items()
        },
        "iqm": {name: summary(each) for name, each in returns.items()},
        "papers": few_seeds(returns, quick),
        "returns": {name: np.round(np.sort(each), 4).tolist() for name, each in returns.items()},
    }


def few_seeds(returns: dict[str, np.ndarray], quick: bool) -> dict:
    """What is found with each number of seeds."""
    rng = np.random.default_rng(SEED)
    better, worse = sorted(returns, key=lambda name: -returns[name].mean())
    truth = lib.truth(returns["A"])
    found: dict = {"counts": list(COUNTS[:2] if quick else COUNTS), "better": better}
    rows = []
    for n in found["counts"]:
        many = 100 if quick else PAPERS
        drawn = lib.draw_papers(rng, returns["A"], many, n)
        row: dict = {}
        for name, x in lib.estimates(drawn).items():
            low, high = np.percentile(x, [2.5, 97.5])
            off = float(np.mean(np.abs(x - truth[name]) > 0.1 * truth[name]))
            row[name] = {"low": float(low), "high": float(high), "off_by_a_tenth": off}
        row["student_coverage"] = lib.coverage(lib.student_interval(drawn), truth["mean"])
        some = drawn[: 20 if quick else BOOTSTRAPPED]
        row["bootstrap_coverage"] = lib.coverage(lib.bootstrapped(some, SEED, 50 if quick else RESAMPLES), truth["iqm"])
        row |= lib.comparison(*(lib.draw_papers(rng, returns[name], many, n) for name in (better, worse)))
        same = lib.comparison(*(lib.draw_papers(rng, returns["A"], many, n) for _ in range(2)))
        row["false_alarm"] = same["found"] + same["reversed"]
        rows.append(row)
    return found | {name: [row[name] for row in rows] for name in rows[0]}


def answer(result: dict) -> str:
    few, returns = result["papers"], np.asarray(result["returns"]["A"])
    low, high = np.percentile(returns, [5, 95])
    place = 1
    return (
        f"Nine of ten of {len(returns):,} learners that differ in nothing but their seed end between {low:.0f} and "
        f"{high:.0f} on CartPole, so that of papers with {few['counts'][place]} seeds "
        f"{100 * few['wrong_order'][place]:.0f} % order two step sizes wrongly and {100 * few['found'][place]:.0f} % "
        "find their difference."
    )


def details(result: dict) -> str:
    few, mean = result["papers"], result["truth"]
    better = few["better"]
    (other,) = set(RATES) - {better}
    places = [i for i, n in enumerate(few["counts"]) if n <= 10]
    counts = ", ".join(f"{few['counts'][i]}" for i in places)

    def shares(name: str) -> str:
        return ", ".join(f"{100 * few[name][i]:.0f}" for i in places)

    ranges = ", ".join(f"{few['mean'][i]['low']:.0f} to {few['mean'][i]['high']:.0f}" for i in places)
    return (
        f"After {result['steps']:,} steps the mean is {mean['A']['mean']:.0f}. With {counts} seeds, 95 % of papers "
        f"report means of {ranges}; {shares('student_coverage')} % of their Student's intervals and "
        f"{shares('bootstrap_coverage')} % of their bootstrap intervals of the IQM, all meant for 95 %, hold the "
        f"truth; {shares('wrong_order')} % order step sizes {result['rates'][better]:g} (mean "
        f"{mean[better]['mean']:.0f}) and {result['rates'][other]:g} ({mean[other]['mean']:.0f}) wrongly, "
        f"and {shares('found')} % find the difference."
    )


def draw(result: dict) -> Figure:
    few, counts = result["papers"], result["papers"]["counts"]
    drawing, ((spread, error, claims),) = panels(1, 3, (15, 3.8))
    for name, color in (("A", BLUE), ("B", ORANGE)):
        text = f"step size {result['rates'][name]:g}, mean {result['truth'][name]['mean']:.0f}"
        spread.hist(result["returns"][name], bins=np.arange(0, 510, 10), color=color, alpha=0.55, label=text)
    spread.set(xlabel="return of a learner", ylabel="learners")
    title(spread, f"{result['learners']:,} learners each")
    for name, color in (("mean", BLUE), ("iqm", GREEN)):
        low, high = ([x[end] for x in few[name]] for end in ("low", "high"))
        error.fill_between(counts, low, high, color=color, alpha=0.2, linewidth=0)
        error.plot(
            counts, low, color=color, marker="o", markersize=3, label=f"95 % of {'IQMs' if name == 'iqm' else 'means'}"
        )
        error.plot(counts, high, color=color, marker="o", markersize=3)
        error.axhline(result["truth"]["A"][name], color=color, linewidth=1, linestyle="dashed")
    title(error, f"What n seeds report (step size {result['rates']['A']:g})")
    error.set(ylabel="return", xlabel="seeds")
    for name, color, text in (
        ("student_coverage", BLUE, "Student's 95 % intervals hold the mean"),
        ("bootstrap_coverage", GREEN, "bootstrap 95 % intervals hold the IQM"),
        ("found", ORANGE, "difference found (Welch, 5 %)"),
        ("wrong_order", RED, "means in the wrong order"),
        ("false_alarm", GRAY, "difference found where there is none"),
    ):
        claims.plot(counts, few[name], color=color, marker="o", markersize=3, label=text)
    claims.axhline(lib.LEVEL, color=BLACK, linewidth=0.8, linestyle="dashed")
    claims.set(ylabel="share of papers", xlabel="seeds", ylim=(0, 1))
    title(claims, "What is said of it")
    for panel in (error, claims):
        panel.set_xscale("log")
        panel.set_xticks(counts, [str(n) for n in counts])
        panel.minorticks_off()
    for panel in (spread, error):
        legend(panel)
    legend(claims, loc="upper left", bbox_to_anchor=(1.0, 0.9))
    return drawing


EXPERIMENT = Experiment(
    HERE,
    "What does a distribution of returns look like, and how wrong are papers with few seeds?",
    measure,
    answer,
    details,
    draw,
)

if __name__ == "__main__":
    run(EXPERIMENT, __doc__)
