"""What V-trace and PPO reach on tasks of other packages' suites, five learners each.

Every cell is one `isjax train --env SUITE/ID --algorithm NAME --learners 5` with isjax's default settings for the suite
and what its command says besides. The runs stand in runs/suites: an interrupted one goes on where it stopped, a
finished one is read as it is. Curves are returns of episodes that ended in training; the answer is of the evaluation
at the end, which plays the most likely actions, and aims are for its interquartile mean. A task whose suite is not
installed is left out; `--quick` trains on CartPole alone.

The record on file was taken in several goes beside other work: minutes and steps per second are those of each.

    python -m experiments.suites.run [--quick | --redraw]
"""

import tempfile
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from experiments.drawing import BLACK, BLUE, ORANGE, band, exact, legend, panels, title
from experiments.experiment import Experiment, run
from experiments.learners import train
from isjax.environments.registry import install_command, is_installed

HERE = Path(__file__).parent
RUNS = HERE.parent.parent / "runs" / "suites"
ALGORITHMS = {"impala": ("V-trace (impala)", BLUE), "ppo": ("PPO", ORANGE)}
LEARNERS, SEED = 5, 0


class Task(NamedTuple):
    """An environment and how long it is trained."""

    env: str
    steps: int
    flags: tuple[str, ...] = ()
    aim: float | None = None
    """A return to reach, set beforehand."""


TASKS = (
    Task(
        "brax/inverted_pendulum",
        3_000_000,
        ("--env-params", "backend=spring", "--discount", "0.998", "--lambda", "1"),
        950.0,
    ),
    Task("navix/Navix-DoorKey-5x5-v0", 1_000_000, (), 0.9),
)


def measure(quick: bool) -> dict:
    found: dict = {}
    with tempfile.TemporaryDirectory() as elsewhere:
        for task in [Task("CartPole-v1", 4096)] if quick else TASKS:
            suite, slash, _ = task.env.partition("/")
            if slash and not is_installed(suite):
                print(f"{task.env} is left out: {install_command(suite)}", flush=True)
                continue
            cells = {name: cell(task, name, Path(elsewhere) if quick else RUNS, quick) for name in ALGORITHMS}
            found[task.env] = {"aim": task.aim, "cells": cells}
    minutes = sum(cell["minutes"] for task in found.values() for cell in task["cells"].values())
    return {"seed": SEED, "learners": LEARNERS, "tasks": found, "minutes": round(minutes, 1)}


def cell(task: Task, algorithm: str, root: Path, quick: bool) -> dict:
    """The run of one algorithm."""
    flags = ["--env", task.env, *task.flags, "--algorithm", algorithm, "--learners", "2" if quick else str(LEARNERS)]
    flags += ["--seed", str(SEED), "--steps", str(task.steps)]
    done = train(flags, root / f"{task.env.replace('/', '-')}-{algorithm}")
    print(task.env, algorithm, [round(x, 3) for x in done["returns"]], flush=True)
    return done


def answer(result: dict) -> str:
    names = " / ".join(name for name, _ in ALGORITHMS.values())
    values = (
        f"{env} {' / '.join(number(cell['iqm']['value']) for cell in task['cells'].values())}"
        for env, task in result["tasks"].items()
    )
    return f"IQM returns, {names}: {', '.join(values)}."


def number(x: float) -> str:
    return f"{x:.2f}" if abs(x) < 10 else f"{x:,.0f}"


def details(result: dict) -> str:
    """The record as a table, every learner, and which aims were missed."""
    lines, every = [], []
    for env, task in result["tasks"].items():
        cells, aim = task["cells"], task["aim"]
        iqms = [
            f"{number(x['value'])} [{number(x['low'])}, {number(x['high'])}]"
            for x in (c["iqm"] for c in cells.values())
        ]
        first = next(iter(cells.values()))
        rates = [f"{cell['env_steps_per_s'] / 1e3:,.1f} k" for cell in cells.values()]
        dead = sum(cell["died"] for cell in cells.values())
        lines.append(
            [f"`{first['command']}`", f"{first['steps']:,}", *iqms, number(aim) if aim else "", *rates, str(dead)]
        )
        for name, cell in cells.items():
            is_missed = aim and cell["iqm"]["value"] < aim
            returns = ", ".join(map(number, sorted(cell["returns"])))
            every.append(f"{ALGORITHMS[name][0]} on {env}{', below the aim' * bool(is_missed)}: {returns}")
    names = [name for name, _ in ALGORITHMS.values()]
    header = ["command", "steps", *names, "aim", *(f"{name}, steps/s" for name in names), "learners that died"]
    rows = "".join(f"| {' | '.join(line)} |\n" for line in [header, ["---"] * len(header), *lines])
    return (
        f"{rows}\nIQM of {result['learners']} learners with 95 % bootstrap intervals, seed {result['seed']}; a return "
        f"is the mean over the evaluation at the end, which plays the most likely actions. {'; '.join(every)}. "
        "Discount and λ of brax/inverted_pendulum were chosen among six pairs in shorter runs of V-trace on that task."
    )


def draw(result: dict) -> Figure:
    tasks = result["tasks"]
    drawing, axes = panels(1, len(tasks), (3.1 * len(tasks), 3.2))
    for panel, (env, task) in zip(axes[0], tasks.items(), strict=True):
        for name, found in task["cells"].items():
            steps = [x / 1e6 for x in found["curve"]["env_steps"]]
            band(panel, steps, found["curve"], color=ALGORITHMS[name][1], label=ALGORITHMS[name][0], marker=None)
        if task["aim"]:
            exact(panel, steps, [task["aim"]] * len(steps), "aim", color=BLACK)
        panel.set(xlabel="million steps")
        title(panel, env)
    axes[0, 0].set_ylabel("return in training (IQM)")
    legend(axes[0, 0])
    return drawing


EXPERIMENT = Experiment(
    HERE, "What do V-trace and PPO reach on tasks of brax and navix?", measure, answer, details, draw
)

if __name__ == "__main__":
    run(EXPERIMENT, __doc__)
