"""A sweep: groups of settings, each a run of its own; one table, one ranking."""

import dataclasses
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from isjax.errors import FieldError
from isjax.learner.config import Hyper
from isjax.learner.defaults import defaults
from isjax.run.fields import as_text
from isjax.run.files import Damaged, is_there, read_json, replacing, sealed, shown, write_json
from isjax.run.integrity import SUMMARY_SHAPE, SWEEP_SHAPE, check_places, is_finished, read_settings, read_summary
from isjax.run.options import Options
from isjax.run.parts import Folder, known_rounds
from isjax.run.plan import LEARNERS, REPORT, SUMMARY, SWEEP, Plan, bootstrap_key
from isjax.run.scores import setting_scores
from isjax.run.settings import Group, Values, as_flags
from isjax.run.store import check_folder, claim, holds_run, locked, tidy, versions
from isjax.run.tally import Tally, tally_of
from isjax.run.train import Run
from isjax.stats import bootstrap_interval, interquartile_mean

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
            write_results(self.folder)
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
    return settings, found


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


def write_results(folder: Path) -> None:
    """Writes the table of learners, and the ranking, from the runs of a sweep that is finished."""
    settings, groups = read_sweep(folder)
    tallies = [_tally(group_folder(folder, number), group.plan) for number, group in enumerate(groups)]
    tables = [
        _learners(number, group, tally, settings)
        for number, (group, tally) in enumerate(zip(groups, tallies, strict=True))
    ]
    table = pa.concat_tables(tables).sort_by([("setting", "ascending"), ("stream", "ascending")])
    with replacing(folder / LEARNERS) as file:
        pq.write_table(table, file)
    ranked = rank([row for each in zip(groups, tallies, strict=True) for row in _setting_rows(*each, settings)])
    runs = [read_summary(group_folder(folder, number), SUMMARY_SHAPE) for number in range(len(groups))]
    summary = {
        "status": "finished",
        "learners": sum(run["learners"] for run in runs),
        "alive": sum(run["alive"] for run in runs),
        **{name: sum(run[name] for run in runs) for name in ("compile_s", "train_s", "wall_s")},
        "env_steps_per_s": _rate(groups, tallies, runs),
        "device": runs[0]["device"],
        "versions": versions(),
        "settings": ranked,
    }
    write_json(folder / SUMMARY, sealed(summary))


def rank(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Settings, the best first: those that went further before those given up on the way.

    A learner that died counts as the worst, so that a setting may lose a quarter of its learners and no rank.
    """
    order = sorted(rows, key=lambda row: (-row["share"], -row["score"], row["setting"]))
    return [
        {"rank": i + 1} | {k: x for k, x in row.items() if k not in ("share", "score")} for i, row in enumerate(order)
    ]


def train_command(plan: Plan, place: int) -> str:
    """The line that repeats one setting of a group, learner by learner."""
    hyper = {name: float(x[place * plan.per_setting]) for name, x in _arrays(plan).items()}
    flags = as_flags(plan.config, Hyper(**hyper), defaults(plan.config.env, plan.config.algorithm))
    return shlex.join(["isjax", "train", *flags, "--learners", str(plan.per_setting), "--seed", str(plan.seed)])


def _tally(folder: Path, plan: Plan) -> Tally:
    _, _, grouping = read_settings(folder)
    return tally_of(plan, known_rounds(plan, grouping, Folder(folder)), Folder(folder))


def _learners(number: int, group: Group, tally: Tally, settings: Sequence[Values]) -> pa.Table:
    """A row a learner."""
    plan = group.plan
    learners = np.arange(plan.learners)
    setting = np.asarray(group.settings)[learners // plan.per_setting]
    steps = plan.config.steps_per_update
    columns: dict[str, Any] = {
        "setting": setting,
        "group": np.full(plan.learners, number),
        "learner": learners,
        "stream": plan.streams(learners),
    }
    for name in settings[0]:
        arrays = _arrays(plan)
        columns[name] = arrays[name] if name in arrays else [settings[i][name] for i in setting]
    columns |= {
        "return": pa.array(tally.last_scores, from_pandas=True),
        "env_steps": np.where(tally.evaluated_at >= 0, tally.evaluated_at, 0) * steps,
        "alive": tally.alive,
        "died_at": tally.died_at,
        "stopped_at": tally.stopped_at,
    }
    return pa.table(columns)


def _setting_rows(group: Group, tally: Tally, settings: Sequence[Values]) -> list[dict[str, Any]]:
    """What the ranking says of each setting of a group."""
    plan = group.plan
    place = np.arange(plan.learners) // plan.per_setting
    scores = setting_scores(place, tally.last_scores)
    by_setting = tally.last_scores.reshape(-1, plan.per_setting)
    iqm, low, high = _middles(by_setting, plan)
    rows = []
    for i, setting in enumerate(group.settings):
        here = place == i
        rows.append(
            {
                "setting": setting,
                "values": settings[setting],
                "iqm": iqm[i],
                "ci95": [low[i], high[i]] if plan.per_setting > 1 and np.isfinite(low[i]) else None,
                "learners": plan.per_setting,
                "alive": int(tally.alive[here].sum()),
                "updates": int(tally.evaluated_at[here][0]),
                "given_up": bool(tally.stopped_at[here][0] >= 0),
                "train": train_command(plan, i),
                "share": tally.evaluated_at[here][0] / plan.config.updates,
                "score": scores[i],
            }
        )
    return rows


def _middles(scores: np.ndarray, plan: Plan) -> tuple[list[float], list[float], list[float]]:
    """Interquartile means of settings `[S, R]` over the learners that have a score, and their intervals."""
    found = np.full((3, len(scores)), np.nan)
    finite = np.isfinite(scores)
    for count in np.unique(finite.sum(axis=1)):
        alike = np.flatnonzero(finite.sum(axis=1) == count)
        if count:
            x = jnp.asarray(np.stack([scores[i][finite[i]] for i in alike], axis=1), jnp.float32)
            found[0, alike] = interquartile_mean(x)
            if count > 1:
                found[1:, alike] = np.stack(bootstrap_interval(bootstrap_key(plan), x, interquartile_mean))
    return tuple(x.tolist() for x in found)  # type: ignore[return-value]


def _rate(groups: Sequence[Group], tallies: Sequence[Tally], runs: Sequence[dict[str, Any]]) -> float | None:
    pairs = zip(groups, tallies, strict=True)
    steps = sum(int(tally.updates.sum()) * group.plan.config.steps_per_update for group, tally in pairs)
    seconds = sum(run["train_s"] for run in runs)
    return steps / seconds if seconds > 0 else None


def _arrays(plan: Plan) -> dict[str, np.ndarray]:
    """Every field of `Hyper`, an entry a learner."""
    return {
        name: np.broadcast_to(np.asarray(x, float), (plan.learners,))
        for name, x in ((field.name, getattr(plan.hyper, field.name)) for field in dataclasses.fields(plan.hyper))
    }
