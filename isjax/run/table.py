"""The table of metrics: a row a learner and chunk, in Parquet.

While a run goes on, rows are kept in parts, each complete once it has its name: `metrics/<last update>.parquet`.
A checkpoint is written after the part that ends at its update, so that rows up to any checkpoint are on disk.
When the run ends, the parts become the one `metrics.parquet`.
"""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from isjax.run.store import METRICS, replacing

ROWS_IN_MEMORY = 2**18
"""Rows that wait in memory for the next checkpoint, at most: about 25 MB."""


class Table:
    """Appends rows; at any moment, what `flush` wrote survives the process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts = folder / "metrics"
        self._waiting: list[pa.Table] = []
        self._last_update = 0

    def append(self, update: int, metrics: dict[str, np.ndarray]) -> None:
        """Adds a row for each learner: `metrics` holds arrays `[L]`, measured up to `update`."""
        self._waiting.append(rows(update, metrics))
        self._last_update = update
        if sum(len(table) for table in self._waiting) >= ROWS_IN_MEMORY:
            self.flush()

    def flush(self) -> None:
        """Puts the rows that wait on disk."""
        if self._waiting:
            self._parts.mkdir(exist_ok=True)
            with replacing(self._parts / f"{self._last_update:012d}.parquet") as file:
                pq.write_table(pa.concat_tables(self._waiting), file)
            self._waiting = []

    def drop_after(self, update: int) -> None:
        """Removes the parts beyond a checkpoint, whose rows will come again."""
        for part in parts(self._folder):
            if int(part.stem) > update:
                part.unlink()

    def merge(self, *, keep_parts: bool) -> None:
        """Writes `metrics.parquet`, one part in memory at a time."""
        self.flush()
        found = parts(self._folder)
        if found:
            with (
                replacing(self._folder / METRICS) as file,
                pq.ParquetWriter(file, pq.read_schema(found[0])) as writer,
            ):
                for part in found:
                    writer.write_table(pq.read_table(part))
        if not keep_parts:
            shutil.rmtree(self._parts, ignore_errors=True)


def rows(update: int, metrics: dict[str, np.ndarray]) -> pa.Table:
    """The rows of one chunk. What there was nothing to measure of is null.

    `update` is that of the chunk's end for every learner; `env_steps` of a dead one stands still.
    """
    alive = metrics["alive"]
    columns = {"learner": np.arange(len(alive), dtype=np.int32), "update": np.full(len(alive), update, np.int32)}
    for name in _ordered(metrics):
        x = np.asarray(metrics[name])
        if np.issubdtype(x.dtype, np.floating):
            # A dead learner's extremes over no updates are infinite; a living one's may really be.
            x = np.where(alive | np.isfinite(x), x, np.nan).astype(x.dtype)
        columns[name] = x
    return pa.table({name: pa.array(x, from_pandas=True) for name, x in columns.items()})


def parts(folder: Path) -> list[Path]:
    """The parts of a run that is not finished, in order."""
    return sorted((folder / "metrics").glob("[0-9]*.parquet"))


def read_metrics(folder: Path) -> pa.Table:
    """The table of a run, finished or not.

    Raises:
      ValueError: there are no rows yet, or a file is damaged.
    """
    files = parts(folder) or [folder / METRICS]
    if not files[0].exists():
        raise ValueError(f"{folder} has no rows yet: {METRICS} is missing.")
    try:
        return pa.concat_tables([pq.read_table(file) for file in files])
    except pa.ArrowInvalid as error:
        raise ValueError(f"The table of {folder} cannot be read: {error}.") from error


def _ordered(metrics: dict[str, np.ndarray]) -> list[str]:
    first = [name for name in ("env_steps", "episode_return", "episodes") if name in metrics]
    last = [name for name in ("alive", "died_at") if name in metrics]
    middle = sorted(set(metrics) - {"update", *first, *last})
    return [*first, *middle, *last]
