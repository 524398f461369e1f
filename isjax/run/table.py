"""The table of metrics: a row a learner and chunk, in Parquet.

While a run goes on, each of its parts keeps rows in files, each complete once it has its name:
`metrics/<part>/<last update>.parquet`. A checkpoint is written after the file that ends at its update, so that rows
up to any checkpoint are on disk. When the run ends, the files become the one `metrics.parquet`.
"""

import itertools
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from isjax.run.store import METRICS, ROWS_FOLDER, replacing

ROWS_IN_MEMORY = 2**18
"""Rows that wait in memory for the next checkpoint, at most: about 25 MB, or 45 with histograms."""


class Table:
    """Appends the rows of a part; at any moment, what `flush` wrote survives the process."""

    def __init__(self, folder: Path, learners: np.ndarray) -> None:
        self._folder, self._learners = folder, learners
        self._waiting: list[pa.Table] = []
        self._last_update = 0

    def append(self, update: int, metrics: dict[str, np.ndarray]) -> None:
        """Adds a row for each learner: `metrics` holds arrays `[l]`, measured up to `update`."""
        self._waiting.append(rows(update, self._learners, metrics))
        self._last_update = update
        if sum(len(table) for table in self._waiting) >= ROWS_IN_MEMORY:
            self.flush()

    def flush(self) -> None:
        """Puts the rows that wait on disk."""
        if self._waiting:
            self._folder.mkdir(parents=True, exist_ok=True)
            with replacing(self._folder / f"{self._last_update:012d}.parquet") as file:
                pq.write_table(pa.concat_tables(self._waiting), file)
            self._waiting = []

    def drop_after(self, update: int) -> None:
        """Removes the files beyond a checkpoint, whose rows will come again."""
        for file in _files(self._folder):
            if int(file.stem) > update:
                file.unlink()


def merge(folder: Path, rounds: Sequence[Sequence[tuple[Path, int]]], *, keep: bool) -> None:
    """Writes `metrics.parquet`: rows by update, then by learner.

    Args:
      folder: of the run.
      rounds: for each round, the folder and the number of learners of each part.
      keep: whether the files of the parts stay.
    """
    files = [file for parts in rounds for path, _ in parts for file in _files(path)]
    if files:
        # What another version of isjax began may have fewer columns, and narrower ones.
        schema = pa.unify_schemas([pq.read_schema(file) for file in files], promote_options="permissive")
        with replacing(folder / METRICS) as file, pq.ParquetWriter(file, schema) as writer:
            for table in _joined(itertools.chain.from_iterable(_side_by_side(parts, schema) for parts in rounds)):
                writer.write_table(table)
    if not keep and (folder / ROWS_FOLDER).exists():
        # All at once: whoever is killed here must not leave some of them to be merged, or read, again.
        done = folder / f".{ROWS_FOLDER}.done"
        shutil.rmtree(done, ignore_errors=True)
        (folder / ROWS_FOLDER).rename(done)
        shutil.rmtree(done, ignore_errors=True)


def _side_by_side(parts: Sequence[tuple[Path, int]], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of parts that train at the same time, chunk by chunk."""
    for chunks in itertools.zip_longest(*(_chunks(path, learners, schema) for path, learners in parts)):
        yield pa.concat_tables([chunk for chunk in chunks if chunk is not None])


def _chunks(path: Path, learners: int, schema: pa.Schema) -> Iterator[pa.Table]:
    for file in _files(path):
        table = pq.read_table(file, schema=schema)
        for first in range(0, len(table), learners):
            yield table.slice(first, learners)


def _joined(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables large enough to be written one by one."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(len(each) for each in waiting) >= ROWS_IN_MEMORY:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def rows(update: int, learners: np.ndarray, metrics: dict[str, np.ndarray]) -> pa.Table:
    """The rows of one chunk. What there was nothing to measure of is null.

    `update` is that of the chunk's end for every learner; `env_steps` of a dead one stands still.
    """
    alive = metrics["alive"]
    columns = {"learner": learners.astype(np.int32), "update": np.full(len(alive), update, np.int32)}
    for name in _ordered(metrics):
        x = np.asarray(metrics[name])
        if np.issubdtype(x.dtype, np.floating):
            # A dead learner's extremes over no updates are infinite; a living one's may really be.
            known = alive.reshape(-1, *(1,) * (x.ndim - 1)) | np.isfinite(x)
            x = np.where(known, x, np.nan).astype(x.dtype)
        columns[name] = x
    return pa.table({name: _column(x) for name, x in columns.items()})


def _column(x: np.ndarray) -> pa.Array:
    """Of numbers `[L]`, or of lists `[L, K]`."""
    if x.ndim == 1:
        return pa.array(x, from_pandas=True)
    return pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])


def _files(path: Path) -> list[Path]:
    """The files of a part, in order."""
    return sorted(path.glob("[0-9]*.parquet"))


def read_metrics(folder: Path, columns: Sequence[str] | None = None, updates: np.ndarray | None = None) -> pa.Table:
    """The table of a run, finished or not.

    Args:
      folder: of the run.
      columns: those to read; all if left out.
      updates: those whose rows to read; all if left out.

    Raises:
      ValueError: there are no rows yet, or a file is damaged.
    """
    files = sorted((folder / ROWS_FOLDER).glob("*/[0-9]*.parquet")) or [folder / METRICS]
    if not files[0].exists():
        raise ValueError(f"{folder} has no rows yet: {METRICS} is missing.")
    try:
        wanted = None if updates is None else pc.field("update").isin(pa.array(updates))
        tables = [pq.read_table(file, columns=columns, filters=wanted) for file in files]
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowInvalid as error:
        raise ValueError(f"The table of {folder} cannot be read: {error}.") from error


def _ordered(metrics: dict[str, np.ndarray]) -> list[str]:
    first = [name for name in ("env_steps", "episode_return", "episodes") if name in metrics]
    last = [name for name in ("alive", "died_at") if name in metrics]
    middle = sorted(set(metrics) - {"update", *first, *last})
    return [*first, *middle, *last]
