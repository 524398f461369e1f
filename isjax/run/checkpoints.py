"""Checkpoints of a population: asynchronous, atomic, the newest few kept. Each is a table with a row a learner."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import future

from isjax.learner import LearnerState
from isjax.learner.keys import written_out

Rows = dict[str, np.ndarray]
"""By dtype, `[L, K]`: all that a state holds of that dtype, side by side. Few large arrays cost a fraction of many
small ones to write, and learners can be taken from several tables."""


class RowsHandler(ocp.AsyncCheckpointHandler):
    """Writes rows as one file, whose checksums tell a damaged one; also on a host that is not the first."""

    FILE = "rows.npz"

    async def async_save(self, directory: Any, args: "RowsSave") -> list[Any]:
        """Starts to write."""
        return [future.CommitFutureAwaitingContractedSignals(self._write(directory, args.rows), name="rows")]

    def save(self, directory: Any, args: "RowsSave") -> None:
        """Writes."""
        np.savez(directory / self.FILE, **args.rows)  # type: ignore[arg-type]

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
        self._folder = folder.absolute()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._manager = ocp.CheckpointManager(self._folder, options=options, item_handlers=handlers)

    def save(self, update: int, rows: Rows, progress: dict[str, Any]) -> None:
        """Starts to write; waits for the one before."""
        items = ocp.args.Composite(state=RowsSave(rows), progress=ocp.args.JsonSave(progress))
        self._manager.save(update, args=items)

    def restore(self) -> Restored | None:
        """The newest checkpoint that can be read; `None` if there are none at all.

        Raises:
          ValueError: there are some, and none can be read.
        """
        damaged: list[int] = []
        error: Exception | None = None
        for update in sorted(self._manager.all_steps(), reverse=True):
            try:
                rows, progress = self._read(update)
            except Exception as caught:  # whatever the storage beneath makes of damaged bytes
                damaged, error = [*damaged, update], caught
                continue
            self._remove(damaged)
            return Restored(update, rows, progress, damaged)
        if error:
            reason = str(error).partition("\n")[0]
            raise ValueError(f"No checkpoint in {self._folder} can be read; the oldest says: {reason}") from error
        return None

    def wait(self) -> None:
        """Returns once everything saved is on disk; raises what went wrong while writing."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and lets go of the threads."""
        self._manager.close()

    def _read(self, update: int) -> tuple[Rows, dict[str, Any]]:
        items = ocp.args.Composite(state=RowsRestore(), progress=ocp.args.JsonRestore())
        found = self._manager.restore(update, args=items)
        return found["state"], found["progress"]

    def _remove(self, updates: list[int]) -> None:
        for update in updates:
            shutil.rmtree(self._folder / str(update))
        if updates:
            self._manager.reload()


def pack(state: LearnerState) -> dict[str, jax.Array]:
    """All arrays of a population's state as rows, copied: the state itself may be donated while they are written."""
    columns: dict[str, list[jax.Array]] = {}
    for x in jax.tree.leaves(state):
        x = jax.random.key_data(x) if _is_key(x) else x
        columns.setdefault(str(x.dtype), []).append(x.reshape(x.shape[0], -1))
    return {name: jnp.copy(jnp.concatenate(xs, axis=1)) for name, xs in columns.items()}


def unpack(rows: Rows, like: LearnerState, key_implementation: str) -> LearnerState:
    """The state that was packed, its arrays in NumPy; `like` has its structure and shapes."""
    at = dict.fromkeys(rows, 0)

    def take(x: jax.Array) -> Any:
        data = jax.eval_shape(jax.random.key_data, x) if _is_key(x) else x
        name, width = str(data.dtype), int(np.prod(data.shape[1:]))
        columns = rows[name][:, at[name] : at[name] + width].reshape(-1, *data.shape[1:])
        at[name] += width
        if not _is_key(x):
            return columns
        key = jax.random.wrap_key_data(jnp.asarray(columns), impl=key_implementation)
        return key if key.dtype == x.dtype else written_out(key)

    state = jax.tree.map(take, like)
    assert all(at[name] == x.shape[1] for name, x in rows.items())
    return state


def layout(state: LearnerState) -> dict[str, Any]:
    """What rows are made of, to tell the state of another version: for each array its shape without learners."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): [str(x.dtype), list(x.shape[1:])]
        for path, x in jax.tree.leaves_with_path(state)
    }


def key_implementation(state: LearnerState) -> str:
    """Name of the generator behind the state's keys: their data alone would not tell."""
    return str(jax.random.key_impl(state.key))


def _is_key(x: jax.Array) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
