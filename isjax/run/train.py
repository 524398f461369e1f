"""The host loop: compiled chunks of updates, rows and checkpoints between them, an end that can be resumed."""

import contextlib
import dataclasses
import datetime
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from isjax.learner import make_learner
from isjax.population import make_population
from isjax.run import store
from isjax.run.checkpoints import Checkpoints, copy_leaves, key_implementation
from isjax.run.progress import Glance, glance
from isjax.run.report import write_report
from isjax.run.sinks import check_sink, make_sink, scalars
from isjax.run.store import Plan
from isjax.run.summary import evaluation_key, final_return, no_return, summarize, training_key
from isjax.run.table import Table
from isjax.types import Device

Chunk = tuple[int, dict[str, jax.Array]]
"""The update that a chunk ends at, and its metrics, still being computed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What a run does besides its numbers: these may change when it is resumed."""

    checkpoint_every: float = 60.0
    """Seconds between checkpoints."""
    devices: int = 0
    """How many devices to spread the learners over; 0 takes all."""
    sink: str = "none"
    """Where curves go besides the folder: "none", "tensorboard" or "wandb"."""
    quiet: bool = False
    """No progress."""
    command: str = ""
    """The command line that repeats the run, for its records."""


class Run:
    """One run in its folder.

    Args:
      plan: what decides the numbers.
      folder: where everything goes.
      resume: go on from the newest checkpoint of the folder.
      options: what does not decide the numbers.

    Raises:
      ValueError: the plan is impossible, the folder holds another run, or an option cannot be met.

    Example:
      `summary = Run(Plan(config=Config(), hyper=Hyper()), Path("runs/first")).train()`
    """

    def __init__(self, plan: Plan, folder: Path, *, resume: bool = False, options: Options | None = None) -> None:
        self.plan, self.folder, self.options = plan, folder, options or Options()
        self.resume = resume
        check_sink(self.options.sink)
        plan.hyper.check()
        _check_folder(plan, folder, resume)
        self._devices = _devices(self.options.devices)
        self._population = make_population(make_learner(plan.config), plan.learners, devices=self._devices)
        self._glance: Glance = glance(self.options.quiet)
        self._seconds = {"compile_s": 0.0, "train_s": 0.0, "wall_s": 0.0}
        self._update = 0

    def train(self) -> dict[str, Any]:
        """Trains to the end, or until it is told to stop; returns what `summary.json` holds.

        Raises:
          ValueError: another process trains in this folder, or no checkpoint of it can be read.
          KeyboardInterrupt: stopped where there is nothing to write; the folder can be resumed.
        """
        self._began = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        with store.locked(self.folder), contextlib.closing(self._open_checkpoints()):
            self._write_settings()
            self._start()
            sink = make_sink(self.options.sink, self.folder, store.read_json(self.folder / store.CONFIG), self._steps())
            with stopping(self._glance) as stop:
                try:
                    self._loop(stop, sink)
                finally:
                    self._glance.stop()
                    if sink:
                        sink.close()
            return self._end()

    def _open_checkpoints(self) -> Checkpoints:
        self._checkpoints = Checkpoints(self.folder / store.CHECKPOINTS)
        self._table = Table(self.folder)
        return self._checkpoints

    def _write_settings(self) -> None:
        if not store.holds_run(self.folder):
            settings = self.plan.as_json() | {
                "id": uuid.uuid4().hex[:8],
                "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "command": self.options.command,
                "device": store.device_name(self._used_devices()),
                "devices": len(self._used_devices()),
                "versions": store.versions(),
            }
            store.write_json(self.folder / store.CONFIG, settings)

    def _start(self) -> None:
        """A state to start from, and the programs, compiled ahead."""
        self._glance.note(f"{self.plan.learners} learners on {store.device_name(self._used_devices())}: compiling …")
        began = time.monotonic()
        self._state = self._population.init(training_key(self.plan), self.plan.hyper)
        self._advance = self._population.advance.lower(self._state, jnp.int32(1)).compile()
        self._evaluate = self._population.evaluate.lower(self._state, evaluation_key(self.plan)).compile()
        compile_s = time.monotonic() - began
        if self.resume:
            self._restore()
        self._table.drop_after(self._update)
        self._seconds["compile_s"] += compile_s
        self._saved = self._update

    def _restore(self) -> None:
        found = self._checkpoints.restore(self._state)
        if found is None:
            self._glance.note(f"{self.folder} has no checkpoint yet: starting from the beginning.")
            return
        for update in found.damaged:
            self._glance.note(f"The checkpoint at update {update} is damaged; falling back to the one before.")
        if found.progress["key"] != key_implementation(self._state):
            raise ValueError(
                f"The run draws from {found.progress['key']} keys, but here they are {key_implementation(self._state)}."
            )
        self._state, self._update = found.state, found.update
        self._seconds = found.progress["seconds"]
        self._glance.note(f"Resuming at update {found.update} of {self.plan.config.updates}.")
        devices = store.read_json(self.folder / store.CONFIG)["devices"]
        if devices != len(self._used_devices()):
            self._glance.note(f"The run began on {devices} devices; on another number, last digits may differ.")

    def _loop(self, stop: Callable[[], bool], sink: Any) -> None:
        """Dispatches the next chunk before it looks at the last one, so that device and host both work."""
        self._glance.start(self._update, self.plan.config.updates)
        self._clock = self._chunk_clock = time.monotonic()
        next_save = self._clock + self.options.checkpoint_every
        waiting: Chunk | None = None
        while self._update < self.plan.config.updates and not stop():
            due = waiting is not None and time.monotonic() >= next_save
            copies = copy_leaves(self._state) if due else None
            chunk = self._dispatch()
            if waiting:
                self._record(waiting, sink)
            if waiting and copies:
                self._save(waiting[0], copies)
                next_save = time.monotonic() + self.options.checkpoint_every
            waiting = chunk
        if waiting:
            self._record(waiting, sink)
        if self._update > self._saved:
            self._save(self._update, copy_leaves(self._state))
        self._count_seconds()

    def _dispatch(self) -> Chunk:
        updates = min(self.plan.chunk, self.plan.config.updates - self._update)
        self._state, metrics = self._advance(self._state, jnp.int32(updates))
        self._update += updates
        return self._update, metrics

    def _record(self, chunk: Chunk, sink: Any) -> None:
        update, on_device = chunk
        metrics: dict[str, np.ndarray] = jax.device_get(on_device)
        now = time.monotonic()
        updates = (update - 1) % self.plan.chunk + 1
        steps = updates * self.plan.config.steps_per_update * int(metrics["alive"].sum())
        self._glance.show(update, steps / (now - self._chunk_clock), metrics)
        self._chunk_clock = now
        self._table.append(update, metrics)
        if sink:
            sink.write(update * self.plan.config.steps_per_update, scalars(metrics))

    def _save(self, update: int, copies: dict[str, jax.Array]) -> None:
        """The rows first: whatever checkpoint is found later, the rows up to it are there."""
        self._table.flush()
        self._count_seconds()
        seconds = self._seconds | {"wall_s": self._seconds["wall_s"] + time.monotonic() - self._began}
        progress = {"key": key_implementation(self._state), "seconds": seconds}
        self._checkpoints.save(update, copies, progress)
        self._saved = update

    def _end(self) -> dict[str, Any]:
        """Waits for the last checkpoint; evaluates, if there is nothing left to train."""
        self._checkpoints.wait()
        finished = self._update == self.plan.config.updates
        final = self._final_return() if finished else no_return()
        self._table.merge(keep_parts=not finished)
        self._seconds["wall_s"] += time.monotonic() - self._began
        summary: dict[str, Any] = {"status": "finished" if finished else "interrupted"}
        summary |= summarize(self.plan, self._state, self._update, self._used_devices(), self._seconds)
        summary["final_return"] = final
        store.write_json(self.folder / store.SUMMARY, summary)
        if finished:
            write_report(self.folder)
        return summary

    def _final_return(self) -> dict[str, Any]:
        key = evaluation_key(self.plan)
        evaluation = jax.device_get(self._evaluate(self._state, key))
        return final_return(evaluation.episode_return, jax.device_get(self._state.alive), key)

    def _count_seconds(self) -> None:
        now = time.monotonic()
        self._seconds = self._seconds | {"train_s": self._seconds["train_s"] + now - self._clock}
        self._clock = now

    def _steps(self) -> int:
        return self._update * self.plan.config.steps_per_update

    def _used_devices(self) -> list[Device]:
        return list(self._population.mesh.devices.flat)


@contextlib.contextmanager
def stopping(say: Glance) -> Iterator[Callable[[], bool]]:
    """While inside, SIGINT and SIGTERM ask to stop; a second one raises `KeyboardInterrupt` at once.

    Yields a function that tells whether it was asked. Only the main thread can listen to signals.
    """
    asked = threading.Event()

    def ask(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        say.note("Stopping after this chunk. Once more: at once, back to the last checkpoint.")

    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def is_finished(folder: Path) -> bool:
    """Whether the run of this folder has come to its end."""
    path = folder / store.SUMMARY
    return path.exists() and store.read_json(path).get("status") == "finished"


def _check_folder(plan: Plan, folder: Path, resume: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out must be a folder, but {folder} is a file.")
    if not resume and store.holds_run(folder):
        raise ValueError(f"out must not hold another run, but {folder} does; resume goes on with it.")
    if resume:
        different = plan.difference(store.read_json(folder / store.CONFIG))
        if different:
            name, saved, here = different
            raise ValueError(f"{name} must be {saved} to resume the run in {folder}, but it is {here}.")


def _devices(count: int) -> list[Device]:
    devices = jax.local_devices()
    if not 0 <= count <= len(devices):
        raise ValueError(f"devices must be at most {len(devices)}, or 0 for all of them, but it is {count}.")
    return devices[: count or len(devices)]
