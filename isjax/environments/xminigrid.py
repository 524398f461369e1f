"""XLand-MiniGrid: worlds of rules and goals, and MiniGrid's own."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import xminigrid
from xminigrid.core.constants import NUM_COLORS, NUM_TILES
from xminigrid.types import StepType

from isjax.environments.api import Environment, Step, Suite
from isjax.environments.parameters import changes, scalars_of
from isjax.environments.registry import register_suite
from isjax.environments.spaces import Box, Discrete
from isjax.types import Key, Tree


@register_suite("xminigrid")
class XMiniGridSuite(Suite):
    """What xminigrid has registered."""

    def ids(self) -> Sequence[str]:
        """As xminigrid has them."""
        return xminigrid.registered_environments()

    def parameters(self, name: str) -> Mapping[str, Any]:
        """The numbers of the environment's own parameters, such as `max_steps` and `view_size`."""
        return {key: x for key, x in scalars_of(xminigrid.make(name)[1]).items() if not isinstance(x, str)}

    def make(self, name: str, overrides: tuple[str, ...]) -> Environment:
        """As xminigrid makes it."""
        inner, params = xminigrid.make(name)
        return XMiniGrid(name, inner, dataclasses.replace(params, **changes(self.parameters(name), overrides)))


class XMiniGrid(Environment):
    """A world of xminigrid.

    The last step of an episode has a discount: 0 where its goal is reached, 1 where `max_steps` cut it.
    """

    counts_steps = True

    def __init__(self, name: str, inner: Any, params: Any) -> None:
        self.id, self.inner, self.params, self.max_steps = name, inner, params, int(params.max_steps)
        self.action_space = Discrete(int(inner.num_actions(params)))
        self.observation_space = Box(0, max(NUM_TILES, NUM_COLORS) - 1, inner.observation_shape(params), jnp.uint8)

    @property
    def name(self) -> str:
        """The id."""
        return self.id

    def reset(self, key: Key) -> tuple[Tree, Tree]:
        """Xminigrid's own."""
        timestep = self.inner.reset(self.params, jax.random.key_data(key))
        return timestep.observation, timestep

    def step(self, key: Key, state: Tree, action: jax.Array) -> Step:
        """Endings are the last step's discount."""
        timestep = self.inner.step(self.params, state, action)
        is_last, is_cut = timestep.step_type == StepType.LAST, timestep.discount > 0
        return Step(timestep.observation, timestep, timestep.reward, is_last & ~is_cut, is_last & is_cut)

    def draw(self, states: Sequence[Tree], returns: Any, path: Path) -> None:
        """The whole grid, as xminigrid renders it."""
        from isjax.environments.pictures import write_gif

        write_gif([self.inner.render(self.params, timestep) for timestep in states], path)
