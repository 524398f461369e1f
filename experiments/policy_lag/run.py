"""What each off-policy correction is worth when the policy that acts lags behind, with and without replay.

The four corrections of Espeholt et al. 2018 (section 5.2.2, Table 2 and Figure E.1) on two small environments, with
isjax's default settings of each and nothing tuned for a correction. The policy that acts is that of so many updates
ago; with replay, half of each batch are earlier unrolls. Learners that died count as the lowest return of the
environment's table.

Beside them four methods that learn action values, with their own defaults: Retrace, tree backup, Q(λ) with off-policy
corrections (Harutyunyan et al. 2016), and DQN with returns of five rewards that nothing corrects.

The record on file was taken before these were added, in three goes, beside other work; its minutes are read off the
clock.

    python -m experiments.policy_lag.run [--quick | --redraw]
"""

import dataclasses
import itertools
from pathlib import Path
from typing import Any, get_args

import numpy as np
from matplotlib.figure import Figure

from experiments.drawing import BLACK, BLUE, BROWN, GRAY, GREEN, ORANGE, PURPLE, RED, legend, panels, title
from experiments.experiment import Experiment, run, summary
from experiments.learners import final_returns
from isjax.learner.defaults import defaults
from isjax.losses.actor_critic import Correction

HERE = Path(__file__).parent
STEPS = {"Catch-bsuite": 200_000, "Breakout-MinAtar": 1_000_000}
LAGS, REPLAY = (0, 1, 10, 100), (0.0, 0.5)
"""Ages in updates, and shares of replay."""
CORRECTIONS: tuple[Correction, ...] = get_args(Correction)
VALUES: dict[str, dict[str, Any]] = {
    "retrace": dict(algorithm="retrace"),
    "tree backup": dict(algorithm="tree-backup"),
    "Q(λ)": dict(algorithm="experiments.policy_lag.q_lambda:off-policy-q-lambda"),
    "n-step DQN": dict(algorithm="dqn", n_step=5, n_step_correction="none"),
}
METHODS: dict[str, dict[str, Any]] = {name: dict(correction=name) for name in CORRECTIONS} | VALUES
COLORS = dict(zip(METHODS, (BLUE, ORANGE, GREEN, GRAY, PURPLE, BROWN, RED, BLACK), strict=True))
LEARNERS, SEED = 10, 0


def measure(quick: bool) -> dict:
    lags, methods = ((2,), (CORRECTIONS[0], "Q(λ)")) if quick else (LAGS, tuple(METHODS))
    tables = {}
    for env in list(STEPS)[: 1 if quick else None]:
        steps = 256 if quick else STEPS[env]
        cells = []
        for replay, lag, name in itertools.product(REPLAY, lags, methods):
            config, hyper = defaults(env, METHODS[name].get("algorithm", "impala"))
            config = dataclasses.replace(config, steps=steps, actor_lag=lag, replay_fraction=replay, **METHODS[name])
            returns = final_returns(config, hyper, 2 if quick else LEARNERS, SEED)
            cells.append({"replay": replay, "lag": lag, "correction": name, "returns": returns.tolist()})
            print(env, cells[-1], flush=True)
        lowest = np.nanmin([cell["returns"] for cell in cells])
        for cell in cells:
            cell["died"] = int(np.isnan(cell["returns"]).sum())
            cell["returns"] = np.nan_to_num(cell["returns"], nan=lowest).tolist()
            cell["iqm"] = summary(np.asarray(cell["returns"]))
        tables[env] = {"steps": steps, "cells": cells}
    return {"seed": SEED, "learners": LEARNERS, "corrections": list(methods), "environments": tables}


def cells_of(result: dict, env: str, **what: object) -> list[dict]:
    """The cells of an environment with that correction, lag or share of replay."""
    cells = result["environments"][env]["cells"]
    return [cell for cell in cells if all(cell[name] == x for name, x in what.items())]


def answer(result: dict) -> str:
    env = list(result["environments"])[-1]
    cells = hard_cells(result)
    rivals = [name for name in result["corrections"] if name in CORRECTIONS]
    unbeaten = sum(cell["v-trace"]["value"] >= max(cell[name]["value"] for name in rivals) for _, cell in cells)
    (_, _, age), hardest = [(place, cell) for place, cell in cells if place[:2] == (env, REPLAY[-1])][-1]
    returns = ", ".join(f"{name} {interval(iqm)}" for name, iqm in hardest.items())
    return (
        f"V-trace: in {unbeaten} of {len(cells)} cells with lag none beats it; IQM returns on {env}, {age} updates "
        f"late and half of each batch replayed, are {returns}."
    )


def hard_cells(result: dict) -> list[tuple[tuple[str, float, int], dict[str, dict]]]:
    """Where ratios are not all 1: `(environment, share of replay, age)` and each correction's return."""
    places = dict.fromkeys(
        (env, cell["replay"], cell["lag"])
        for env, table in result["environments"].items()
        for cell in table["cells"]
        if cell["lag"]
    )
    return [
        (place, {cell["correction"]: cell["iqm"] for cell in cells_of(result, place[0], replay=place[1], lag=place[2])})
        for place in places
    ]


def interval(iqm: dict) -> str:
    return f"{iqm['value']:.2f} [{iqm['low']:.2f}, {iqm['high']:.2f}]"


def details(result: dict) -> str:
    header = ["environment", "replayed", "age in updates", *result["corrections"]]
    lines = [
        [env, f"{replay:g}", str(lag), *(interval(cell[name]) for name in result["corrections"])]
        for (env, replay, lag), cell in hard_cells(result)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, ["---"] * len(header), *lines])


def draw(result: dict) -> Figure:
    environments = result["environments"]
    drawing, axes = panels(len(environments), len(REPLAY), (10.5, 3.8 * len(environments)))
    for row, (env, table) in zip(axes, environments.items(), strict=True):
        ages = sorted({cell["lag"] for cell in table["cells"]})
        for panel, replay in zip(row, REPLAY, strict=True):
            names = result["corrections"]
            for i, correction in enumerate(names):
                cells = cells_of(result, env, replay=replay, correction=correction)
                value, low, high = (
                    np.array([cell["iqm"][name] for cell in cells]) for name in ("value", "low", "high")
                )
                panel.errorbar(
                    [ages.index(cell["lag"]) + 0.07 * (i - (len(names) - 1) / 2) for cell in cells],
                    value,
                    [np.maximum(value - low, 0), np.maximum(high - value, 0)],
                    marker="o",
                    markersize=4,
                    capsize=2,
                    color=COLORS[correction],
                    label=correction,
                )
            panel.set_xticks(range(len(ages)), [str(lag) for lag in ages])
            panel.set(xlabel="age of the policy that acts, in updates", ylabel="return (IQM)")
            title(panel, f"{env}, {table['steps']:,} steps, {'half replayed' if replay else 'no replay'}")
        legend(row[0], loc="lower left")
    return drawing


EXPERIMENT = Experiment(
    HERE,
    "Which off-policy correction holds when the policy that acts is old, and when half of a batch is replayed?",
    measure,
    answer,
    details,
    draw,
)

if __name__ == "__main__":
    run(EXPERIMENT, __doc__)
