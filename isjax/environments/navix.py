"""NAVIX: MiniGrid's worlds."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false

import contextlib
import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from isjax.environments.api import Environment, Step, Suite
from isjax.environments.parameters import changes
from isjax.environments.registry import register_suite
from isjax.environments.spaces import Box, Discrete
from isjax.types import Key, Tree


@contextlib.contextmanager
def _hashable_arrays() -> Iterator[None]:
    """Lets dataclasses have arrays for defaults, as navix has them: before Python 3.12 these must be hashable."""
    kind = type(jnp.zeros(()))
    before = kind.__hash__
    if sys.version_info < (3, 12) and before is None:
        kind.__hash__ = object.__hash__  # type: ignore[assignment]
    try:
        yield
    finally:
        kind.__hash__ = before


with _hashable_arrays():
    navix: Any = importlib.import_module("navix")
StepType: Any = navix.environments.environment.StepType
MOST_KINDS = 10
"""The highest number of a thing in a symbolic observation: the player."""
OBSERVATIONS = (
    "symbolic",
    "symbolic_first_person",
    "categorical",
    "categorical_first_person",
    "rgb",
    "rgb_first_person",
)


@register_suite("navix")
class NavixSuite(Suite):
    """What navix has registered."""

    def ids(self) -> Sequence[str]:
        """As navix has them."""
        return tuple(navix.registry())

    def parameters(self, name: str) -> Mapping[str, Any]:
        """`max_steps`, and `observation`, one of navix's own functions."""
        return {"max_steps": 100, "observation": "symbolic"}

    def make(self, name: str, overrides: tuple[str, ...]) -> Environment:
        """As navix makes it."""
        given = changes(self.parameters(name), overrides, {"observation": OBSERVATIONS})
        options = {}
        if "observation" in given:
            options["observation_fn"] = getattr(navix.observations, given["observation"])
        return Navix(name, navix.make(name, max_steps=given.get("max_steps", 100), **options))


class Navix(Environment):
    """A world of navix, whose `step_type` tells how an episode ended.

    navix resets on the step after an ending, which ignores its action; that step is never taken here.
    """

    counts_steps = True

    def __init__(self, name: str, inner: Any) -> None:
        self.id, self.inner, self.max_steps = name, inner, int(inner.max_steps)
        low, high = (np.asarray(x) for x in (inner.observation_space.minimum, inner.observation_space.maximum))
        # navix counts nine kinds of things, and gives the last of them higher numbers.
        high = np.maximum(high, MOST_KINDS) if high.max() < MOST_KINDS else high
        self.observation_space = Box(
            low.min(), high.max(), inner.observation_space.shape, inner.observation_space.dtype
        )
        self.action_space = Discrete(len(inner.action_set))

    @property
    def name(self) -> str:
        """The id."""
        return self.id

    def reset(self, key: Key) -> tuple[Tree, Tree]:
        """Navix's own."""
        timestep = self.inner.reset(jax.random.key_data(key))
        return timestep.observation, timestep

    def step(self, key: Key, state: Tree, action: jax.Array) -> Step:
        """Endings are navix's `TERMINATION` and `TRUNCATION`."""
        # A constant here leaves the reset out of the compiled program.
        timestep = self.inner.step(state.replace(step_type=jnp.zeros_like(StepType.TRANSITION)), action)
        terminated, truncated = (timestep.step_type == kind for kind in (StepType.TERMINATION, StepType.TRUNCATION))
        return Step(timestep.observation, timestep, timestep.reward, terminated, truncated)

    def draw(self, states: Sequence[Tree], returns: Any, path: Path) -> None:
        """The whole grid, as navix renders it."""
        from isjax.environments.pictures import write_gif

        paint = jax.jit(navix.observations.rgb)
        write_gif([paint(timestep.state) for timestep in states], path)
