"""A run's table as arrays, thinned to what a page can show."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from isjax.learner.metrics import metric_of
from isjax.randomness import Domain, generator
from isjax.run.files import Damaged
from isjax.run.table import read_metrics
from isjax.stats.ranked import interquartile_band

POINTS = 200
"""Points along a curve, at most; longer tables are thinned."""


class Curves(NamedTuple):
    """A run's table as arrays, by column."""

    update: np.ndarray
    """`[U]`."""
    env_steps: np.ndarray
    """`[U]`, of each learner that lives."""
    alive: np.ndarray
    """`[L]`, at the end."""
    columns: dict[str, np.ndarray]
    """`[U, L]` each, NaN where there was nothing; a histogram is `[U, L, K]`."""


class Band(NamedTuple):
    """The interquartile mean over learners along a run, with its 95 % bootstrap interval."""

    env_steps: np.ndarray
    """`[U]`."""
    learners: np.ndarray
    """`[l]`, the numbers of those that count: alive, with at least one return."""
    scores: np.ndarray
    """`[U, l]`, their returns."""
    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray
    """`[U]` each."""


def read_curves(folder: Path, settings: dict[str, Any], columns: Sequence[str] | None = None) -> Curves:
    """The table of a run in arrays, thinned to `POINTS` updates, the last one among them.

    Extremes are those since the update before that is kept.

    Args:
      folder: of the run.
      settings: its `config.json`.
      columns: those to read besides who is alive; all if left out.

    Raises:
      ValueError: there are no rows yet.
    """
    learners, config = settings["learners"], settings["config"]
    updates = np.unique(read_metrics(folder, ["update"])["update"].to_numpy())
    kept = updates[np.unique(np.linspace(len(updates) - 1, 0, min(len(updates), POINTS)).round().astype(int))]
    wanted = None if columns is None else ["update", "learner", "alive", *columns]
    table = read_metrics(folder, wanted, None if len(kept) == len(updates) else kept)
    at = np.searchsorted(kept, table["update"].to_numpy()), table["learner"].to_numpy()
    missing = [name for name in ("alive", "episode_return") if name not in table.column_names]
    if missing and (columns is None or missing[0] in ("alive", *columns)):
        raise Damaged(f"The table of {folder} is damaged: it has no column {missing[0]}.")
    if not len(kept) or at[1].min() < 0 or at[1].max() >= learners:
        raise Damaged(f"The table of {folder} is damaged: its rows are not those of {learners} learners.")

    def square(name: str) -> np.ndarray:
        # Learners given up on the way have no rows any more: there is nothing to show of them, as of the dead.
        values = _numbers(table[name])
        dtype = values.dtype if values.dtype == np.float32 else float
        shape = (len(kept), learners, *values.shape[1:])
        x = np.zeros(shape, bool) if name == "alive" else np.full(shape, np.nan, dtype)
        x[at] = values
        return x

    squares = {name: square(name) for name in table.column_names if name not in ("update", "learner")}
    if len(kept) < len(updates):
        squares |= _extremes(folder, kept, squares)
    env_steps = kept.astype(np.int64) * (config["num_envs"] * config["unroll_length"])
    return Curves(kept, env_steps, squares["alive"][-1], squares)


def _extremes(folder: Path, kept: np.ndarray, squares: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Largest and smallest numbers, of all rows since the one kept before: what is left out may hold them."""
    extremes = {"min": np.fmin, "max": np.fmax}
    names = [name for name in squares if metric_of(name).reduction in extremes]
    table = read_metrics(folder, ["update", "learner", *names])
    at = np.searchsorted(kept, table["update"].to_numpy()), table["learner"].to_numpy()
    found = {name: squares[name].copy() for name in names}
    for name, x in found.items():
        extremes[metric_of(name).reduction].at(x, at, _numbers(table[name]).astype(x.dtype))
    return found


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """`[N]`, or `[N, K]` of a column of lists; NaN where there is none."""
    if not pa.types.is_fixed_size_list(column.type):
        return column.to_numpy()
    x = np.full((len(column), column.type.list_size), np.nan, np.float32)
    x[column.is_valid().to_numpy()] = column.combine_chunks().flatten().to_numpy().reshape(-1, x.shape[1])
    return x


def learning_band(curves: Curves, learners: np.ndarray | None = None) -> Band | None:
    """The learning curve of some learners (all if left out), from where each has finished an episode.

    A learner without an episode since the row before keeps its last return; `None` if nobody alive has one.
    """
    returns = _carried_forward(curves.columns["episode_return"])
    counts = curves.alive & np.isfinite(returns[-1])
    if learners is not None:
        counts &= np.isin(np.arange(len(counts)), learners)
    shown = np.flatnonzero(counts)
    if not shown.size:
        return None
    start = int(np.argmax(np.isfinite(returns[:, shown]).all(axis=1)))
    scores = returns[start:, shown]
    band = interquartile_band(generator(0, Domain.REPORT_MEAN), scores.T)
    return Band(curves.env_steps[start:], shown, scores, *band)


def _carried_forward(x: np.ndarray) -> np.ndarray:
    """`[U, L]`, each gap filled with the last number before it."""
    row = np.where(np.isfinite(x), np.arange(len(x))[:, None], -1)
    last = np.maximum.accumulate(row, axis=0)
    return np.where(last >= 0, np.take_along_axis(x, np.maximum(last, 0), axis=0), np.nan)
