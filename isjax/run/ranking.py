"""What the runs of a sweep come to: a table with a row a learner, and the ranking of the settings."""

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from isjax.learner.config import Hyper
from isjax.learner.defaults import defaults
from isjax.run.files import LEARNERS, SUMMARY, replacing, sealed, write_json
from isjax.run.groups import Folder, known_stages
from isjax.run.integrity import SUMMARY_SHAPE, read_settings, read_summary
from isjax.run.plan import Plan, bootstrap_key
from isjax.run.results import LearnerResults, read_results
from isjax.run.scores import setting_scores
from isjax.run.settings import Group, Values, as_flags
from isjax.run.store import versions
from isjax.stats import bootstrap_interval, interquartile_mean


def write_results(folder: Path, settings: Sequence[Values], groups: Sequence[Group], folders: Sequence[Path]) -> None:
    """Writes the table of learners, and the ranking, of a sweep that is finished.

    Args:
      folder: of the sweep.
      settings: its settings, as text.
      groups: the settings that share a program each.
      folders: of the run of each group.
    """
    results_of = [_results(place) for place in folders]
    tables = [
        _learners(number, group, results, settings)
        for number, (group, results) in enumerate(zip(groups, results_of, strict=True))
    ]
    table = pa.concat_tables(tables).sort_by([("setting", "ascending"), ("stream", "ascending")])
    with replacing(folder / LEARNERS) as file:
        pq.write_table(table, file)
    ranked = rank([row for each in zip(groups, results_of, strict=True) for row in _setting_rows(*each, settings)])
    runs = [read_summary(place, SUMMARY_SHAPE) for place in folders]
    summary = {
        "status": "finished",
        "learners": sum(run["learners"] for run in runs),
        "alive": sum(run["alive"] for run in runs),
        **{name: sum(run[name] for run in runs) for name in ("compile_s", "train_s", "wall_s")},
        "env_steps_per_s": _rate(groups, results_of, runs),
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


def _results(folder: Path) -> LearnerResults:
    _, plan, grouping = read_settings(folder)
    return read_results(plan, known_stages(plan, grouping, Folder(folder)), Folder(folder))


def _learners(number: int, group: Group, results: LearnerResults, settings: Sequence[Values]) -> pa.Table:
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
        "return": pa.array(results.last_scores, from_pandas=True),
        "env_steps": np.where(results.evaluated_at >= 0, results.evaluated_at, 0) * steps,
        "alive": results.alive,
        "died_at": results.died_at,
        "stopped_at": results.stopped_at,
    }
    return pa.table(columns)


def _setting_rows(group: Group, results: LearnerResults, settings: Sequence[Values]) -> list[dict[str, Any]]:
    """What the ranking says of each setting of a group."""
    plan = group.plan
    place = np.arange(plan.learners) // plan.per_setting
    scores = setting_scores(place, results.last_scores)
    by_setting = results.last_scores.reshape(-1, plan.per_setting)
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
                "alive": int(results.alive[here].sum()),
                "updates": int(results.evaluated_at[here][0]),
                "given_up": bool(results.stopped_at[here][0] >= 0),
                "train": train_command(plan, i),
                "share": results.evaluated_at[here][0] / plan.config.updates,
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


def _rate(
    groups: Sequence[Group], results_of: Sequence[LearnerResults], runs: Sequence[dict[str, Any]]
) -> float | None:
    pairs = zip(groups, results_of, strict=True)
    steps = sum(int(results.updates.sum()) * group.plan.config.steps_per_update for group, results in pairs)
    seconds = sum(run["train_s"] for run in runs)
    return steps / seconds if seconds > 0 else None


def _arrays(plan: Plan) -> dict[str, np.ndarray]:
    """Every field of `Hyper`, an entry a learner."""
    return {
        name: np.broadcast_to(np.asarray(x, float), (plan.learners,))
        for name, x in ((field.name, getattr(plan.hyper, field.name)) for field in dataclasses.fields(plan.hyper))
    }
