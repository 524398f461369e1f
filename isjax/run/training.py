"""One group of learners of a run: the loop of compiled chunks, rows and checkpoints between them."""

import contextlib
import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from isjax.learner import metrics as metrics_lib
from isjax.run.checkpoints import Checkpoints, Rows, read_newest, sealed_progress
from isjax.run.files import Damaged
from isjax.run.films import Filming
from isjax.run.groups import Folder, LearnerGroup, Outcome
from isjax.run.hosts import Hosts
from isjax.run.integrity import check_group
from isjax.run.plan import Plan, evaluation_key, training_key
from isjax.run.programs import Programs
from isjax.run.progress import ProgressReporter
from isjax.run.sinks import Sink, scalars
from isjax.run.table import Table

Chunk = tuple[int, dict[str, jax.Array]]
"""The update that a chunk ends at, and its metrics, still being computed."""


@dataclasses.dataclass(frozen=True)
class RunContext:
    """What a group needs of its run."""

    plan: Plan
    folder: Folder
    hosts: Hosts
    progress: ProgressReporter
    make_sink: Callable[[int], Sink | None]
    """From the environment steps that were made already."""
    stop: Callable[[], bool]
    checkpoint_every: float
    checkpoints_kept: int
    filming: Filming | None = None


class Training:
    """Trains one group to its end, or until it is told to stop.

    Args:
      group: who, and from where to where.
      programs: for at least as many learners.
      context: the run.
      start: reads the learners' rows, if they come from earlier groups.
    """

    def __init__(
        self, group: LearnerGroup, programs: Programs, context: RunContext, start: Callable[[], Rows] | None
    ) -> None:
        self.group, self.host = group, context.hosts.index
        self._programs, self._context, self._start_rows = programs, context, start
        self._plan = context.plan
        self._seconds = {"compile_s": 0.0, "train_s": 0.0, "wall_s": 0.0}
        self._update = self._saved = group.start
        self._checkpoints = Checkpoints(context.folder.checkpoints(group), kept=context.checkpoints_kept)
        self._table = Table(context.folder.metrics(group), group.learners)
        self._sink: Sink | None = None
        self._state: Any = None
        self._began = self._clock = self._chunk_clock = time.monotonic()

    @property
    def update(self) -> int:
        """How far it has come."""
        return self._update

    @property
    def seconds(self) -> dict[str, float]:
        """So far: compiling, training, all together."""
        return self._seconds

    @property
    def learner_status(self) -> dict[str, np.ndarray]:
        """Who is alive, who died when and of what, and how many updates each learner made."""
        count = len(self.group.learners)
        found = {name: getattr(self._state, name) for name in ("alive", "died_at", "died_of")}
        return {name: np.asarray(x)[:count] for name, x in (found | {"updates": self._state.update}).items()}

    def train(self, *, compile_s: float) -> bool:
        """Returns whether it came to its end; then its outcome is on disk."""
        self._began = time.monotonic()
        try:
            self._start(compile_s)
            with contextlib.ExitStack() as cleanup:
                self._sink = self._context.make_sink(self._update * self._plan.config.steps_per_update)
                if self._sink:
                    cleanup.callback(self._sink.close)
                self._loop(cleanup.enter_context(ThreadPoolExecutor(1)))
            self._checkpoints.wait()
            finished = self._update == self.group.stop
            if finished:
                self._end()
            return finished
        finally:
            self._checkpoints.close()

    def _start(self, compile_s: float) -> None:
        folder = self._context.folder.checkpoints(self.group)
        found = read_newest(folder, self.group.learners, self._plan.digest)
        if found:
            self._restore(found)
        elif self._start_rows:
            self._state = self._programs.placed(self._start_rows(), key_implementation_of(self._plan))
        else:
            learners = self._programs.filled(self.group.learners)
            streams = self._plan.streams(learners).astype(np.int32)
            self._state = self._programs.init(training_key(self._plan), self._plan.hyper_of(learners), streams)
        self._seconds["compile_s"] += compile_s
        self._seconds["wall_s"] += compile_s
        if self._context.hosts.writes:
            check_group(self._plan, self._context.folder, self.group, self._update)
            self._checkpoints.tidy(found.damaged if found else [])
            self._table.drop_after(self._update)
        self._saved = self._update

    def _restore(self, found: Any) -> None:
        say = self._context.progress.note
        for update in found.damaged:
            say(f"The checkpoint at update {update} is damaged; falling back to the one before.")
        if found.progress["layout"] != self._programs.layout():
            raise Damaged("The checkpoint was written by another version of isjax: its arrays differ.")
        here = key_implementation_of(self._plan)
        if found.progress["key"] != here:
            raise ValueError(f"The run draws from {found.progress['key']} keys, but here they are {here}.")
        self._state = self._programs.placed(found.rows, here)
        self._update, self._seconds = found.update, found.progress["seconds"]
        say(f"Resuming at update {found.update} of {self.group.stop}.")
        if found.progress["size"] != self._programs.size or found.progress["teams"] != self._programs.teams:
            say("On another number of devices than before: last digits may differ.")

    def _loop(self, beside: ThreadPoolExecutor) -> None:
        """Dispatches the next chunk before it looks at the last one, so that device and host both work.

        It looks from a second thread: on a GPU whoever calls a program with a loop drives the loop until it ends. All
        calls come from this one, so that hosts that share a program make them in one order.
        """
        self._context.progress.start(self._update - self.group.start, self.group.stop - self.group.start)
        self._clock = self._chunk_clock = time.monotonic()
        every = self._context.checkpoint_every
        next_save = self._clock + every
        waiting: Chunk | None = None
        while self._update < self.group.stop:
            stop, due = self._context.hosts.agree(self._context.stop(), time.monotonic() >= next_save)
            if stop:
                break
            self._film(waiting)
            copies = self._programs.pack(self._state) if waiting and due else None
            recorded = beside.submit(self._record, waiting) if waiting else None
            chunk = self._dispatch()
            if recorded:
                recorded.result()
            if waiting and copies:
                self._save(waiting[0], copies)
                next_save = time.monotonic() + every
            waiting = chunk
        if waiting:
            self._film(waiting)
            self._record(waiting)
        if self._update > self._saved:
            self._save(self._update, self._programs.pack(self._state))
        self._count_seconds()

    def _film(self, chunk: Chunk | None) -> None:
        """Of the state that a chunk ended in, if a film is due."""
        filming = self._context.filming
        if chunk and filming and filming.is_due(chunk[0]):
            self._context.progress.note(filming.make(self.group, chunk[0], self._state, self._on_host(chunk[1])))

    def _on_host(self, metrics: dict[str, jax.Array]) -> dict[str, np.ndarray]:
        """Without the learners that fill devices up."""
        count = len(self.group.learners)
        return metrics_lib.with_nan({name: np.asarray(x)[:count] for name, x in metrics.items()})

    def _dispatch(self) -> Chunk:
        updates = min(self._plan.chunk, self.group.stop - self._update)
        self._state, metrics = self._programs.advance(self._state, jnp.int32(updates))
        self._update += updates
        return self._update, metrics

    def _record(self, chunk: Chunk) -> None:
        update, on_device = chunk
        metrics = self._on_host(on_device)
        metrics["env_steps"] = metrics["update"].astype(np.int64) * self._plan.config.steps_per_update
        now = time.monotonic()
        updates = (update - 1) % self._plan.chunk + 1
        steps = updates * self._plan.config.steps_per_update * int(metrics["alive"].sum())
        self._context.progress.show(update - self.group.start, steps / (now - self._chunk_clock), metrics)
        self._chunk_clock = now
        if self._context.hosts.writes:
            self._table.append(update, metrics)
            if self._sink:
                self._sink.write(update * self._plan.config.steps_per_update, scalars(metrics))

    def _save(self, update: int, copies: dict[str, jax.Array]) -> None:
        """The rows first: whatever checkpoint is found later, the rows up to it are there."""
        count = len(self.group.learners)
        rows = {name: np.asarray(x)[:count] for name, x in copies.items()}
        self._count_seconds()
        if self._context.hosts.writes:
            self._table.flush()
            who = (update, self.group.learners, self._plan.digest)
            how = {"size": self._programs.size, "teams": self._programs.teams, "seconds": self._seconds}
            what = {"key": key_implementation_of(self._plan), "layout": self._programs.layout()}
            self._checkpoints.save(update, rows, sealed_progress(*who, **how) | what)
        self._saved = update

    def _end(self) -> None:
        learners = self._programs.filled(self.group.learners)
        streams = self._plan.streams(learners).astype(np.int32)
        key = evaluation_key(self._plan, self.group.stop)
        evaluation = self._programs.evaluate(self._state, key, streams)
        returns, finished = np.asarray(evaluation.episode_return), np.asarray(evaluation.finished)
        self._count_seconds(training=False)
        if self._context.hosts.writes:
            outcome = Outcome(
                learners=self.group.learners,
                returns=returns[: len(self.group.learners)],
                given_up=np.sum(~finished[: len(self.group.learners)], axis=1),
                host=self.host,
                **self.learner_status,  # type: ignore[arg-type]
                **self._seconds,
            )
            outcome.save(self._context.folder.outcome(self.group), self._plan.digest)

    def _count_seconds(self, *, training: bool = True) -> None:
        now = time.monotonic()
        passed = {"wall_s": now - self._began} | ({"train_s": now - self._clock} if training else {})
        self._seconds = self._seconds | {name: self._seconds[name] + s for name, s in passed.items()}
        self._began = self._clock = now


def key_implementation_of(plan: Plan) -> str:
    """Name of the generator that keys are made of here."""
    return str(jax.random.key_impl(training_key(plan)))
