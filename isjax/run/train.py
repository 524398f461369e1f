"""A run in its folder: its groups one after the other, on this host and others, and what they come to."""

import dataclasses
import datetime
import os
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from isjax.errors import FieldError
from isjax.learner import make_learner
from isjax.learner.uses import check_settings
from isjax.population import check_devices
from isjax.run.checkpoints import Rows, read_newest
from isjax.run.files import CONFIG, FILMS, SUMMARY, Damaged, is_there, read_json, sealed, write_json
from isjax.run.films import Filming
from isjax.run.format import size
from isjax.run.groups import Folder, Grouping, LearnerGroup, known_stages, stages
from isjax.run.hosts import Heartbeat, HostLost, Hosts, here
from isjax.run.integrity import (
    check_group,
    check_places,
    check_table,
    read_settings,
    says_finished,
)
from isjax.run.memory import check_memory
from isjax.run.options import Options, used_devices
from isjax.run.plan import Plan, bootstrap_key
from isjax.run.programs import Programs, compile_programs, learners_that_fit
from isjax.run.progress import ProgressReporter, progress_reporter
from isjax.run.results import read_results
from isjax.run.scores import final_return, no_return
from isjax.run.sinks import Sink, check_sink, make_sink
from isjax.run.store import check_folder, claim, device_name, holds_run, locked, tidy, versions
from isjax.run.summary import summarize
from isjax.run.table import merge
from isjax.run.training import RunContext, Training
from isjax.signals import stopping
from isjax.types import Device


class Run:
    """One run in its folder.

    Args:
      plan: what decides the numbers.
      folder: where everything goes; with several hosts, one that all of them see. A new one below `runs` if left out.
      resume: go on from the newest checkpoints of the folder.
      options: what does not decide the numbers.
      write_page: writes the page of a run that has ended, from its folder.

    Raises:
      ValueError: the plan is impossible, the folder holds another run, or an option cannot be met.

    Example:
      `summary = Run(Plan(config=Config(), hyper=Hyper()), Path("runs/first")).train()`
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path | None = None,
        *,
        resume: bool = False,
        options: Options | None = None,
        write_page: Callable[[Path], object] | None = None,
    ) -> None:
        self.plan, self.options, self._write_page = plan, options or Options(), write_page
        check_sink(self.options.sink)
        check_settings(plan.config, plan.hyper)
        if folder is not None:
            _check_folder(plan, folder, resume)
        self._devices = used_devices(self.options)
        check_devices(make_learner(plan.config), self._devices, self.options.devices_per_learner)
        check_memory(plan, self._devices[0])
        self._hosts = here(together=len(self._devices) > len(jax.local_devices()))
        if self._hosts.together and self.options.film:
            raise FieldError("film", "0 where hosts share each learner", self.options.film)
        self.folder = folder = folder or _new_folder(plan, self._hosts)
        self._files = Folder(folder)
        self._progress: ProgressReporter = progress_reporter(self.options.quiet or not self._hosts.leads)
        self._heartbeat = Heartbeat(folder, self._hosts, self.options.host_timeout)
        self._programs: dict[int, Programs] = {}
        self._training: Training | None = None
        self._compile_s = self._in_groups_s = 0.0
        self._began = time.monotonic()
        self._asked: Callable[[], bool] = lambda: False
        self._saved: dict[str, Any] = {}
        self._grouped = Grouping()

    def train(self) -> dict[str, Any]:
        """Trains to the end, or until it is told to stop; returns what `summary.json` holds.

        Raises:
          ValueError: another process trains in this folder, or no checkpoint of it can be read.
          HostLost: another host is no longer there; the folder can be resumed.
          KeyboardInterrupt: stopped where there is nothing to write; the folder can be resumed.
        """
        self._began = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        with (
            locked(self.folder, self._hosts.index),
            self._heartbeat.alive(),
            stopping(self._progress.note) as self._asked,
        ):
            if self._hosts.count == 1:  # another host may be writing
                tidy(self.folder)
            self._settle()
            try:
                finished = self._train_stages()
            finally:
                self._progress.stop()
            summary = self._end(finished)
            self._heartbeat.end(finished=finished)
            return summary

    def _settle(self) -> None:
        """The settings and the grouping, which the first host decides."""
        path = self.folder / CONFIG
        if self._hosts.leads and not is_there(path):
            write_json(path, self._settings(self._grouping()))
        if not self._heartbeat.wait(lambda: is_there(path), self._asked):
            raise KeyboardInterrupt
        self._saved, saved_plan, self._grouped = read_settings(self.folder)
        _check_same(self.plan, self._saved, self.folder)
        self.plan = saved_plan  # the same numbers, and the digest that goes with what is already there

    def _settings(self, grouping: Grouping) -> dict[str, Any]:
        return sealed(self.plan.as_json() | {"grouping": dataclasses.asdict(grouping)}) | {
            "id": uuid.uuid4().hex[:8],
            "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": self.options.command,
            "device": device_name(self._devices),
            "hosts": self._hosts.count,
            "versions": versions(),
        }

    def _grouping(self) -> Grouping:
        """As many learners in a group as the devices have memory for, going by the compiled programs."""
        hosts = 1 if self._hosts.together else self._hosts.count
        if self.options.learners_per_group:
            return Grouping(hosts, self.options.learners_per_group)
        share = -(-self.plan.learners // hosts)
        fits = learners_that_fit(self._compiled(share), len(jax.local_devices()))
        if fits is None or fits >= share:
            return Grouping(hosts)
        self._programs.clear()
        self._progress.note(f"There is memory for {fits:,} learners at once: they train in groups.")
        return Grouping(hosts, fits)

    def _compiled(self, learners: int) -> Programs:
        """The programs for so many learners, compiled where they were not yet."""
        if learners not in self._programs:
            what = f"{self.plan.config.algorithm} on {self.plan.config.env}"
            who = f"{learners:,} learners, {self.plan.config.steps:,} steps each"
            self._progress.note(f"{what}: {who}, on {device_name(self._devices)}. Compiling …")
            programs = compile_programs(self.plan, learners, self._devices, self.options.devices_per_learner)
            memory = f", {size(programs.bytes)} of memory" if programs.bytes else ""
            self._progress.note(f"Compiled in {programs.compile_s:.1f} s{memory}.")
            self._programs[learners] = programs
            self._compile_s += programs.compile_s
        return self._programs[learners]

    def _train_stages(self) -> bool:
        """Whether it came to the end."""
        before: list[LearnerGroup] = []
        for groups in stages(self.plan, self._grouped, self._files):
            for group in self._own(groups):
                if not self._has_ended(group) and not self._train_group(group, groups, before):
                    return False
            if not self._heartbeat.wait(lambda groups=groups: self._files.ended(groups), self._asked):
                return False
            before = groups
        return True

    def _has_ended(self, group: LearnerGroup) -> bool:
        """Whether there is nothing left to do, and what it came to can be read."""
        if self._hosts.writes and self._files.drop_damaged_outcome(group, self.plan):
            self._progress.note(f"{self._files.outcome(group)} was damaged: the last evaluation is made again.")
        if not self._files.ended([group]):
            return False
        check_group(self.plan, self._files, group, group.stop)
        return True

    def _own(self, groups: Sequence[LearnerGroup]) -> list[LearnerGroup]:
        """Those of this host; learners that are spread over hosts are everybody's."""
        return [x for i, x in enumerate(groups) if self._hosts.together or i % self._hosts.count == self._hosts.index]

    def _train_group(self, group: LearnerGroup, groups: Sequence[LearnerGroup], before: Sequence[LearnerGroup]) -> bool:
        """Whether it came to its end; groups of one stage run the same programs."""
        programs = self._compiled(max(len(each.learners) for each in groups))
        if len(groups) > 1:
            first, last = group.learners[0], group.learners[-1]
            self._progress.note(f"Learners {first:,} to {last:,} of {self.plan.learners:,}, to update {group.stop:,}:")
        context = RunContext(
            plan=self.plan,
            folder=self._files,
            hosts=self._hosts,
            progress=self._progress,
            make_sink=lambda env_steps: self._sink(group.name if len(groups) > 1 else "", env_steps),
            stop=lambda: self._asked() or self._heartbeat.lost() is not None,
            checkpoint_every=self.options.checkpoint_every,
            checkpoints_kept=self.options.checkpoints_kept,
            filming=Filming(self.plan, self.folder / FILMS, self.options.film) if self.options.film else None,
        )
        start = (lambda: self._rows_from(before, group)) if before else None
        self._training = Training(group, programs, context, start)
        began, compile_s, self._compile_s = time.monotonic(), self._compile_s, 0.0
        finished = self._training.train(compile_s=compile_s)
        self._in_groups_s += time.monotonic() - began + compile_s
        lost = None if finished else self._heartbeat.lost()
        if lost:
            raise HostLost(f"{lost} Everything up to update {self._training.update} is saved.")
        return finished

    def _sink(self, group: str, env_steps: int) -> Sink | None:
        if not self._hosts.writes:
            return None
        sink, quiet = self.options.sink, self.options.quiet
        return make_sink(sink, self.folder, self._saved, env_steps, group, quiet=quiet)

    def _rows_from(self, before: Sequence[LearnerGroup], group: LearnerGroup) -> Rows:
        """The learners of a group, as the stage before left them."""
        found: list[Rows] = []
        for earlier in before:
            chosen = np.isin(earlier.learners, group.learners)
            if chosen.any():
                saved = read_newest(self._files.checkpoints(earlier), earlier.learners, self.plan.digest)
                if saved is None or saved.update != group.start:
                    raise Damaged(f"{self._files.checkpoints(earlier)} has lost its last checkpoint.")
                found.append({name: x[chosen] for name, x in saved.rows.items()})
        return {name: np.concatenate([rows[name] for rows in found]) for name in found[0]}

    def _end(self, finished: bool) -> dict[str, Any]:
        """The summary, which the first host writes once all groups are there."""
        if not self._hosts.leads:
            if finished and self._heartbeat.wait(lambda: says_finished(self.folder), self._asked):
                return read_json(self.folder / SUMMARY)
            return {"status": "interrupted"}
        known = known_stages(self.plan, self._grouped, self._files)
        if finished:
            check_table(self.plan, known, self._files, is_complete=True)
        merge(
            self.folder,
            [[(self._files.metrics(group), len(group.learners)) for group in groups] for groups in known],
            keep=not finished,
        )
        results = read_results(self.plan, known, self._files, self._training)
        scores = results.scores
        summary: dict[str, Any] = {"status": "finished" if finished else "interrupted"}
        outside = time.monotonic() - self._began - self._in_groups_s
        seconds = results.seconds | {"wall_s": results.seconds["wall_s"] + outside}
        update = self.plan.config.updates if finished else self._training.update if self._training else 0
        summary |= summarize(self.plan, results, update, self._used_devices(), seconds)
        summary["final_return"] = final_return(scores, bootstrap_key(self.plan)) if finished else no_return()
        write_json(self.folder / SUMMARY, sealed(summary))
        if finished:
            tidy(self.folder)
            if self._write_page:
                self._write_page(self.folder)
        return summary

    def _used_devices(self) -> list[Device]:
        used = [programs.devices for programs in self._programs.values()]
        return max(used, key=len) if used else self._devices


def _new_folder(plan: Plan, hosts: Hosts) -> Path:
    """One that nobody else has; several hosts share that of the first."""
    if hosts.count == 1:
        return claim(Path("runs") / plan.name)
    name = np.zeros(4096, np.uint8)
    if hosts.leads:
        path = os.fsencode(claim(Path("runs") / plan.name))
        name[: len(path)] = np.frombuffer(path, np.uint8)
    return Path(os.fsdecode(bytes(multihost_utils.broadcast_one_to_all(name)).rstrip(b"\0")))


def _check_folder(plan: Plan, folder: Path, resume: bool) -> None:
    check_folder(folder)
    check_places(folder)
    if not resume and holds_run(folder):
        raise FieldError(
            "out", "hold another run", folder, "{field} must not {rule}, but {value} does; {resume} goes on with it."
        )
    if resume:
        _check_same(plan, read_settings(folder)[0], folder)


def _check_same(plan: Plan, saved: dict[str, Any], folder: Path) -> None:
    different = plan.difference(saved)
    if different:
        name, there, here = different
        raise FieldError(name, f"{there} to resume the run in {folder}", here)
