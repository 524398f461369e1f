"""The table of metrics: a row a learner and chunk, in Parquet.

While a run goes on, each of its groups keeps rows in files, each complete once it has its name:
`metrics/<group>/<last update>.parquet`. A checkpoint is written after the file that ends at its update, so that rows
up to any checkpoint are on disk. When the run ends, the files become the one `metrics.parquet`.
"""

import itertools
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from isjax.run.files import (
    CHECKPOINTS,
    METRICS,
    OUTCOMES,
    ROWS_FOLDER,
    Damaged,
    brief,
    checksum,
    is_regular,
    is_there,
    kind_of,
    replacing,
)
from isjax.run.groups import LearnerGroup

_CHECKSUMS = b"checksums"
"""Where a file of rows has those of its columns."""
ROWS_IN_MEMORY = 2**18
"""Rows that wait in memory for the next checkpoint, at most: about 25 MB, or 45 with histograms."""


class Table:
    """Appends the rows of a group; at any moment, what `flush` wrote survives the process."""

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
                pq.write_table(_with_checksums(pa.concat_tables(self._waiting)), file, write_page_checksum=True)
            self._waiting = []

    def drop_after(self, update: int) -> None:
        """Removes the files beyond a checkpoint, whose rows will come again."""
        for file in _files(self._folder):
            if int(file.stem) > update:
                file.unlink()


def merge(folder: Path, stages: Sequence[Sequence[tuple[Path, int]]], *, keep: bool) -> None:
    """Writes `metrics.parquet`: rows by update, then by learner.

    Args:
      folder: of the run.
      stages: for each stage, the folder and the number of learners of each group.
      keep: whether the files of the groups stay.
    """
    files = [file for groups in stages for path, _ in groups for file in _files(path)]
    done = folder / f".{ROWS_FOLDER}.done"
    if files:
        # What another version of isjax began may have fewer columns, and narrower ones.
        schema = pa.unify_schemas([_schema(file) for file in files], promote_options="permissive").remove_metadata()
        with replacing(folder / METRICS) as file, _writer(file, schema) as writer:
            for table in _joined(itertools.chain.from_iterable(_side_by_side(groups, schema) for groups in stages)):
                writer.write_table(table)
    if not keep and (folder / ROWS_FOLDER).exists():
        # All at once: whoever is killed here must not leave some of them to be merged, or read, again.
        shutil.rmtree(done, ignore_errors=True)
        (folder / ROWS_FOLDER).rename(done)
    shutil.rmtree(done, ignore_errors=True)


def check_rows(
    folder: Path, group: LearnerGroup, update: int | None, chunk: int, advice: str, columns: Sequence[str] | None = None
) -> None:
    """Raises `Damaged` unless the files of a group hold the rows that they must hold, no more and no fewer.

    Args:
      folder: of the group's files.
      group: whose rows.
      update: up to which there must be rows; up to the last file if left out.
      chunk: updates between rows.
      advice: what to do if there are not.
      columns: those to read; all if left out, so that every value is compared with the checksum of its page.
    """
    at = group.start
    for file in _files(folder):
        end = int(file.stem)
        if update is not None and end > update:
            break
        _compare(_read(file, columns, advice), [group.learners], _ends(at, end, chunk), file, advice)
        at = end
    if update is not None and at < update:
        raise Damaged(f"{folder} lacks the rows after update {at}, up to {update}. {advice}")


def check_merged(path: Path, stages: Sequence[Sequence[LearnerGroup]], chunk: int) -> None:
    """Raises `Damaged` unless the one file holds the rows of all groups, which have ended."""
    advice = f"To train its learners again, remove it, {CHECKPOINTS} and {OUTCOMES}."
    table = _read(path, ["update", "learner"], advice)
    first = 0
    for groups in stages:
        ends = _ends(groups[0].start, groups[0].stop, chunk)
        count = len(ends) * sum(len(group.learners) for group in groups)
        _compare(table.slice(first, count), [group.learners for group in groups], ends, path, advice)
        first += count
    if len(table) != first:
        raise Damaged(f"{path} holds {len(table):,} rows, but the run has {first:,}. {advice}")


def has_groups(folder: Path) -> bool:
    """Whether the rows of a run are still in the files of its groups."""
    return is_there(folder / ROWS_FOLDER)


def _ends(start: int, stop: int, chunk: int) -> np.ndarray:
    """The updates that rows are measured up to, from one update to another."""
    return np.append(np.arange(start + chunk, stop, chunk), stop)


def _compare(table: pa.Table, learners: Sequence[np.ndarray], ends: np.ndarray, path: Path, advice: str) -> None:
    """Raises `Damaged` unless there is a row of each learner at each of these updates, in order."""
    everyone = np.concatenate(learners)
    found = {name: table[name].to_numpy() for name in ("update", "learner")}
    expected = {"update": np.repeat(ends, len(everyone)), "learner": np.tile(everyone, len(ends))}
    if all(np.array_equal(found[name], x) for name, x in expected.items()):
        return
    missing = np.setdiff1d(ends, found["update"])
    lacks = f"the rows of update {missing[0]} are missing" if len(missing) else "its rows are those of others"
    raise Damaged(f"{path} is not what was written: {lacks}. {advice}")


def _read(file: Path, columns: Sequence[str] | None = None, advice: str = "", filters: Any = None) -> pa.Table:
    """A file of rows, its pages and, if all rows are read, its columns compared with their checksums.

    Raises:
      Damaged: it is none.
    """
    try:
        if not is_regular(file):
            raise ValueError(f"it is {kind_of(file)}")
        names = None if columns is None else list(columns)
        table = pq.read_table(file.absolute(), columns=names, page_checksum_verification=True, filters=filters)
        if filters is None:
            _check_checksums(table, columns)
        for name in ("update", "learner"):
            is_wanted = columns is None or name in columns
            if is_wanted and (name not in table.column_names or not pa.types.is_integer(table.schema.field(name).type)):
                raise ValueError(f"it has no column {name}")
        return table
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{file} cannot be read: {brief(error)}. {advice}".rstrip()) from error


def _with_checksums(table: pa.Table) -> pa.Table:
    """With a checksum of each column, which goes with the file."""
    found = {name: _column_checksum(table[name]) for name in table.column_names}
    return table.replace_schema_metadata({_CHECKSUMS: json.dumps(found)})


def _check_checksums(table: pa.Table, columns: Sequence[str] | None) -> None:
    """Raises `ValueError` if a column is not what was written; what has no checksum is from an earlier version."""
    expected = json.loads((table.schema.metadata or {}).get(_CHECKSUMS, b"{}"))
    if expected and set(table.column_names) != set(expected if columns is None else columns) & set(expected):
        raise ValueError("its columns are others")
    for name in table.column_names:
        if expected and expected[name] != _column_checksum(table[name]):
            raise ValueError(f"the checksum of its column {name} is another")


def _column_checksum(column: pa.ChunkedArray) -> int:
    """Of values, and of where there are none."""
    is_there = column.is_valid().combine_chunks().to_numpy(zero_copy_only=False)
    values = column.drop_null().combine_chunks()
    values = values.flatten() if pa.types.is_fixed_size_list(column.type) else values
    return checksum({"there": is_there, "values": values.to_numpy(zero_copy_only=False)})


def _in_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """With nulls for the columns that it lacks."""
    nulls = {field.name: pa.nulls(len(table), field.type) for field in schema}
    found = {name: table[name] for name in table.column_names}
    return pa.table([(nulls | found)[field.name] for field in schema], schema=schema)


def _schema(file: Path) -> pa.Schema:
    return _read(file).schema if not is_regular(file) else pq.read_schema(file)


def _writer(file: Any, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(file, schema, write_page_checksum=True)


def _side_by_side(groups: Sequence[tuple[Path, int]], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of groups that train at the same time, chunk by chunk."""
    for chunks in itertools.zip_longest(*(_chunks(path, learners, schema) for path, learners in groups)):
        yield pa.concat_tables([chunk for chunk in chunks if chunk is not None])


def _chunks(path: Path, learners: int, schema: pa.Schema) -> Iterator[pa.Table]:
    for file in _files(path):
        table = _in_schema(_read(file), schema)
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
    """The files of a group, in order."""
    return sorted(file for file in path.glob("*.parquet") if re.fullmatch("[0-9]{12}", file.stem))


def read_metrics(folder: Path, columns: Sequence[str] | None = None, updates: np.ndarray | None = None) -> pa.Table:
    """The table of a run, finished or not.

    Args:
      folder: of the run.
      columns: those to read; all if left out.
      updates: those whose rows to read; all if left out.

    Raises:
      ValueError: there are no rows yet, or a file is damaged.
    """
    files = [file for group in sorted((folder / ROWS_FOLDER).glob("*")) for file in _files(group)]
    files = files or [folder / METRICS]
    if not is_there(files[0]):
        raise ValueError(f"{folder} has no rows yet: {METRICS} is missing.")
    wanted = None if updates is None else pc.field("update").isin(pa.array(updates))
    tables = [_read(file, columns, filters=wanted) for file in files]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise Damaged(f"The table of {folder} cannot be read: {brief(error)}.") from error


def _ordered(metrics: dict[str, np.ndarray]) -> list[str]:
    first = [name for name in ("env_steps", "episode_return", "episodes") if name in metrics]
    last = [name for name in ("alive", "died_at") if name in metrics]
    middle = sorted(set(metrics) - {"update", *first, *last})
    return [*first, *middle, *last]
