"""Brax: continuous control on any of its physics backends."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from brax import envs
from brax.io import html

from isjax.environments.api import Environment, Step, Suite
from isjax.environments.parameters import changes, defaults_of
from isjax.environments.registry import register_suite
from isjax.environments.spaces import Box
from isjax.types import Key, Tree

BACKENDS = ("generalized", "positional", "spring", "mjx")
EPISODE_LENGTH = 1000
"""After which brax's own training cuts episodes."""


@register_suite("brax")
class BraxSuite(Suite):
    """What brax has registered."""

    def ids(self) -> Sequence[str]:
        """As brax has them."""
        return tuple(envs._envs)

    def parameters(self, name: str) -> Mapping[str, Any]:
        """Those of the environment's class, its `backend` among them, and `episode_length`."""
        return {"backend": "generalized", "episode_length": EPISODE_LENGTH} | defaults_of(envs._envs[name])

    def make(self, name: str, overrides: tuple[str, ...]) -> Environment:
        """Without brax's wrappers."""
        given = changes(self.parameters(name), overrides, {"backend": BACKENDS})
        length = given.pop("episode_length", EPISODE_LENGTH)
        return Brax(name, envs.get_environment(name, **given), length)


class Brax(Environment):
    """An environment of brax without any of its wrappers.

    Its `done` means that the state reached is terminal; episodes are cut after `episode_length` steps beside it.
    """

    def __init__(self, name: str, inner: Any, episode_length: int) -> None:
        self.id, self.inner, self.max_steps = name, inner, episode_length
        self.action_space = Box(-1.0, 1.0, (int(inner.action_size),))

    @property
    def name(self) -> str:
        """The id."""
        return self.id

    def reset(self, key: Key) -> tuple[Tree, Tree]:
        """Brax's own."""
        state = self.inner.reset(jax.random.key_data(key))
        return state.obs, state

    def step(self, key: Key, state: Tree, action: jax.Array) -> Step:
        """`terminated` is brax's `done`."""
        state = self.inner.step(state, action)
        return Step(state.obs, state, state.reward, state.done > 0.5)

    def draw(self, states: Sequence[Tree], returns: Any, path: Path) -> None:
        """Brax's own page, to turn and to zoom; its viewer is loaded from the network when the page is opened."""
        system = self.inner.sys.tree_replace({"opt.timestep": self.inner.dt})
        page = html.render(system, [state.pipeline_state for state in states], colab=False)
        path.with_suffix(".html").write_text(page)
