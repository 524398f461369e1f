"""MuJoCo Playground: control suite, locomotion and manipulation."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false

import contextlib
import io
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from mujoco_playground import registry

from isjax.environments.api import Environment, Step, Suite
from isjax.environments.parameters import changes
from isjax.environments.registry import register_suite
from isjax.environments.spaces import Box
from isjax.errors import FieldError
from isjax.types import Key, Tree

IMPLEMENTATIONS = ("jax", "warp")


@register_suite("playground")
class PlaygroundSuite(Suite):
    """What MuJoCo Playground has registered."""

    def ids(self) -> Sequence[str]:
        """As it has them."""
        return tuple(registry.ALL_ENVS)

    def parameters(self, name: str) -> Mapping[str, Any]:
        """The environment's own settings that are numbers, flags or words."""
        found = registry.get_default_config(name).items()
        return {key: x for key, x in found if isinstance(x, bool | int | float | str)}

    def make(self, name: str, overrides: tuple[str, ...]) -> Environment:
        """Without any wrapper."""
        known = self.parameters(name)
        given = changes(known, overrides, {"impl": IMPLEMENTATIONS})
        if "impl" in known:
            given.setdefault("impl", "jax")
        try:
            inner = registry.load(name, config_overrides=given)
        except (subprocess.CalledProcessError, OSError) as error:
            value = f"{name!r}, whose robot is downloaded from MuJoCo Menagerie when it is first asked for: {error}"
            raise FieldError("env", "of data that can be had here", value) from error
        return Playground(name, inner, int(given.get("episode_length", known["episode_length"])))


class Playground(Environment):
    """An environment of MuJoCo Playground without any of its wrappers.

    Its `done` means that the state reached is terminal; episodes are cut after `episode_length` steps beside it. Of
    observations that come by name it sees `state`, and not what is there for a critic alone.
    """

    def __init__(self, name: str, inner: Any, episode_length: int) -> None:
        self.id, self.inner, self.max_steps = name, inner, episode_length
        self.action_space = Box(-1.0, 1.0, (int(inner.action_size),))

    @property
    def name(self) -> str:
        """The id."""
        return self.id

    def reset(self, key: Key) -> tuple[Tree, Tree]:
        """MuJoCo Playground's own."""
        state = self.inner.reset(jax.random.key_data(key))
        return _seen(state.obs), state

    def step(self, key: Key, state: Tree, action: jax.Array) -> Step:
        """`terminated` is MuJoCo Playground's `done`."""
        state = self.inner.step(state, action)
        return Step(_seen(state.obs), state, state.reward, state.done > 0.5)

    def draw(self, states: Sequence[Tree], returns: Any, path: Path) -> None:
        """What MuJoCo renders, which needs OpenGL."""
        from isjax.environments.pictures import write_gif

        with contextlib.redirect_stderr(io.StringIO()):  # a bar of its own
            frames = self.inner.render(list(states))
        write_gif(frames, path, seconds=self.inner.dt)


def _seen(observation: Tree) -> Tree:
    is_named = isinstance(observation, Mapping) and "state" in observation
    return observation["state"] if is_named else observation
