"""Checkpoints of a whole population: asynchronous, atomic, the last two of them kept."""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from isjax.learner import LearnerState
from isjax.types import Device

KEPT = 2


class Restored(NamedTuple):
    """A checkpoint that was read."""

    update: int
    state: LearnerState
    progress: dict[str, Any]
    damaged: list[int]
    """Updates of newer checkpoints that could not be read, and were removed."""


class Checkpoints:
    """The checkpoints of one folder, by update."""

    def __init__(self, folder: Path) -> None:
        options = ocp.CheckpointManagerOptions(max_to_keep=KEPT, enable_async_checkpointing=True)
        self._folder = folder.absolute()
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def save(self, update: int, leaves: dict[str, jax.Array], progress: dict[str, Any]) -> None:
        """Starts to write; returns once `leaves` (see `copy_leaves`) are off the device."""
        items = ocp.args.Composite(state=ocp.args.StandardSave(leaves), progress=ocp.args.JsonSave(progress))
        self._manager.save(update, args=items)

    def restore(self, like: LearnerState, *, device: Device | None = None) -> Restored | None:
        """The newest checkpoint that can be read; `None` if there are none at all.

        Arrays are placed as those of `like` are, or all on `device`; `like` may then be shapes and types alone.

        Raises:
          ValueError: there are some, and none can be read.
        """
        damaged: list[int] = []
        error: Exception | None = None
        for update in sorted(self._manager.all_steps(), reverse=True):
            try:
                state, progress = self._read(update, like, device)
            except Exception as caught:  # whatever the storage beneath makes of damaged bytes
                damaged, error = [*damaged, update], caught
                continue
            self._remove(damaged)
            return Restored(update, state, progress, damaged)
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

    def _read(self, update: int, like: LearnerState, device: Device | None) -> tuple[LearnerState, dict[str, Any]]:
        leaves = copy_leaves(like) if device is None else jax.eval_shape(copy_leaves, like)
        placed = None if device is None else jax.sharding.SingleDeviceSharding(device)
        wanted = {
            name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placed or x.sharding) for name, x in leaves.items()
        }
        items = ocp.args.Composite(state=ocp.args.StandardRestore(wanted), progress=ocp.args.JsonRestore())
        found = self._manager.restore(update, args=items)
        leaves, progress = found["state"], found["progress"]
        return jax.tree.map_with_path(lambda path, x: _typed(x, leaves[_name(path)], progress["key"]), like), progress

    def _remove(self, updates: list[int]) -> None:
        for update in updates:
            shutil.rmtree(self._folder / str(update))
        if updates:
            self._manager.reload()


@jax.jit
def copy_leaves(state: LearnerState) -> dict[str, jax.Array]:
    """The arrays of a state by name, on the device: the state itself may be donated while they are written."""
    return {_name(path): jnp.copy(_untyped(x)) for path, x in jax.tree.leaves_with_path(state)}


def key_implementation(state: LearnerState) -> str:
    """Name of the generator behind the state's keys: their data alone would not tell."""
    return str(jax.random.key_impl(state.key))


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _is_key(x: jax.Array) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _untyped(x: jax.Array) -> jax.Array:
    return jax.random.key_data(x) if _is_key(x) else x


def _typed(like: jax.Array, x: jax.Array, implementation: str) -> jax.Array:
    """`x` with the type of `like`; where that is a shape alone, keys are of the implementation that was saved."""
    if not _is_key(like):
        return x
    return jax.random.wrap_key_data(
        x, impl=jax.random.key_impl(like) if isinstance(like, jax.Array) else implementation
    )
