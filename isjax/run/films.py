"""Films of the best learner of the moment, made while a run goes on."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from isjax.learner.learner import make_agent
from isjax.randomness import Domain, stream
from isjax.run.files import FILMS
from isjax.run.groups import LearnerGroup
from isjax.run.plan import Plan
from isjax.run.policy import NotDrawn, film, player

ENDINGS = (".gif", ".html", ".svg")
"""Of what a page can show."""


class Filming:
    """Makes the films of a run.

    Args:
      plan: of the run.
      folder: where they go.
      every: environment steps of a learner between two of them.
    """

    def __init__(self, plan: Plan, folder: Path, every: int) -> None:
        self._plan, self._folder, self._every = plan, folder, every
        self._agent = make_agent(plan.config)
        self._play = player(self._agent)

    def is_due(self, update: int) -> bool:
        """Whether one is at the row of the table that ends with an update."""
        each, before = self._plan.config.steps_per_update, (update - 1) // self._plan.chunk * self._plan.chunk
        return update * each // self._every > before * each // self._every

    def make(self, group: LearnerGroup, update: int, state: Any, metrics: dict[str, np.ndarray]) -> str:
        """Films the learner whose training episodes came to most since the row before; returns a line about it.

        Args:
          group: whose states these are.
          update: the one that they have reached.
          state: of all learners, `[L, ...]`.
          metrics: `[l]` each, on the host.
        """
        returns = np.where(metrics["alive"], metrics["episode_return"], np.nan)
        if np.isnan(returns).all():
            return f"No film at update {update}: nobody alive finished an episode since the last row."
        best = int(np.nanargmax(returns))
        key = stream(jax.random.key(self._plan.seed), Domain.FILMS, update)
        played = self._play(jax.tree.map(lambda x: x[best], state), key)
        self._folder.mkdir(exist_ok=True)
        name = f"update-{update:09d}-learner-{group.learners[best]}"
        try:
            path = film(self._agent.adapter, played, self._folder / name)
        except NotDrawn as error:
            return f"No film at update {update}: {self._plan.config.env} cannot be drawn here: {error}"
        return f"Film of {title_of(path)}, return {played.rewards.sum():.4g}: {path}"


def films_of(folder: Path) -> list[Path]:
    """The films of a run folder, in the order in which they were made."""
    return sorted(path for path in (folder / FILMS).glob("update-*-learner-*") if path.suffix in ENDINGS)


def title_of(path: Path) -> str:
    """Whom a film shows.

    >>> title_of(Path("update-000001200-learner-3.gif"))
    'learner 3 at update 1,200'
    """
    _, update, _, learner = path.stem.split("-")
    return f"learner {learner} at update {int(update):,}"
