"""What every experiment does: one command line, one record, one figure, one row of the index."""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments import index
from isjax.run.files import read_json, write_json
from isjax.run.store import versions
from isjax.stats import bootstrap_interval, interquartile_mean


class Experiment(NamedTuple):
    """A question, and the functions that answer it; `run` does the rest."""

    folder: Path
    question: str
    measure: Callable[[bool], dict[str, Any]]
    """`quick → settings, seeds and numbers`, all that `answer` and `draw` need; `minutes` where it knows better."""
    answer: Callable[[dict[str, Any]], str]
    """One sentence with the numbers that decide."""
    details: Callable[[dict[str, Any]], str]
    """The other numbers, in words."""
    draw: Callable[[dict[str, Any]], Figure]
    write_more: Callable[[dict[str, Any]], None] = lambda result: None
    """Writes whatever else the folder holds."""


def run(experiment: Experiment, description: str | None) -> None:
    """The command line of an experiment."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true", help="a fraction of the work, and nothing written")
    how.add_argument("--redraw", action="store_true", help="renew figure and answer from the numbers on file")
    options = parser.parse_args()
    began = time.monotonic()
    path = experiment.folder / "result.json"
    result = read_json(path) if options.redraw else experiment.measure(options.quick)
    stands = {
        "question": experiment.question,
        "answer": experiment.answer(result),
        "details": experiment.details(result),
    }
    figure = experiment.draw(result)
    print(stands["answer"], stands["details"], sep="\n\n", flush=True)
    if options.quick:
        json.dumps(result)
        return
    if not options.redraw:
        result = {"minutes": round((time.monotonic() - began) / 60, 1), "versions": versions()} | result
    write_json(path, stands | {name: x for name, x in result.items() if name not in stands})
    save(figure, experiment.folder)
    experiment.write_more(result)
    index.write()


def save(figure: Figure, folder: Path) -> None:
    """As a PNG, the same bytes for the same numbers."""
    figure.savefig(folder / "figure.png", dpi=150)


def mean(x: jax.Array) -> jax.Array:
    """Over the first axis."""
    return jnp.mean(x, 0)


def summary(x: np.ndarray, statistic: Callable = interquartile_mean, *, seed: int = 0) -> dict[str, Any]:
    """`{"value", "low", "high"}` of `[N, ...]` over its first axis: a statistic and its 95 % bootstrap interval."""
    x = jnp.asarray(x, jnp.float32)
    low, high = bootstrap_interval(jax.random.key(seed), x, statistic)
    return {name: np.asarray(y, float).tolist() for name, y in (("value", statistic(x)), ("low", low), ("high", high))}
