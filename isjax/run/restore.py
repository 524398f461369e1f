"""Learners of a run folder, read back one at a time."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from isjax.errors import FieldError
from isjax.learner import LearnerState, make_learner
from isjax.population import best_learner
from isjax.run.checkpoints import layout, read_newest, unpack
from isjax.run.files import Damaged
from isjax.run.integrity import read_settings
from isjax.run.parts import Folder, Grouping, Part, known_rounds
from isjax.run.plan import CONFIG, Plan, training_key
from isjax.run.store import holds_run
from isjax.run.tally import Tally, tally_of


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
    tally: Tally

    def pick(self, index: int | None = None) -> Picked:
        """One learner: that of the index, or the one with the best evaluation among those that reached the end.

        Raises:
          ValueError: there is no such learner, no evaluation to tell the best one, or no checkpoint of it.
        """
        learners = self.plan.learners
        if index is None:
            if not np.isfinite(self.tally.scores).any():
                raise FieldError(
                    "learner",
                    f"from 0 to {learners - 1}",
                    "best",
                    "{field} must be {rule}: nobody has a final evaluation.",
                )
            index = best_learner(self.tally.scores, self.tally.alive)
        if not 0 <= index < learners:
            raise FieldError("learner", f"from 0 to {learners - 1}", index)
        folder = Folder(self.folder)
        for parts in reversed(known_rounds(self.plan, Grouping.from_json(self.saved), folder)):
            for part in parts:
                if index in part.learners and folder.checkpoints(part).exists():
                    return self._read(folder.checkpoints(part), index, part)
        raise ValueError(f"{self.folder} has no checkpoint of learner {index} yet.")

    def _read(self, path: Path, index: int, part: Part) -> Picked:
        found = read_newest(path, part.learners, self.plan.digest)
        if found is None:
            raise ValueError(f"{self.folder} has no checkpoint of learner {index} yet.")
        if found.damaged:
            raise Damaged(
                f"{path / str(found.damaged[0])} is damaged, and the one before is of update {found.update}. "
                "isjax train --resume goes on from there."
            )
        ended = Folder(self.folder).ended([part])
        if ended and found.update != part.stop:
            raise Damaged(f"{path} has lost its last checkpoint, at update {part.stop}.")
        row = int(np.searchsorted(part.learners, index))
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
    rounds = known_rounds(plan, grouping, Folder(folder))
    return Trained(folder, plan, saved, tally_of(plan, rounds, Folder(folder)))
