"""Checkpoints of a population: asynchronous, atomic, the newest few kept. Each is a table with a row a learner."""

import dataclasses
import json
import logging
import re
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import future

from isjax.learner import LearnerState
from isjax.learner.keys import unrolled_threefry
from isjax.run.files import Damaged, brief, check_seal, checksum, is_number, is_regular, kind_of, object_of, sealed

Rows = dict[str, np.ndarray]
"""By dtype, `[L, K]`: all that a state holds of that dtype, side by side. Few large arrays cost a fraction of many
small ones to write, and learners can be taken from several tables."""
_ROWS, _CHECKSUM, _PROGRESS = "state/rows.npz", "state/rows.json", "progress/metadata"
"""Files of a checkpoint."""
_UNFINISHED = ".orbax-checkpoint-tmp"
_RENAMED = {"kl_cost": "algorithm"}
"""Arrays of a state that earlier versions of isjax called otherwise, and what they are called now."""


class RowsHandler(ocp.AsyncCheckpointHandler):
    """Writes rows as one file, and their checksum beside it; also on a host that is not the first."""

    FILE, CHECKSUM = Path(_ROWS).name, Path(_CHECKSUM).name

    async def async_save(self, directory: Any, args: "RowsSave") -> list[Any]:
        """Starts to write."""
        return [future.CommitFutureAwaitingContractedSignals(self._write(directory, args.rows), name="rows")]

    def save(self, directory: Any, args: "RowsSave") -> None:
        """Writes."""
        np.savez(directory / self.FILE, **args.rows)  # type: ignore[arg-type]
        (directory / self.CHECKSUM).write_text(json.dumps({"checksum": checksum(args.rows)}))

    def restore(self, directory: Any, args: Any = None) -> Rows:
        """Reads everything."""
        with np.load(directory / self.FILE) as file:
            return dict(file)

    async def _write(self, directory: Any, rows: Rows) -> None:
        self.save(directory, RowsSave(rows))


@ocp.args.register_with_handler(RowsHandler, for_save=True)
@dataclasses.dataclass
class RowsSave(ocp.args.CheckpointArgs):
    """The rows to save."""

    rows: Rows


@ocp.args.register_with_handler(RowsHandler, for_restore=True)
@dataclasses.dataclass
class RowsRestore(ocp.args.CheckpointArgs):
    """Nothing needs to be said."""


class Restored(NamedTuple):
    """A checkpoint that was read."""

    update: int
    rows: Rows
    progress: dict[str, Any]
    damaged: list[int]
    """Updates of newer checkpoints that could not be read, and were removed."""


class Checkpoints:
    """The checkpoints of one folder, by update."""

    def __init__(self, folder: Path, *, kept: int = 2) -> None:
        here = jax.process_index()
        # Each process writes folders of its own: nobody waits for the others.
        alone = ocp.options.MultiprocessingOptions(
            primary_host=here, active_processes={here}, barrier_sync_key_prefix=f"process{here}"
        )
        options = ocp.CheckpointManagerOptions(
            max_to_keep=kept,
            enable_async_checkpointing=True,
            create=False,
            # Otherwise writing waits for signals that all processes share, and that the first to end removes.
            async_options=ocp.options.AsyncOptions(create_directories_asynchronously=False),
            multiprocessing_options=alone if jax.process_count() > 1 else ocp.options.MultiprocessingOptions(),
        )
        handlers: dict[str, Any] = {
            "state": RowsHandler(),
            "progress": ocp.JsonCheckpointHandler(multiprocessing_options=alone),
        }
        self._folder, self._kept = folder.absolute(), kept
        self._options, self._handlers = options, handlers
        self._manager: ocp.CheckpointManager | None = None

    def save(self, update: int, rows: Rows, progress: dict[str, Any]) -> None:
        """Starts to write; waits for the one before."""
        if self._manager is None:
            logging.getLogger("absl").setLevel(logging.CRITICAL)  # what goes wrong is raised
            self._folder.mkdir(parents=True, exist_ok=True)
            self._manager = ocp.CheckpointManager(self._folder, options=self._options, item_handlers=self._handlers)
        items = ocp.args.Composite(state=RowsSave(rows), progress=ocp.args.JsonSave(progress))
        self._manager.save(update, args=items)

    def tidy(self, damaged: list[int]) -> None:
        """Removes damaged checkpoints, and what a process that was killed left: half of one, or one too many."""
        if not self._folder.is_dir():
            return
        for update in damaged:
            _remove(self._folder / str(update))
        for path in self._folder.iterdir():
            if _UNFINISHED in path.name:
                _remove(path)
        for update in _updates(self._folder)[self._kept :]:
            _remove(self._folder / str(update))

    def wait(self) -> None:
        """Returns once everything saved is on disk; raises what went wrong while writing."""
        if self._manager:
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and lets go of the threads."""
        if self._manager:
            self._manager.close()


def read_newest(folder: Path, learners: np.ndarray | None = None, run: str | None = None) -> Restored | None:
    """The newest checkpoint that can be read; `None` if there are none at all. Safe beside a process that trains.

    Args:
      folder: of checkpoints.
      learners: whose it has to be.
      run: digest of the plan that it has to be of.

    Raises:
      Damaged: there are some, and none can be read.
    """
    damaged: list[int] = []
    error: Exception | None = None
    for update in _updates(folder):
        try:
            rows, progress = _read(folder / str(update))
            if learners is not None:
                _check(rows, progress, update, learners, run)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, RecursionError) as caught:
            damaged, error = [*damaged, update], caught
            continue
        return Restored(update, rows, progress, damaged)
    if error:
        raise Damaged(
            f"No checkpoint in {folder} can be read; the oldest says: {brief(error)}. "
            "Without that folder its learners are trained again."
        ) from error
    return None


def sealed_progress(update: int, learners: np.ndarray, run: str, **more: Any) -> dict[str, Any]:
    """What goes with the rows of a checkpoint, so that it can be told from others and from a damaged one."""
    who = {"update": update, "learners": len(learners), "indices": checksum({"learners": learners}), "run": run}
    return sealed(who | more)


def _updates(folder: Path) -> list[int]:
    """Those of the checkpoints in a folder, the newest first."""
    if not folder.is_dir():
        if folder.exists():
            raise Damaged(f"{folder} must be a folder of checkpoints, but it is a file. Without it, they start again.")
        return []
    return sorted(int(path.name) for path in folder.iterdir() if re.fullmatch("0|[1-9][0-9]*", path.name))[::-1]


def _read(folder: Path) -> tuple[Rows, dict[str, Any]]:
    for name in (_ROWS, _PROGRESS):
        if not is_regular(folder / name):
            raise ValueError(f"its {name} is {kind_of(folder / name)}")
    with np.load(folder / _ROWS) as file:
        rows = dict(file)
    progress = json.loads((folder / _PROGRESS).read_text("utf-8"))
    if not isinstance(progress, dict):
        raise ValueError(f"its {_PROGRESS} holds no object")
    check_seal(progress, folder / _PROGRESS)
    is_checked = "run" in progress  # an earlier version of isjax wrote no checksum
    if is_checked and json.loads((folder / _CHECKSUM).read_text("utf-8"))["checksum"] != checksum(rows):
        raise ValueError(f"the checksum of its {_ROWS} is another")
    if isinstance(arrays := progress.get("layout"), dict):
        progress["layout"] = {_RENAMED.get(name, name): x for name, x in arrays.items()}
    return rows, progress


def _check(rows: Rows, progress: dict[str, Any], update: int, learners: np.ndarray, run: str | None) -> None:
    """Raises `ValueError` unless a checkpoint is that of some learners of a run at an update."""
    for name in ("key", "layout", "size", "teams", "seconds"):
        if name not in progress:
            raise ValueError(f"its {_PROGRESS} lacks {name}")
    if not object_of(compile_s=is_number, train_s=is_number, wall_s=is_number)(progress["seconds"]):
        raise ValueError(f"its {_PROGRESS} holds no seconds")
    counts = {len(x) if x.ndim == 2 else 0 for x in rows.values()}
    if counts != {len(learners)}:
        raise ValueError(f"it holds {max(counts, default=0)} learners, but the run has {len(learners)} there")
    if "run" in progress:
        here = sealed_progress(update, learners, run or progress["run"])
        different = [name for name in ("run", "update", "learners", "indices") if progress.get(name) != here[name]]
        if different:
            raise ValueError(f"it is that of another {different[0]}")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def pack(state: LearnerState) -> dict[str, jax.Array]:
    """All arrays of a population's state as rows, copied: the state itself may be donated while they are written."""
    columns: dict[str, list[jax.Array]] = {}
    for x in jax.tree.leaves(state):
        x = jax.random.key_data(x) if _is_key(x) else x
        columns.setdefault(str(x.dtype), []).append(x.reshape(x.shape[0], -1))
    return {name: jnp.copy(jnp.concatenate(xs, axis=1)) for name, xs in columns.items()}


def unpack(rows: Rows, like: LearnerState, key_implementation: str) -> LearnerState:
    """The state that was packed, its arrays in NumPy; `like` has its structure and shapes.

    Raises:
      Damaged: it has other arrays.
    """
    widths = _widths(like)
    if widths != {name: x.shape[1] for name, x in rows.items()}:
        raise Damaged(f"A checkpoint is damaged: its rows are not the {sum(widths.values()):,} numbers of a state.")
    at = dict.fromkeys(rows, 0)

    def take(x: jax.Array) -> Any:
        data = jax.eval_shape(jax.random.key_data, x) if _is_key(x) else x
        name, width = str(data.dtype), int(np.prod(data.shape[1:]))
        columns = rows[name][:, at[name] : at[name] + width].reshape(-1, *data.shape[1:])
        at[name] += width
        if not _is_key(x):
            return columns
        key = jax.random.wrap_key_data(jnp.asarray(columns), impl=key_implementation)
        return key if key.dtype == x.dtype else unrolled_threefry(key)

    return jax.tree.map(take, like)


def _widths(like: LearnerState) -> dict[str, int]:
    """By dtype, how many numbers a learner's state has."""
    widths: dict[str, int] = {}
    for x in jax.tree.leaves(like):
        x = jax.eval_shape(jax.random.key_data, x) if _is_key(x) else x
        widths[str(x.dtype)] = widths.get(str(x.dtype), 0) + int(np.prod(x.shape[1:]))
    return widths


def layout(state: LearnerState) -> dict[str, Any]:
    """What rows are made of, to tell the state of another version: for each array its shape without learners."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): [str(x.dtype), list(x.shape[1:])]
        for path, x in jax.tree.leaves_with_path(state)
    }


def _is_key(x: jax.Array) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
