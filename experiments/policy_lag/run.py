"""What each off-policy correction is worth when the policy that acts lags behind, with and without replay.

The four corrections of Espeholt et al. 2018 (section 5.2.2, Table 2 and Figure E.1) on two small environments, with
isjax's default settings of each and nothing tuned for a correction. The policy that acts is that of so many updates
ago; with replay, half of each batch are earlier unrolls. Learners that died count as the lowest return of the
environment's table.

The record on file was taken in three goes, beside other work; its minutes are read off the clock.

    python -m experiments.policy_lag.run [--quick | --redraw]
"""

import dataclasses
import itertools
from pathlib import Path
from typing import get_args

import numpy as np
from matplotlib.figure import Figure

from experiments.drawing import BLUE, GRAY, GREEN, ORANGE, legend, panels, title
from experiments.experiment import Experiment, run, summary
from experiments.learners import final_returns
from isjax.learner.defaults import defaults
from isjax.losses.actor_critic import Correction

HERE = Path(__file__).parent
STEPS = {"Catch-bsuite": 200_000, "Breakout-MinAtar": 1_000_000}
LAGS, REPLAY = (0, 1, 10, 100), (0.0, 0.5)
"""Ages in updates, and shares of replay."""
CORRECTIONS: tuple[Correction, ...] = get_args(Correction)
COLORS = dict(zip(CORRECTIONS, (BLUE, ORANGE, GREEN, GRAY), strict=True))
LEARNERS, SEED = 10, 0


def measure(quick: bool) -> dict:
    lags, corrections = ((2,), CORRECTIONS[:2]) if quick else (LAGS, CORRECTIONS)
    tables = {}
    for env in list(STEPS)[: 1 if quick else None]:
        steps = 256 if quick else STEPS[env]
        config, hyper = defaults(env)
        cells = []
        for replay, lag, correction in itertools.product(REPLAY, lags, corrections):
            changes = dict(steps=steps, actor_lag=lag, replay_fraction=replay, correction=correction)
            returns = final_returns(dataclasses.replace(config, **changes), hyper, 2 if quick else LEARNERS, SEED)
            cells.append({"replay": replay, "lag": lag, "correction": correction, "returns": returns.tolist()})
            print(env, cells[-1], flush=True)
        lowest = np.nanmin([cell["returns"] for cell in cells])
        for cell in cells:
            cell["died"] = int(np.isnan(cell["returns"]).sum())
            cell["returns"] = np.nan_to_num(cell["returns"], nan=lowest).tolist()
            cell["iqm"] = summary(np.asarray(cell["returns"]))
        tables[env] = {"steps": steps, "cells": cells}
    return {"seed": SEED, "learners": LEARNERS, "corrections": list(corrections), "environments": tables}


def cells_of(result: dict, env: str, **what: object) -> list[dict]:
    """The cells of an environment with that correction, lag or share of replay."""
    cells = result["environments"][env]["cells"]
    return [cell for cell in cells if all(cell[name] == x for name, x in what.items())]


def answer(result: dict) -> str:
    parts = []
    for env, replay in itertools.product(result["environments"], REPLAY):
        oldest = max(cell["lag"] for cell in cells_of(result, env, replay=replay))
        found = cells_of(result, env, replay=replay, lag=oldest)
        found.sort(key=lambda cell: -cell["iqm"]["value"])
        values = (
            f"{cell['correction']} {cell['iqm']['value']:.2f} [{cell['iqm']['low']:.2f}, {cell['iqm']['high']:.2f}]"
            for cell in found
        )
        parts.append(f"{env}, {'half replayed' if replay else 'no replay'}, {oldest} updates old: {', '.join(values)}")
    return f"IQM returns, the best first: {'; '.join(parts)}."


def draw(result: dict) -> Figure:
    environments = result["environments"]
    drawing, axes = panels(len(environments), len(REPLAY), (10.5, 3.8 * len(environments)))
    for row, (env, table) in zip(axes, environments.items(), strict=True):
        ages = sorted({cell["lag"] for cell in table["cells"]})
        for panel, replay in zip(row, REPLAY, strict=True):
            for i, correction in enumerate(result["corrections"]):
                cells = cells_of(result, env, replay=replay, correction=correction)
                value, low, high = (
                    np.array([cell["iqm"][name] for cell in cells]) for name in ("value", "low", "high")
                )
                panel.errorbar(
                    [ages.index(cell["lag"]) + 0.07 * (i - 1.5) for cell in cells],
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
    draw,
)

if __name__ == "__main__":
    run(EXPERIMENT, __doc__)
