"""A run in parts: learners that train together, from one update to another, on one host.

There are several parts where a population is larger than memory, where several hosts share it, and after each
halving. What a part came to is one file; from these files everything else follows.
"""

import dataclasses
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from isjax.run import store
from isjax.run.store import Plan
from isjax.run.summary import setting_scores


@dataclasses.dataclass(frozen=True)
class Grouping:
    """How learners are divided. Kept with the run: whoever resumes it goes on with the same parts."""

    hosts: int = 1
    """Among how many at least."""
    most: int = 2**31 - 1
    """Learners of a part, at most."""


class Part(NamedTuple):
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
    """What a part came to: arrays of its `l` learners, and seconds."""

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

    def save(self, path: Path) -> None:
        """Writes it, whole or not at all."""
        path.parent.mkdir(exist_ok=True)
        with store.replacing(path) as file:
            np.savez(file, **vars(self))

    @classmethod
    def load(cls, path: Path) -> "Outcome":
        """Reads what `save` wrote.

        Raises:
          ValueError: it is damaged.
        """
        try:
            with np.load(path) as file:
                return cls(**{name: x if x.ndim else x.item() for name, x in file.items()})
        except (zipfile.BadZipFile, TypeError, ValueError, EOFError) as error:
            raise ValueError(f"{path} is damaged: {error}.") from error


class Folder(NamedTuple):
    """Where the parts of a run folder are."""

    path: Path

    def checkpoints(self, part: Part) -> Path:
        """Its checkpoints."""
        return self.path / store.CHECKPOINTS / part.name

    def metrics(self, part: Part) -> Path:
        """Its rows, until the run ends."""
        return self.path / store.ROWS_FOLDER / part.name

    def outcome(self, part: Part) -> Path:
        """What it came to, once it has."""
        return self.path / store.OUTCOMES / f"{part.name}.npz"

    def outcomes(self, parts: Sequence[Part]) -> list[Outcome]:
        """What parts came to, all of which have ended."""
        return [Outcome.load(self.outcome(part)) for part in parts]

    def ended(self, parts: Sequence[Part]) -> bool:
        """Whether all of these have."""
        return all(self.outcome(part).exists() for part in parts)


def rungs(plan: Plan) -> list[int]:
    """Updates at which a round ends: where the weaker half of the settings is given up, and the end.

    >>> from isjax.learner.config import Config, Hyper
    >>> rungs(Plan(config=Config(steps=128_000), hyper=Hyper(), log_every=100, halvings=2))
    [300, 500, 1000]
    """
    updates, chunk = plan.config.updates, plan.chunk
    ends = [-(-updates // 2**k // chunk) * chunk for k in range(plan.halvings, 0, -1)]
    return [*sorted({end for end in ends if 0 < end < updates}), updates]


def rounds(plan: Plan, grouping: Grouping, folder: Folder) -> Iterator[list[Part]]:
    """The parts of the run, round by round; a round is asked for once the one before has ended."""
    learners, start = np.arange(plan.learners), 0
    for number, stop in enumerate(rungs(plan)):
        parts = divide(learners, grouping, number, start, stop)
        yield parts
        if stop < plan.config.updates:
            learners, start = survivors(plan, folder.outcomes(parts)), stop


def known_rounds(plan: Plan, grouping: Grouping, folder: Folder) -> list[list[Part]]:
    """The rounds of a run, as far as it has come."""
    found = []
    for parts in rounds(plan, grouping, folder):
        found.append(parts)
        if not folder.ended(parts):
            break
    return found


def divide(learners: np.ndarray, grouping: Grouping, number: int, start: int, stop: int) -> list[Part]:
    """The parts of a round: as few as memory allows, as many for each host, as equal as they can be."""
    waves = -(-len(learners) // (grouping.hosts * grouping.most))
    count = min(grouping.hosts * waves, len(learners))
    size = -(-len(learners) // count)
    groups = [learners[first : first + size] for first in range(0, len(learners), size)]
    return [Part(f"{number}-{i:05d}", group, start, stop) for i, group in enumerate(groups)]


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


def last_parts(found: Sequence[Sequence[Part]], learner: int) -> list[Part]:
    """The parts that hold a learner, the last one first."""
    return [part for parts in reversed(found) for part in parts if np.isin(learner, part.learners)]


def position(part: Part, learner: int) -> int:
    """Which row of a part a learner has."""
    return int(np.searchsorted(part.learners, learner))
