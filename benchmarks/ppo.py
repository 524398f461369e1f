"""PPO here against Rejax's PPO, settings equal, on CartPole-v1: steps per second and the return that they reach.

`python -m benchmarks.ppo` takes about ten minutes on two cores and writes `results/ppo.json`. Rejax is installed,
pinned, into an environment of its own below `--environments`; the two take turns in one run. `--quick` writes
nowhere.
Equal: 4 environments × 128 steps, 4 epochs × 4 minibatches of shuffled rows, two 64×64 tanh towers, Adam with a
constant step size of 2.5e-4, γ 0.99, λ 0.95, clipping at 0.2 of ratios and values, entropy 0.01, normalized
advantages. Not equal: Rejax takes a time limit for an end, clips gradients element by element, and runs many learners
on one device; here learners are spread over the cores.
"""

import argparse
import json
import os
import time
from pathlib import Path

import jax

if __name__ == "__main__":  # before gymnax, which computes on import
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)

import jax.numpy as jnp
import numpy as np

from benchmarks.harness import RESULTS as FOLDER
from benchmarks.harness import provenance, publish, ratio, spread
from benchmarks.readme import MEASURED, rows
from benchmarks.workers import ENVIRONMENTS, Worker, pins
from isjax.learner import Config, Hyper, make_learner
from isjax.population import make_population
from isjax.stats import bootstrap_interval, interquartile_mean

RESULTS = FOLDER / "ppo.json"
SIZES, STEPS, TURNS = (1, 16), 102_400, 5
CONFIG = Config(
    algorithm="ppo",
    steps=STEPS,
    num_envs=4,
    unroll_length=128,
    epochs=4,
    minibatches=4,
    normalize_advantages=True,
    clip_values=True,
    share_torso=False,
    torso=(64, 64),
    evaluation_episodes=64,
    evaluation_policy="sample",
)
HYPER = Hyper(learning_rate=2.5e-4, learning_rate_end=1.0)


def settings() -> dict:
    """What Rejax's worker is told."""
    own = {
        name: getattr(CONFIG, name) for name in ("env", "steps", "num_envs", "unroll_length", "epochs", "minibatches")
    }
    names = ("learning_rate", "discount", "clip_epsilon", "value_cost", "entropy_cost", "max_grad_norm")
    return own | {name: getattr(HYPER, name) for name in names} | {"lambda": HYPER.lambda_}


class Ours:
    """The same question to isjax: all updates in one call."""

    def __init__(self, learners: int) -> None:
        self.population = make_population(make_learner(CONFIG), learners)
        began = time.monotonic()
        state = self.population.init(jax.random.key(0), HYPER)
        self.program = self.population.advance.lower(state, jnp.int32(1)).compile()
        self.compile_s = time.monotonic() - began

    def train(self, seed: int):
        """The trained state, and seconds from the first key to the last update."""
        began = time.monotonic()
        state = self.population.init(jax.random.key(seed), HYPER)
        state, _ = jax.block_until_ready(self.program(state, jnp.int32(CONFIG.updates)))
        return state, time.monotonic() - began


def learned(returns: np.ndarray) -> dict:
    """The interquartile mean over learners, with its interval."""
    scores = jnp.asarray(returns, jnp.float32)
    low, high = bootstrap_interval(jax.random.key(0), scores, interquartile_mean)
    return {
        "iqm": float(interquartile_mean(scores)),
        "ci95": [float(low), float(high)],
        "per_learner": returns.tolist(),
    }


def table(result: dict) -> str:
    """The records as the page shows them."""
    lines = []
    for record in result["records"]:
        ours, theirs, ratio = (record[f"{name}"] for name in ("isjax_steps_per_s", "rejax_steps_per_s", "times_faster"))
        reached = record.get("return")
        lines.append(
            [
                f"{record['learners']:,}",
                f"{ours['median'] / 1e3:,.0f} k",
                f"{theirs['median'] / 1e3:,.0f} k",
                f"{ratio['median']:.1f} ({ratio['p10']:.1f} to {ratio['p90']:.1f})",
                *((interval(reached[name]) for name in ("isjax", "rejax")) if reached else ("", "")),
            ]
        )
    header = "learners, steps/s here, steps/s of Rejax, times faster, IQM return here, IQM return of Rejax"
    note = f"{result['settings']['steps']:,} steps a learner; {', '.join(result['pinned'])}; {result['device']}."
    return f"{rows(header.split(', '), lines)}\n{note}\n"


def interval(reached: dict) -> str:
    return f"{reached['iqm']:.0f} ({reached['ci95'][0]:.0f} to {reached['ci95'][1]:.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, default=ENVIRONMENTS, help="where to install peers")
    parser.add_argument("--quick", action="store_true", help="one learner, one turn, nothing is written")
    given = parser.parse_args()
    sizes, turns = (SIZES[:1], 1) if given.quick else (SIZES, TURNS)
    rejax = Worker("rejax_learners.py", "rejax", settings(), given.environments)
    records = []
    for learners in sizes:
        ours, theirs = Ours(learners), rejax.ask(do="train", learners=learners, seed=0)
        ours_s, theirs_s = [], []
        state, _ = ours.train(0)
        for turn in range(turns):
            ours_s.append(ours.train(turn)[1])
            theirs_s.append(rejax.ask(do="train", learners=learners, seed=turn)["seconds"])
        steps = learners * STEPS
        records.append(
            {
                "learners": learners,
                "isjax_steps_per_s": spread([steps / s for s in ours_s]),
                "rejax_steps_per_s": spread([steps / s for s in theirs_s]),
                "times_faster": ratio(theirs_s, ours_s),
                "compile_s": {"isjax": ours.compile_s, "rejax": theirs["compile_s"]},
            }
        )
        if learners > 1:
            own = np.asarray(ours.population.evaluate(state, jax.random.key(99)).episode_return).mean(1)
            records[-1]["return"] = {"isjax": learned(own), "rejax": learned(np.asarray(theirs["returns"]))}
        print(json.dumps({k: v for k, v in records[-1].items() if k != "return"}), flush=True)
    rejax.close()
    result = {"settings": settings(), "turns": turns, "pinned": pins("rejax"), "records": records} | provenance()
    if not given.quick:
        publish(RESULTS, result, {MEASURED: table(result)})


if __name__ == "__main__":
    main()
