"""Seconds until an environment is learned: isjax's defaults against Rejax's PPO at the best settings known for it.

`python -m benchmarks.time_to_return` takes about half an hour on two cores, most of it on Breakout, writes
`results/time_to_return.json` and renews its table in docs/evidence/measured.md; `--env` renews one environment,
`--quick` tries it out and writes nowhere.
Learned: the interquartile mean over 16 learners of their mean return reaches the goal and stays there for three
evaluations; what counts is the first of them. Between evaluations both train for about as many steps; only that is on
the clock. Who has trained for less time goes on; who has trained four times as long as the other needed is not waited
for. Evaluations sample actions from the policy, in 128 episodes a learner, as Rejax does as shipped.
Rejax's settings: on CartPole those it publishes (configs/gymnax/cartpole.yaml in its repository); it publishes none for
MinAtar, where it has the best of seven that were tried (4 learners, a million steps; the others ended at 0.4 to 6.5,
these at 9.5 and rising). In a race as long as the one on record, 32 environments, unrolls of 32, 4 minibatches and a
learning rate of 5e-4 stayed at 6.5. Its many learners run on one device, as shipped; here they are spread over the
cores.
"""

import argparse
import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any

import jax

if __name__ == "__main__":  # before gymnax, which computes on import
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)

import jax.numpy as jnp
import numpy as np

from benchmarks.harness import RESULTS as FOLDER
from benchmarks.harness import place, provenance, publish, ratio, read, spread
from benchmarks.readme import MEASURED, rows
from benchmarks.workers import ENVIRONMENTS, Worker, pins
from isjax.learner import make_learner
from isjax.learner.defaults import defaults
from isjax.population import make_population
from isjax.run.store import device_name
from isjax.stats import interquartile_mean

RESULTS = FOLDER / "time_to_return.json"
LEARNERS, EPISODES, IN_A_ROW = 16, 128, 3
PATIENCE = 4.0
"""How many times as long as the quickest needed the others train at most."""
PUBLISHED = dict(
    env="CartPole-v1",
    steps=100_000,
    num_envs=5,
    unroll_length=100,
    epochs=5,
    minibatches=5,
    learning_rate=7.5e-4,
    discount=0.99,
    clip_epsilon=0.2,
    value_cost=0.5,
    entropy_cost=0.01,
    max_grad_norm=0.5,
) | {"lambda": 0.95}


@dataclasses.dataclass(frozen=True)
class Task:
    """What is to be reached, and how."""

    goal: float
    between: int
    """Steps of each learner between evaluations, at least."""
    limit: int
    """Steps of each learner after which it counts as not learned."""
    turns: int
    rejax: dict[str, Any]


TASKS = {
    "CartPole-v1": Task(475.0, 4_000, 500_000, 3, PUBLISHED),
    "Breakout-MinAtar": Task(
        20.0,
        200_000,
        10_000_000,
        1,
        PUBLISHED
        | dict(env="Breakout-MinAtar", steps=10_000_000, num_envs=64, unroll_length=128, epochs=4)
        | dict(minibatches=8, learning_rate=1e-3),
    ),
}


class Ours:
    """A population with its defaults, asked as Rejax's worker is."""

    def __init__(self, env: str, between: int) -> None:
        config, self.hyper = defaults(env)
        config = dataclasses.replace(config, evaluation_episodes=EPISODES, evaluation_policy="sample")
        self.population = make_population(make_learner(config), LEARNERS)
        self.updates = jnp.int32(-(-between // config.steps_per_update))
        self.steps = int(self.updates) * config.steps_per_update
        self.program: Any = None

    def start(self, seed: int) -> float:
        """Learners at their beginning; the seconds that compiling took, 0 but for the first time."""
        began = time.monotonic()
        self.state = jax.block_until_ready(self.population.init(jax.random.key(seed), self.hyper))
        if self.program is not None:
            return 0.0
        self.program = self.population.advance.lower(self.state, self.updates).compile()
        return time.monotonic() - began

    def advance(self, seed: int) -> tuple[float, np.ndarray]:
        """Seconds of the next updates, and what each learner then reaches."""
        began = time.monotonic()
        self.state, _ = jax.block_until_ready(self.program(self.state, self.updates))
        seconds = time.monotonic() - began
        return seconds, np.asarray(self.population.evaluate(self.state, jax.random.key(seed)).episode_return).mean(1)


class Theirs:
    """Rejax's worker."""

    def __init__(self, task: Task, folder: Path) -> None:
        self.worker = Worker("rejax_learners.py", "rejax", task.rejax, folder)
        self.iterations = -(-task.between // (task.rejax["num_envs"] * task.rejax["unroll_length"]))

    def start(self, seed: int) -> float:
        """Learners at their beginning, and the seconds that compiling took."""
        answer = self.worker.ask(do="start", learners=LEARNERS, seed=seed, iterations=self.iterations)
        self.steps = answer["steps"]
        return answer["compile_s"]

    def advance(self, seed: int) -> tuple[float, np.ndarray]:
        """Seconds of the next iterations, and what each learner then reaches."""
        answer = self.worker.ask(do="advance", seed=seed)
        return answer["seconds"], np.asarray(answer["returns"])


class Curve:
    """The returns of one run, and when they were good enough."""

    def __init__(self, goal: float) -> None:
        self.goal, self.seconds, self.steps, self.iqm = goal, [], [], []

    def add(self, seconds: float, steps: int, returns: np.ndarray) -> None:
        """What the learners reach after so many more seconds and steps."""
        before = self.seconds[-1] if self.seconds else 0.0
        self.seconds.append(before + seconds)
        self.steps.append((len(self.steps) + 1) * steps)
        self.iqm.append(float(interquartile_mean(jnp.asarray(returns, jnp.float32))))

    @property
    def reached(self) -> bool:
        """Whether the last evaluations were all good enough."""
        return len(self.iqm) >= IN_A_ROW and min(self.iqm[-IN_A_ROW:]) >= self.goal

    def record(self) -> dict[str, Any]:
        """The whole run, and the first of the evaluations that made it count as learned."""
        first = len(self.iqm) - IN_A_ROW if self.reached else None
        return {
            "seconds": None if first is None else self.seconds[first],
            "steps": None if first is None else self.steps[first],
            "curve": {"seconds": self.seconds, "iqm": self.iqm},
        }


def race(task: Task, rivals: dict[str, Any], seed: int) -> tuple[dict[str, Any], dict[str, float]]:
    """One run of each, chunk after chunk, and the seconds that compiling took; who trained for less time goes on."""
    compile_s = {name: rival.start(seed) for name, rival in rivals.items()}
    curves = {name: Curve(task.goal) for name in rivals}
    running = set(rivals)
    while running:
        name = min(sorted(running), key=lambda name: sum(curves[name].seconds[-1:]))
        curve = curves[name]
        seconds, returns = rivals[name].advance(1000 * (seed + 1) + len(curve.iqm))
        curve.add(seconds, rivals[name].steps, returns)
        print(f"{seed} {name} {curve.seconds[-1]:.1f} s, {curve.steps[-1]:,} steps, {curve.iqm[-1]:.1f}", flush=True)
        quickest = min((each.seconds[-IN_A_ROW] for each in curves.values() if each.reached), default=np.inf)
        if curve.reached or curve.steps[-1] >= task.limit or curve.seconds[-1] > PATIENCE * quickest:
            running.discard(name)
    return {name: curve.record() for name, curve in curves.items()}, compile_s


def measure(env: str, task: Task, folder: Path) -> dict[str, Any]:
    """The record of one environment."""
    rivals = {"isjax": Ours(env, task.between), "rejax": Theirs(task, folder)}
    runs: dict[str, list] = {name: [] for name in rivals}
    compile_s: dict[str, float] = {}
    for seed in range(task.turns):
        found, compiling = race(task, rivals, seed)
        compile_s |= {name: s for name, s in compiling.items() if name not in compile_s}
        for name, run in found.items():
            runs[name].append(run)
            print(env, seed, name, run["seconds"], run["steps"], f"{run['curve']['iqm'][-1]:.1f}", flush=True)
    rivals["rejax"].worker.close()
    record = {
        "environment": env,
        "goal": task.goal,
        "learners": LEARNERS,
        "settings_of_rejax": task.rejax,
        "runs": runs,
    }
    record |= {"compile_s": compile_s, "seconds": {}, "steps": {}}
    for name, each in runs.items():
        for what in ("seconds", "steps"):
            values = [run[what] for run in each]
            record[what][name] = None if None in values else spread(values)
    if record["seconds"]["isjax"]:
        # A run that did not get there would have taken longer than it was trained for.
        trained = {name: [run["seconds"] or run["curve"]["seconds"][-1] for run in each] for name, each in runs.items()}
        record["times_faster"] = ratio(trained["rejax"], trained["isjax"])
        whole = {name: float(np.median(each)) + compile_s[name] for name, each in trained.items()}
        record["times_faster_with_compilation"] = whole["rejax"] / whole["isjax"]
        record["or_more"] = record["seconds"]["rejax"] is None
    return record


def with_range(found: dict[str, float]) -> str:
    """The median and the range; of one run there is no range."""
    low, high = found["p10"], found["p90"]
    return f"{found['median']:.1f}" + (f" ({low:.1f} to {high:.1f})" if low < high else "")


def table(result: dict) -> str:
    """The records as the page shows them."""
    header = "environment, IQM return, library, seconds, with compilation, steps a learner, times faster"
    lines = []
    for record in result["records"]:
        for name in ("isjax", "rejax"):
            seconds, steps = record["seconds"][name], record["steps"][name]
            faster = record.get("times_faster") if name == "isjax" else None
            longest = max((run["curve"] for run in record["runs"][name]), key=lambda curve: curve["seconds"][-1])
            cells = [f"not in {longest['seconds'][-1]:,.0f}, then at {longest['iqm'][-1]:.1f}", "", "", ""]
            if seconds:
                whole = seconds["median"] + record["compile_s"][name]
                more = "more than " if record.get("or_more") else ""
                cells = [with_range(seconds), f"{whole:.1f}", f"{steps['median']:,.0f}"]
                cells.append(more + with_range(faster) if faster else "")
            lines.append([record["environment"], f"{record['goal']:.0f}", name, *cells])
    note = f"{LEARNERS} learners; {', '.join(result['pinned'])}; {result['device']}."
    return f"{rows(header.split(', '), lines)}\n{note}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, default=ENVIRONMENTS, help="where to install peers")
    parser.add_argument("--env", choices=list(TASKS), action="append", help="leave the other's record as it is")
    parser.add_argument("--quick", action="store_true", help="one run of few steps, nothing is written")
    given = parser.parse_args()
    kept = place(RESULTS, device_name(jax.devices()))
    before = {r["environment"]: r for r in read(kept)["records"]} if kept.exists() else {}
    for env in given.env or list(TASKS)[: 1 if given.quick else None]:
        task = dataclasses.replace(TASKS[env], limit=20_000, turns=1) if given.quick else TASKS[env]
        before[env] = measure(env, task, given.environments)
    records = [before[env] for env in TASKS if env in before]
    result = provenance() | {"pinned": pins("rejax"), "episodes": EPISODES, "records": records}
    print(json.dumps([{k: v for k, v in r.items() if k != "runs"} for r in records]))
    if not given.quick:
        publish(RESULTS, result, {MEASURED: table(result)})


if __name__ == "__main__":
    main()
