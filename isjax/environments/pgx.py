"""Pgx: those of its games that have a single player, MinAtar's and 2048."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false

import colorsys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pgx

from isjax.environments.api import Environment, Step, Suite
from isjax.environments.parameters import changes, defaults_of
from isjax.environments.registry import register_suite
from isjax.environments.spaces import Box, Discrete
from isjax.types import Key, Tree

FREEWAY_STEPS = 2501
"""After which Freeway's clock has run out."""


@register_suite("pgx")
class PgxSuite(Suite):
    """What pgx has registered for one player."""

    def ids(self) -> Sequence[str]:
        """Those of pgx that begin with `minatar-`, and 2048."""
        return tuple(name for name in pgx.available_envs() if name.startswith("minatar-") or name == "2048")

    def parameters(self, name: str) -> Mapping[str, Any]:
        """The arguments of the game's class, such as `sticky_action_prob`."""
        return defaults_of(type(pgx.make(name)))  # type: ignore[arg-type]

    def make(self, name: str, overrides: tuple[str, ...]) -> Environment:
        """As pgx makes it."""
        kind = type(pgx.make(name))  # type: ignore[arg-type]
        return Pgx(name, kind(**changes(self.parameters(name), overrides)))

    def refusal(self, name: str) -> str:
        """Of games that several players play in turn."""
        is_known = name in pgx.available_envs() or name == "bridge_bidding"
        return "a game of several players, of which a learner here is but one" if is_known else ""


class Pgx(Environment):
    """A game of pgx with a single player.

    Its `terminated` says that the game is over. Freeway alone is over by a clock that nobody sees: there the episode
    is cut.
    """

    def __init__(self, name: str, inner: Any) -> None:
        self.id, self.inner = name, inner
        self.ends_by_clock = name == "minatar-freeway"
        self.max_steps = FREEWAY_STEPS if self.ends_by_clock else None
        self.has_mask = name == "2048"
        self.action_space = Discrete(int(inner.num_actions))
        observed = Box(0.0, 1.0, tuple(inner.observation_shape), bool)
        self.observation_space = {"board": observed} if self.has_mask else observed

    @property
    def name(self) -> str:
        """The id."""
        return self.id

    def reset(self, key: Key) -> tuple[Tree, Tree]:
        """Pgx's own `init`."""
        state = self.inner.init(jax.random.key_data(key))
        return self._observed(state), state

    def step(self, key: Key, state: Tree, action: jax.Array) -> Step:
        """`terminated` is pgx's, but for Freeway's clock."""
        state = self.inner.step(state, action, jax.random.key_data(key))
        terminated = jnp.zeros_like(state.terminated) if self.ends_by_clock else state.terminated
        return Step(self._observed(state), state, state.rewards[0], terminated)

    def draw(self, states: Sequence[Tree], returns: Any, path: Path) -> None:
        """Pgx's own pictures of 2048; of MinAtar a color for each channel of the board."""
        if not self.id.startswith("minatar-"):
            pgx.save_svg_animation(states, path.with_suffix(".svg"), frame_duration_seconds=0.2)
            return
        from isjax.environments.pictures import write_gif

        boards = np.stack([state.observation for state in states])
        channels = boards.shape[-1]
        colors = np.asarray([colorsys.hsv_to_rgb(i / channels, 0.8, 1.0) for i in range(channels)])
        write_gif(np.max(boards[..., None] * colors, axis=-2), path)

    def _observed(self, state: Any) -> Tree:
        """With a mask where not every move is legal; as pgx has it, all are where the game is over."""
        if not self.has_mask:
            return state.observation
        return {"board": state.observation, "action_mask": state.legal_action_mask}
