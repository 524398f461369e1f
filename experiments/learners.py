"""Populations that learn, for experiments that compare what they come to."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pyarrow.parquet as pq

from experiments.experiment import summary
from isjax.learner.config import Config, Hyper
from isjax.learner.learner import make_learner
from isjax.population import make_population
from isjax.run.files import read_json
from isjax.run.store import holds_run

POINTS = 50
"""Of a curve, at most."""


def final_returns(config: Config, hyper: Hyper, learners: int, seed: int) -> np.ndarray:
    """`[learners]`, mean returns of an evaluation after the last update; NaN for learners that died."""
    population = make_population(make_learner(config), learners, devices=jax.local_devices())
    key, evaluation_key = jax.random.split(jax.random.key(seed))
    state, _ = population.advance(population.init(key, hyper), config.updates)
    returns = population.evaluate(state, evaluation_key).episode_return.mean(1)
    return np.where(np.asarray(state.alive), np.asarray(returns), np.nan)


def train(flags: list[str], folder: Path) -> dict:
    """`isjax train` with these flags, as far as the run in the folder did not come, and what came of it."""
    resume = ["--resume"] if holds_run(folder) else []
    command = [sys.executable, "-m", "isjax", "train", *flags, *resume, "--out", str(folder), "--quiet"]
    subprocess.run(command, check=True)
    done = read_json(folder / "summary.json")
    last = np.array([np.nan if x is None else x for x in done["final_return"]["per_learner"]])
    return {
        "command": f"isjax train {' '.join(flags)}",
        "returns": np.nan_to_num(last, nan=0.0).tolist(),
        "died": done["learners"] - done["alive"],
        "iqm": summary(np.nan_to_num(last, nan=0.0)),
        "curve": curve(folder),
        "steps": done["env_steps_per_learner"],
        "minutes": round(done["wall_s"] / 60, 1),
        "env_steps_per_s": round(done["env_steps_per_s"]),
        "device": done["device"],
    }


def curve(folder: Path) -> dict:
    """Returns in training, averaged over rows of the table of metrics until `POINTS` are left."""
    table = pq.read_table(folder / "metrics.parquet", columns=["learner", "env_steps", "episode_return"]).to_pandas()
    wide = table.pivot(index="env_steps", columns="learner", values="episode_return")
    rows = np.array_split(np.arange(len(wide)), min(POINTS, len(wide)))
    # Until the first of a learner's episodes has ended there is nothing to average; a dead one earns nothing.
    returns = np.stack([wide.iloc[each].mean().fillna(0.0).to_numpy() for each in rows], 1)
    return {"env_steps": [int(wide.index[each[-1]]) for each in rows]} | summary(returns)
