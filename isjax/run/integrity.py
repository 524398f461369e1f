"""What a run folder holds, compared with what the run says that it is: settings, summary, rows of the table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isjax._renamed import present
from isjax.run.files import (
    CHECKPOINTS,
    CONFIG,
    FILMS,
    HOSTS,
    LEARNERS,
    METRICS,
    OUTCOMES,
    REPORT,
    ROWS_FOLDER,
    SUMMARY,
    SWEEP,
    Damaged,
    check_shape,
    is_count,
    is_number,
    is_regular,
    is_text,
    is_there,
    kind_of,
    list_of,
    object_of,
    optional,
    read_json,
)
from isjax.run.groups import Folder, Grouping, LearnerGroup, known_stages
from isjax.run.plan import Plan
from isjax.run.table import check_merged, check_rows, has_groups

_SECONDS = dict.fromkeys(("compile_s", "train_s", "wall_s"), is_number)
_INTERVAL = optional(lambda x: list_of(is_number)(x) and len(x) == 2)
_FINAL_RETURN = object_of(
    mean=optional(is_number), iqm=optional(is_number), ci95=_INTERVAL, per_learner=list_of(optional(is_number))
)
SUMMARY_SHAPE = _SECONDS | {
    "status": is_text,
    "environment": is_text,
    "algorithm": is_text,
    "learners": is_count,
    "alive": is_count,
    "died": list_of(object_of(learner=is_count, update=is_count)),
    "updates": is_count,
    "env_steps_per_learner": is_count,
    "env_steps_per_s": optional(is_number),
    "device": is_text,
    "final_return": _FINAL_RETURN,
}
_SETTING = object_of(
    rank=is_count,
    setting=is_count,
    values=lambda x: isinstance(x, dict) and bool(x) and all(map(is_text, x.values())),
    iqm=optional(is_number),
    ci95=_INTERVAL,
    learners=is_count,
    alive=is_count,
    updates=is_count,
    given_up=lambda x: isinstance(x, bool),
    train=is_text,
)
SWEEP_SHAPE = _SECONDS | {
    "status": is_text,
    "learners": is_count,
    "alive": is_count,
    "env_steps_per_s": optional(is_number),
    "device": is_text,
    "settings": lambda x: list_of(_SETTING)(x) and bool(x),
}


def read_settings(folder: Path) -> tuple[dict[str, Any], Plan, Grouping]:
    """What `config.json` of a run holds, settings by their present names; and what the run makes of it.

    Raises:
      ValueError: the folder holds no run.
      Damaged: it is not what was written.
    """
    path = folder / CONFIG
    saved = read_json(path)
    try:
        plan, grouping = Plan.from_json(saved), Grouping.from_json(saved)
    except Damaged as error:
        raise Damaged(f"{folder}: {error}") from error
    shape = {"started": is_text, "device": is_text, "versions": lambda x: isinstance(x, dict)}
    check_shape(saved, shape, path)
    return saved | {"config": present(saved["config"])}, plan, grouping


def read_summary(folder: Path, shape: dict[str, Any]) -> dict[str, Any]:
    """The summary of a run or a sweep; empty while there is none.

    Raises:
      Damaged: it is not what was written.
    """
    path = folder / SUMMARY
    if not is_there(path):
        return {}
    try:
        summary = read_json(path)
        check_shape(summary, shape, path)
    except Damaged as error:
        raise Damaged(f"{str(error).rstrip('.')}. Resuming what is in {folder} writes it again.") from error
    return summary


def check_places(folder: Path) -> None:
    """Raises `Damaged` where a run or sweep could not write what it will, a folder or a FIFO being in the way."""
    for name in (CONFIG, SUMMARY, METRICS, REPORT, SWEEP, LEARNERS):
        path = folder / name
        if path.exists() and not is_regular(path):
            raise Damaged(f"{path} must be a file, but it is {kind_of(path)}: remove it.")
    for name in (CHECKPOINTS, ROWS_FOLDER, OUTCOMES, HOSTS, FILMS):
        path = folder / name
        if is_there(path) and not path.is_dir():
            raise Damaged(f"{path} must be a folder, but it is {kind_of(path)}: remove it.")


def check_group(plan: Plan, folder: Folder, group: LearnerGroup, update: int) -> None:
    """Raises `Damaged` unless the table has all rows of a group up to an update; every value is read."""
    if update == group.start:
        return
    if not has_groups(folder.path) and is_there(folder.path / METRICS):
        return  # the files of all groups have become one, which is compared with all groups at the end
    check_rows(folder.metrics(group), group, update, plan.chunk, _again(group))


def check_table(plan: Plan, stages: Sequence[Sequence[LearnerGroup]], folder: Folder, *, is_complete: bool) -> None:
    """Raises `Damaged` unless the table has the rows that groups have come to, without gaps.

    Args:
      plan: of the run.
      stages: its groups, as far as it has come.
      folder: where they are.
      is_complete: whether all of them have ended.
    """
    if not has_groups(folder.path):
        if is_complete:
            check_merged(folder.path / METRICS, stages, plan.chunk)
        return
    for groups in stages:
        for group in groups:
            update = group.stop if folder.ended([group]) else None
            check_rows(folder.metrics(group), group, update, plan.chunk, _again(group), ["update", "learner"])


def _again(group: LearnerGroup) -> str:
    where = f"{CHECKPOINTS}/{group.name} and {OUTCOMES}/{group.name}.npz"
    return f"To train its learners again, remove {where}."


def check_run(folder: Path) -> None:
    """Raises `Damaged` unless the table of a run, finished or not, is what its groups say."""
    _, plan, grouping = read_settings(folder)
    at = Folder(folder)
    stages = known_stages(plan, grouping, at)
    has_ended = at.ended(stages[-1]) and stages[-1][0].stop == plan.config.updates
    check_table(plan, stages, at, is_complete=has_ended)


def is_finished(folder: Path) -> bool:
    """Whether the run or sweep of this folder has come to its end, and what it came to can be read."""
    if not says_finished(folder):
        return False
    if is_there(folder / SWEEP):
        groups = read_json(folder / SWEEP)["groups"]
        return is_there(folder / LEARNERS) and all(is_finished(folder / f"group-{i}") for i in range(len(groups)))
    try:
        _, plan, grouping = read_settings(folder)
        at = Folder(folder)
        known = known_stages(plan, grouping, at)
        for groups in known:
            at.outcomes([group for group in groups if at.ended([group])], plan)
        check_table(plan, known, at, is_complete=True)
    except Damaged:
        return False
    return at.ended(known[-1]) and known[-1][0].stop == plan.config.updates


def says_finished(folder: Path) -> bool:
    """Whether its summary says so."""
    shape = SWEEP_SHAPE if is_there(folder / SWEEP) else SUMMARY_SHAPE
    try:
        return read_summary(folder, shape).get("status") == "finished"
    except Damaged:
        return False
