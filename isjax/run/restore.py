"""Learners of a run folder, read back one at a time."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from isjax.errors import FieldError
from isjax.learner import LearnerState, make_learner
from isjax.population import best_learner
from isjax.run.checkpoints import layout, read_newest, unpack
from isjax.run.files import CONFIG, Damaged
from isjax.run.groups import Folder, Grouping, LearnerGroup, known_stages
from isjax.run.integrity import read_settings, says_finished
from isjax.run.plan import Plan, training_key
from isjax.run.results import LearnerResults, read_results
from isjax.run.store import holds_run


class Picked(NamedTuple):
    """One learner of a run."""

    learner: int
    """Its index."""
    update: int
    """That of its newest checkpoint."""
    state: LearnerState


class Trained(NamedTuple):
    """A run that was read back, finished or not."""

    folder: Path
    plan: Plan
    saved: dict[str, Any]
    """What `config.json` holds."""
    results: LearnerResults

    def pick(self, index: int | None = None) -> Picked:
        """One learner: that of the index, or the one with the best evaluation among those that reached the end.

        Raises:
          ValueError: there is no such learner, no evaluation to tell the best one, or no checkpoint of it.
        """
        learners = self.plan.learners
        if index is None:
            if not np.isfinite(self.results.scores).any():
                raise FieldError(
                    "learner",
                    f"from 0 to {learners - 1}",
                    "best",
                    "{field} must be {rule}: nobody has a final evaluation.",
                )
            index = best_learner(self.results.scores, self.results.alive)
        if not 0 <= index < learners:
            raise FieldError("learner", f"from 0 to {learners - 1}", index)
        folder = Folder(self.folder)
        for groups in reversed(known_stages(self.plan, Grouping.from_json(self.saved), folder)):
            for group in groups:
                if index in group.learners and folder.checkpoints(group).exists():
                    return self._read(folder.checkpoints(group), index, group)
        raise ValueError(f"{self.folder} has no checkpoint of learner {index} yet.")

    def _read(self, path: Path, index: int, group: LearnerGroup) -> Picked:
        found = read_newest(path, group.learners, self.plan.digest)
        if found is None:
            raise ValueError(f"{self.folder} has no checkpoint of learner {index} yet.")
        if found.damaged:
            raise Damaged(
                f"{path / str(found.damaged[0])} is damaged, and the one before is of update {found.update}. "
                "isjax train --resume goes on from there."
            )
        ended = Folder(self.folder).ended([group])
        if ended and found.update != group.stop:
            raise Damaged(f"{path} has lost its last checkpoint, at update {group.stop}.")
        row = int(np.searchsorted(group.learners, index))
        like = jax.eval_shape(jax.vmap(make_learner(self.plan.config).init), training_key(self.plan)[None])
        if found.progress["layout"] != layout(like):
            raise Damaged(f"{path} was written by another version of isjax: its arrays differ.")
        rows = {name: x[row : row + 1] for name, x in found.rows.items()}
        state = unpack(rows, like, found.progress["key"])
        return Picked(index, found.update, jax.tree.map(lambda x: jax.numpy.asarray(x[0]), state))


def open_run(folder: Path) -> Trained:
    """Reads a run folder.

    Raises:
      ValueError: there is no run, or it is damaged.
    """
    if not holds_run(folder):
        raise ValueError(f"{folder} must be the folder of a run, but it holds no {CONFIG}.")
    saved, plan, grouping = read_settings(folder)
    stages = known_stages(plan, grouping, Folder(folder))
    has_ended = Folder(folder).ended(stages[-1]) and stages[-1][0].stop == plan.config.updates
    if says_finished(folder) and not has_ended:
        raise Damaged(f"{folder} says that it is finished, but results are missing. Resuming it makes them again.")
    return Trained(folder, plan, saved, read_results(plan, stages, Folder(folder)))
