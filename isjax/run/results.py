"""What every learner of a run came to, from the outcomes of its groups."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from isjax.run.groups import Folder, LearnerGroup, Outcome
from isjax.run.plan import Plan
from isjax.run.training import Training

SECONDS = ("compile_s", "train_s", "wall_s")


@dataclasses.dataclass(frozen=True)
class LearnerResults:
    """All learners of a run as their last groups left them, arrays `[L]`."""

    last_scores: np.ndarray
    """Mean returns of the last evaluation; NaN for the dead, and where there was none yet."""
    evaluated_at: np.ndarray
    """The update of that evaluation; −1 where there was none yet."""
    alive: np.ndarray
    died_at: np.ndarray
    """The update at which a learner died; −1 if it lives."""
    died_of: np.ndarray
    """A `types.Cause`."""
    given_up: np.ndarray
    """Episodes of the last evaluation that no end was seen of."""
    updates: np.ndarray
    """Updates made while alive."""
    stopped_at: np.ndarray
    """The update at which a learner's setting was given up; −1 if it was not."""
    seconds: dict[str, float]
    """Those of the host that took longest; compiling, training, and all that belongs to groups."""

    @property
    def scores(self) -> np.ndarray:
        """Those of the last scores that are final: NaN for learners given up on the way."""
        return np.where(self.stopped_at < 0, self.last_scores, np.nan)


def read_results(
    plan: Plan, stages: Sequence[Sequence[LearnerGroup]], folder: Folder, training: Training | None = None
) -> LearnerResults:
    """Reads the outcomes of all groups that have ended; `training` is one that has not."""
    count = plan.learners
    found = LearnerResults(
        last_scores=np.full(count, np.nan),
        evaluated_at=np.full(count, -1),
        alive=np.ones(count, bool),
        died_at=np.full(count, -1),
        died_of=np.zeros(count, np.int32),
        given_up=np.zeros(count, np.int64),
        updates=np.zeros(count, np.int64),
        stopped_at=np.full(count, -1),
        seconds={},
    )
    by_host: dict[int, np.ndarray] = {}
    for number, groups in enumerate(stages):
        if number:
            going_on = np.concatenate([group.learners for group in groups])
            found.stopped_at[np.setdiff1d(np.flatnonzero(found.stopped_at < 0), going_on)] = groups[0].start
        for group in groups:
            if folder.ended([group]):
                outcome = Outcome.load(folder.outcome(group), group, plan.digest)
                _enter(found, group, outcome)
                spent = np.array([getattr(outcome, name) for name in SECONDS])
                by_host[outcome.host] = by_host.get(outcome.host, np.zeros(len(SECONDS))) + spent
    if training and not folder.ended([training.group]):
        for name, x in training.learner_status.items():
            getattr(found, name)[training.group.learners] = x
        spent = np.array([training.seconds[name] for name in SECONDS])
        by_host[training.host] = by_host.get(training.host, np.zeros(len(SECONDS))) + spent
    longest = max(by_host.values(), key=lambda spent: spent[-1], default=np.zeros(len(SECONDS)))
    return dataclasses.replace(found, seconds=dict(zip(SECONDS, longest.tolist(), strict=True)))


def _enter(found: LearnerResults, group: LearnerGroup, outcome: Outcome) -> None:
    here = group.learners
    found.last_scores[here], found.evaluated_at[here] = outcome.scores, group.stop
    for name in ("alive", "died_at", "died_of", "given_up", "updates"):
        getattr(found, name)[here] = getattr(outcome, name)
