"""A sweep: groups of settings, each a run of its own; one table, one ranking."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from isjax._renamed import present
from isjax.errors import FieldError
from isjax.run.fields import as_text
from isjax.run.files import REPORT, SUMMARY, SWEEP, Damaged, is_there, read_json, sealed, shown, write_json
from isjax.run.integrity import SWEEP_SHAPE, check_places, is_finished, read_summary
from isjax.run.options import Options
from isjax.run.plan import Plan
from isjax.run.ranking import write_results
from isjax.run.settings import Group, Values
from isjax.run.store import check_folder, claim, holds_run, locked, tidy
from isjax.run.train import Run

DEFAULT = Path("runs/sweep")


class Sweep:
    """One sweep in its folder.

    Args:
      settings: what differs, setting by setting.
      groups: the runs that they make.
      folder: where everything goes; each group has a run folder in it. A new one, `runs/sweep`, if left out.
      resume: go on where it stopped.
      options: of every run.
      write_page: writes the page of a run that has ended, from its folder.

    Raises:
      ValueError: the folder holds something else, or a run is impossible.
    """

    def __init__(
        self,
        settings: Sequence[Values],
        groups: Sequence[Group],
        folder: Path | None = None,
        *,
        resume: bool,
        options: Options,
        write_page: Callable[[Path], object] | None = None,
    ) -> None:
        self._settings, self._groups, self._options, self._write_page = settings, groups, options, write_page
        if folder is not None:
            check_sweep_folder(folder, resume=resume)
        self.folder = folder or claim(DEFAULT)
        try:
            self._runs = [self._run(number) for number in range(len(groups))]
        except BaseException:
            if folder is None:
                self.folder.rmdir()
            raise

    def train(self) -> dict[str, Any]:
        """Trains what is not trained yet; returns what `summary.json` holds."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder, jax.process_index()):
            return self._train()

    def _train(self) -> dict[str, Any]:
        leads = jax.process_index() == 0
        if leads:
            tidy(self.folder)
        if leads and not holds_sweep(self.folder):
            content = sealed(as_json(self._settings, self._groups))
            write_json(self.folder / SWEEP, {"command": self._options.command} | content)
        for run in self._runs:
            if is_finished(run.folder):
                if leads:
                    self._finish(run.folder)
            elif run.train()["status"] != "finished":
                return {"status": "interrupted"}
        if leads:
            write_results(self.folder, *read_sweep(self.folder), [run.folder for run in self._runs])
        return read_json(self.folder / SUMMARY)

    def _run(self, number: int) -> Run:
        folder = group_folder(self.folder, number)
        how = {"options": self._options, "write_page": self._write_page}
        return Run(self._groups[number].plan, folder, resume=holds_run(folder), **how)

    def _finish(self, folder: Path) -> None:
        """Adds what a finished run lacks that was killed at its very end."""
        tidy(folder)
        if self._write_page and not is_there(folder / REPORT):
            self._write_page(folder)


def check_sweep_folder(folder: Path, *, resume: bool) -> None:
    """Raises `ValueError` unless a sweep can go there."""
    check_folder(folder)
    check_places(folder)
    if not resume and (holds_sweep(folder) or holds_run(folder)):
        sentence = "{field} must not {rule}, but {value} does; {resume} goes on with it."
        raise FieldError("out", "hold another run or sweep", folder, sentence)


def group_folder(folder: Path, number: int) -> Path:
    """The run folder of a group."""
    return folder / f"group-{number}"


def holds_sweep(folder: Path) -> bool:
    """Whether a sweep was started in this folder."""
    return is_there(folder / SWEEP)


def as_json(settings: Sequence[Values], groups: Sequence[Group]) -> dict[str, Any]:
    """What `sweep.json` holds of a sweep: all that decides its numbers."""
    return {
        "settings": [{name: as_text(x) for name, x in values.items()} for values in settings],
        "groups": [{"settings": group.settings, "plan": group.plan.as_json()} for group in groups],
    }


def read_sweep(folder: Path) -> tuple[list[Values], list[Group]]:
    """The settings, as text, and the groups of a sweep's folder.

    Raises:
      ValueError: there is none, or it is damaged.
    """
    if not holds_sweep(folder):
        raise ValueError(f"{folder} must be the folder of a sweep, but it holds no {SWEEP}.")
    saved = read_json(folder / SWEEP)
    settings, groups = saved.get("settings"), saved.get("groups")
    if not (isinstance(settings, list) and settings and all(isinstance(x, dict) and x for x in settings)):
        raise Damaged(f"{folder / SWEEP} is damaged: settings cannot be {shown(settings)}.")
    if not (isinstance(groups, list) and groups and all(isinstance(x, dict) for x in groups)):
        raise Damaged(f"{folder / SWEEP} is damaged: groups cannot be {shown(groups)}.")
    found = [_group(each, folder / SWEEP) for each in groups]
    if sorted(number for group in found for number in group.settings) != list(range(len(settings))):
        raise Damaged(f"{folder / SWEEP} is damaged: its groups do not hold each of its settings once.")
    return [{name: as_text(x) for name, x in present(values).items()} for values in settings], found


def _group(saved: dict[str, Any], path: Path) -> Group:
    numbers, plan = saved.get("settings"), saved.get("plan")
    if not isinstance(plan, dict) or not isinstance(numbers, list) or not all(type(x) is int for x in numbers):
        raise Damaged(f"{path} is damaged: a group cannot be {shown(saved)}.")
    try:
        group = Group(Plan.from_json(plan), numbers)
    except Damaged as error:
        raise Damaged(f"{path}: {error}") from error
    if group.plan.per_setting * len(numbers) != group.plan.learners:
        raise Damaged(f"{path} is damaged: a group of {len(numbers)} settings has {group.plan.learners} learners.")
    return group


def best_group(folder: Path) -> Path:
    """The run folder in which the best setting of a sweep is; of a run, the folder itself.

    Raises:
      ValueError: the sweep has not come to its end.
    """
    if not holds_sweep(folder):
        return folder
    summary = read_summary(folder, SWEEP_SHAPE)
    if summary.get("status") != "finished":
        raise ValueError(f"{folder} must be a sweep that has come to its end; its groups are runs that may have.")
    best = summary["settings"][0]["setting"]
    groups = read_sweep(folder)[1]
    place = next((i for i, group in enumerate(groups) if best in group.settings), None)
    if place is None:
        raise Damaged(f"{folder / SUMMARY} is damaged: {SWEEP} has no setting {best}.")
    return group_folder(folder, place)
