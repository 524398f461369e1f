"""Craftax and Craftax-Classic, as symbols and as pixels."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from craftax.craftax_env import make_craftax_env_from_name

from isjax.environments.api import Environment, Step, Suite
from isjax.environments.parameters import overridden, scalars_of
from isjax.environments.registry import register_suite
from isjax.types import Key, Tree

IDS = ("Craftax-Classic-Symbolic-v1", "Craftax-Classic-Pixels-v1", "Craftax-Symbolic-v1", "Craftax-Pixels-v1")
BLOCK_PIXELS = 16
"""Of a square of the map, in pictures."""
NEVER = 2**31 - 1
"""A time limit that no counter reaches."""


@register_suite("craftax")
class CraftaxSuite(Suite):
    """The four environments that craftax makes by name, each without its automatic reset."""

    def ids(self) -> Sequence[str]:
        """Without the ids of craftax that only say how resets are made."""
        return IDS

    def parameters(self, name: str) -> Mapping[str, Any]:
        """Those of craftax's `EnvParams`, such as `max_timesteps`."""
        return scalars_of(make_craftax_env_from_name(name, auto_reset=False).default_params)

    def make(self, name: str, overrides: tuple[str, ...]) -> Environment:
        """Without craftax's automatic reset."""
        inner = make_craftax_env_from_name(name, auto_reset=False)
        return Craftax(name, inner, overridden(inner.default_params, overrides))


class Craftax(Environment):
    """A world that takes many times as long to make as a step does.

    craftax has one flag for dying, falling into lava, winning and running out of time. Its own time limit is put out
    of reach here, so that the flag says `terminated`; episodes are cut after `max_timesteps` beside it.
    """

    def __init__(self, name: str, inner: Any, params: Any) -> None:
        self.id, self.inner = name, inner
        self.max_steps = int(params.max_timesteps)
        self.params = dataclasses.replace(params, max_timesteps=NEVER)
        self.action_space = inner.action_space(params)
        self.observation_space = inner.observation_space(params)

    @property
    def name(self) -> str:
        """The id."""
        return self.id

    def reset(self, key: Key) -> tuple[Tree, Tree]:
        """A new world."""
        return self.inner.reset_env(jax.random.key_data(key), self.params)

    def step(self, key: Key, state: Tree, action: jax.Array) -> Step:
        """`terminated` is craftax's `is_terminal` without its time limit."""
        observation, state, reward, terminated, _ = self.inner.step_env(
            jax.random.key_data(key), state, action, self.params
        )
        return Step(observation, state, reward, terminated)

    def draw(self, states: Sequence[Tree], returns: Any, path: Path) -> None:
        """What the player sees, as craftax renders it."""
        from isjax.environments.pictures import write_gif

        if "Classic" in self.id:
            from craftax.craftax_classic.renderer import make_craftax_pixel_renderer as make_renderer
        else:
            from craftax.craftax.renderer import make_craftax_pixel_renderer as make_renderer
        paint = jax.jit(make_renderer(BLOCK_PIXELS))
        write_gif([paint(state) for state in states], path)
