"""A run in groups: learners that train together, from one update to another, on one host.

There are several groups where a population is larger than memory, where several hosts share it, and after each
halving. What a group came to is one file; from these files everything else follows.
"""

import contextlib
import dataclasses
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isjax.run.files import (
    CHECKPOINTS,
    CONFIG,
    OUTCOMES,
    ROWS_FOLDER,
    Damaged,
    brief,
    checksum,
    is_count,
    is_regular,
    is_there,
    kind_of,
    replacing,
    shown,
)
from isjax.run.plan import Plan
from isjax.run.scores import setting_scores


@dataclasses.dataclass(frozen=True)
class Grouping:
    """How learners are divided. Kept with the run: whoever resumes it goes on with the same groups."""

    hosts: int = 1
    """Among how many at least."""
    most: int = 2**31 - 1
    """Learners of a group, at most."""

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> "Grouping":
        """That of a run's `config.json`.

        Raises:
          Damaged: it holds none.
        """
        found = saved.get("grouping")
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(found, dict) or set(found) - known or not all(is_count(x) and x for x in found.values()):
            raise Damaged(f"{CONFIG} is damaged: grouping cannot be {shown(found)}.")
        return cls(**found)


class LearnerGroup(NamedTuple):
    """Learners that train together."""

    name: str
    learners: np.ndarray
    """Indices, in order."""
    start: int
    """Update that it starts from."""
    stop: int
    """Update that it ends at."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a group came to: arrays of its `l` learners, and seconds."""

    learners: np.ndarray
    returns: np.ndarray
    """`[l, E]`, of the evaluation at its end."""
    given_up: np.ndarray
    """`[l]`, how many of these episodes no end was seen of."""
    alive: np.ndarray
    died_at: np.ndarray
    died_of: np.ndarray
    """`[l]`, `types.Cause`."""
    updates: np.ndarray
    """`[l]`, made while alive."""
    host: int
    compile_s: float
    train_s: float
    wall_s: float

    @property
    def scores(self) -> np.ndarray:
        """`[l]`, mean returns; NaN for the dead, and for what is not finite."""
        scores = self.returns.astype(np.float64).mean(axis=1)
        return np.where(self.alive & np.isfinite(scores), scores, np.nan)

    def save(self, path: Path, run: str) -> None:
        """Writes it, whole or not at all; `run` is the digest of the run's plan."""
        path.parent.mkdir(exist_ok=True)
        arrays = {name: np.asarray(x) for name, x in vars(self).items()}
        checks = {"run": np.asarray(run), "checksum": np.asarray(checksum(arrays))}
        with replacing(path) as file:
            np.savez(file, **arrays, **checks)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path, group: LearnerGroup | None = None, run: str | None = None) -> "Outcome":
        """Reads what `save` wrote, and compares it with the group and the run that it has to be of.

        Raises:
          Damaged: it is not what was written.
        """
        try:
            if not is_regular(path):
                raise ValueError(f"it is {kind_of(path)}")
            with np.load(path) as file:
                arrays: dict[str, Any] = dict(file)
            of, expected = arrays.pop("run", run), arrays.pop("checksum", None)
            if expected is not None and int(expected) != checksum(arrays):
                raise ValueError("its checksum is another")
            if of is not None and run is not None and str(of) != run:
                raise ValueError("it is that of another run")
            unknown = np.zeros(np.shape(arrays["learners"]), np.int32)
            arrays = {"given_up": unknown, "died_of": unknown} | arrays  # version 0.1 did not say
            outcome = cls(**{name: x if x.ndim else x.item() for name, x in arrays.items()})
            outcome._check(group)
            return outcome
        except (OSError, zipfile.BadZipFile, zlib.error, TypeError, ValueError, EOFError, KeyError) as error:
            raise Damaged(
                f"{path} is damaged: {brief(error)}. isjax train --resume makes it again if it is removed."
            ) from error

    def _check(self, group: LearnerGroup | None) -> None:
        """Raises `ValueError` unless everything has the shape that it must have."""
        count = len(np.atleast_1d(self.learners))
        for name in ("learners", "alive", "died_at", "updates"):
            x = getattr(self, name)
            if np.shape(x) != (count,) or x.dtype.kind not in "bi":
                raise ValueError(f"its {name} are not one of each learner")
        if np.ndim(self.returns) != 2 or len(self.returns) != count or self.returns.dtype.kind != "f":
            raise ValueError("its returns are not some of each learner")
        numbers = (self.host, self.compile_s, self.train_s, self.wall_s)
        if not all(type(x) in (int, float) and 0 <= x < np.inf for x in numbers):
            raise ValueError("its seconds are no numbers")
        if group is not None and not np.array_equal(self.learners, group.learners):
            raise ValueError(f"it holds {count} learners that are not the {len(group.learners)} of the part")


class Folder(NamedTuple):
    """Where the groups of a run folder are."""

    path: Path

    def checkpoints(self, group: LearnerGroup) -> Path:
        """Its checkpoints."""
        return self.path / CHECKPOINTS / group.name

    def metrics(self, group: LearnerGroup) -> Path:
        """Its rows, until the run ends."""
        return self.path / ROWS_FOLDER / group.name

    def outcome(self, group: LearnerGroup) -> Path:
        """What it came to, once it has."""
        return self.path / OUTCOMES / f"{group.name}.npz"

    def outcomes(self, groups: Sequence[LearnerGroup], plan: Plan) -> list[Outcome]:
        """What groups came to, all of which have ended."""
        return [Outcome.load(self.outcome(group), group, plan.digest) for group in groups]

    def ended(self, groups: Sequence[LearnerGroup]) -> bool:
        """Whether all of these have."""
        return all(is_there(self.outcome(group)) for group in groups)

    def drop_damaged_outcome(self, group: LearnerGroup, plan: Plan) -> bool:
        """Removes what a group came to if it cannot be read; returns whether it was removed."""
        path = self.outcome(group)
        if not is_there(path):
            return False
        with contextlib.suppress(Damaged):
            Outcome.load(path, group, plan.digest)
            return False
        if path.is_dir() and not path.is_symlink():
            raise Damaged(f"{path} must be a file, but it is a folder: remove it to make the file again.")
        path.unlink()
        return True


def stage_ends(plan: Plan) -> list[int]:
    """Updates at which a stage ends: where the weaker half of the settings is given up, and the end.

    >>> from isjax.learner.config import Config, Hyper
    >>> stage_ends(Plan(config=Config(steps=128_000), hyper=Hyper(), log_every=100, halvings=2))
    [300, 500, 1000]
    """
    updates, chunk = plan.config.updates, plan.chunk
    ends = [-(-updates // 2**k // chunk) * chunk for k in range(plan.halvings, 0, -1)]
    return [*sorted({end for end in ends if 0 < end < updates}), updates]


def stages(plan: Plan, grouping: Grouping, folder: Folder) -> Iterator[list[LearnerGroup]]:
    """The groups of the run, stage by stage; a stage is asked for once the one before has ended."""
    learners, start = np.arange(plan.learners), 0
    for number, stop in enumerate(stage_ends(plan)):
        groups = divide(learners, grouping, number, start, stop)
        yield groups
        if stop < plan.config.updates:
            learners, start = survivors(plan, folder.outcomes(groups, plan)), stop


def known_stages(plan: Plan, grouping: Grouping, folder: Folder) -> list[list[LearnerGroup]]:
    """The stages of a run, as far as it has come."""
    found = []
    for groups in stages(plan, grouping, folder):
        found.append(groups)
        if not folder.ended(groups):
            break
    return found


def divide(learners: np.ndarray, grouping: Grouping, number: int, start: int, stop: int) -> list[LearnerGroup]:
    """The groups of a stage: as few as memory allows, as many for each host, as equal as they can be."""
    waves = -(-len(learners) // (grouping.hosts * grouping.most))
    count = min(grouping.hosts * waves, len(learners))
    size = -(-len(learners) // count)
    groups = [learners[first : first + size] for first in range(0, len(learners), size)]
    return [LearnerGroup(f"{number}-{i:05d}", group, start, stop) for i, group in enumerate(groups)]


def survivors(plan: Plan, outcomes: Sequence[Outcome]) -> np.ndarray:
    """The learners of the better half of the settings that are still in the run.

    A setting goes on or ends as a whole: choosing among learners of one setting would flatter it.
    """
    learners = np.concatenate([outcome.learners for outcome in outcomes])
    scores = np.concatenate([outcome.scores for outcome in outcomes])
    by_setting = setting_scores(learners // plan.per_setting, scores)
    order = sorted(by_setting, key=lambda setting: (-by_setting[setting], setting))
    kept = order[: -(-len(order) // 2)]
    return np.sort(learners[np.isin(learners // plan.per_setting, kept)])
