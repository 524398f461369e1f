"""`isjax runs`: the runs and sweeps below a folder, how far each has come, and what it came to."""

import dataclasses
from pathlib import Path
from typing import Annotated, NamedTuple

import tyro
from rich.table import Table

from isjax.commands.output import print_whole
from isjax.commands.running import run_checked

DEEPEST = 3
"""Folders within folders are looked into so far."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunsFlags:
    """List the runs and sweeps below a folder: how far each has come, and what it came to."""

    folder: Annotated[
        str, tyro.conf.Positional, tyro.conf.arg(metavar="[DIR]", help_behavior_hint="(default: runs)")
    ] = "runs"
    """Where to look."""


class Listed(NamedTuple):
    """A run or sweep as the table has it."""

    folder: Path
    what: str = "—"
    learners: str = "—"
    state: str = "—"
    iqm: str = "—"
    interval: str = "—"


def main(argv: list[str]) -> int:
    """Runs `isjax runs`."""
    return run_checked(show, RunsFlags, argv, prog="isjax runs", computes=False)


def show(flags: RunsFlags) -> None:
    """Prints the table.

    Raises:
      ValueError: there is no such folder.
    """
    place = Path(flags.folder)
    if not place.is_dir():
        raise ValueError(f"DIR must be a folder, but {flags.folder!r} is none.")
    found = [_listed(folder) for folder in _folders(place, DEEPEST)]
    if not found:
        print(f"{place} holds no run yet. isjax train --out {place / 'first'} makes one.")
        return
    table = Table()
    for name in ("folder", "what", "learners", "state", "IQM return", "95 % interval"):
        table.add_column(name, overflow="fold")
    for each in found:
        table.add_row(*map(str, each))
    print_whole(table)


def _folders(place: Path, depth: int) -> list[Path]:
    """Folders of runs and sweeps in order of their names; those within a run or a sweep belong to it."""
    from isjax.run.store import holds_run
    from isjax.run.sweep import holds_sweep

    if holds_run(place) or holds_sweep(place):
        return [place]
    inner = sorted(path for path in place.iterdir() if path.is_dir() and not path.is_symlink()) if depth else []
    return [found for path in inner for found in _folders(path, depth - 1)]


def _listed(folder: Path) -> Listed:
    """What there is to say of a run or sweep; of a damaged one, that it is."""
    from isjax.run.files import Damaged
    from isjax.run.sweep import holds_sweep

    try:
        return _sweep(folder) if holds_sweep(folder) else _run(folder)
    except (Damaged, OSError):
        return Listed(folder, state="damaged")


def _run(folder: Path) -> Listed:
    from isjax.run.format import interval, number
    from isjax.run.integrity import SUMMARY_SHAPE, read_settings, read_summary

    _, plan, _ = read_settings(folder)
    listed = Listed(folder, f"{plan.config.algorithm} on {plan.config.env}", f"{plan.learners:,}")
    summary = read_summary(folder, SUMMARY_SHAPE)
    if summary.get("status") != "finished":
        return listed._replace(state=f"{_progress(folder, plan.config.updates):.0%}, to be resumed")
    final = summary["final_return"]
    alive = "" if summary["alive"] == plan.learners else f", {summary['alive']:,} alive"
    return listed._replace(state=f"finished{alive}", iqm=number(final["iqm"]), interval=interval(final["ci95"]))


def _sweep(folder: Path) -> Listed:
    from isjax.run.format import interval, number
    from isjax.run.integrity import SWEEP_SHAPE, read_summary
    from isjax.run.sweep import group_folder, read_sweep

    settings, groups = read_sweep(folder)
    plan = groups[0].plan
    learners = sum(group.plan.learners for group in groups)
    listed = Listed(
        folder, f"sweep of {len(settings):,}, {plan.config.algorithm} on {plan.config.env}", f"{learners:,}"
    )
    summary = read_summary(folder, SWEEP_SHAPE)
    if summary.get("status") != "finished":
        done = [_progress(group_folder(folder, i), group.plan.config.updates) for i, group in enumerate(groups)]
        return listed._replace(state=f"{sum(done) / len(done):.0%}, to be resumed")
    best = summary["settings"][0]
    return listed._replace(state="finished", iqm=f"{number(best['iqm'])} (best)", interval=interval(best["ci95"]))


def _progress(folder: Path, updates: int) -> float:
    """The share of its updates that a run has rows on disk of, that of its group which has come least far."""
    from isjax.run.files import METRICS, ROWS_FOLDER

    groups = [group for group in (folder / ROWS_FOLDER).glob("*") if group.is_dir()]
    if not groups and (folder / METRICS).is_file():  # an interrupted run has both
        return 1.0
    newest = [max((int(rows.stem) for rows in group.glob("*.parquet")), default=0) for group in groups]
    return min(newest, default=0) / updates
