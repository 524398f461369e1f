"""Jumanji: games, packing and routing, with masks of the actions that are legal."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jumanji
import numpy as np
from jumanji.registration import load
from jumanji.types import StepType

from isjax.environments.api import UNLIMITED_STEPS, Environment, Step, Suite
from isjax.environments.parameters import changes, defaults_of
from isjax.environments.registry import register_suite
from isjax.environments.spaces import Box, Discrete, MultiDiscrete
from isjax.errors import FieldError
from isjax.types import Key, Tree


@register_suite("jumanji")
class JumanjiSuite(Suite):
    """What jumanji has registered."""

    def ids(self) -> Sequence[str]:
        """As jumanji has them."""
        return sorted(jumanji.registered_environments())

    def parameters(self, name: str) -> Mapping[str, Any]:
        """The numbers among the arguments of the environment's class, such as `time_limit`, and `observe`, the one part
        of observations that is seen beside the mask, such as `grid`.
        """
        spec = jumanji.registration._REGISTRY[name]
        known = defaults_of(load(spec.entry_point))
        registered = {key: x for key, x in spec.kwargs.items() if isinstance(x, bool | int | float)}
        return known | registered | {"observe": "everything"}

    def make(self, name: str, overrides: tuple[str, ...]) -> Environment:
        """As jumanji makes it."""
        given = changes(self.parameters(name), overrides)
        observe = given.pop("observe", "everything")
        try:
            return Jumanji(name, jumanji.make(name, **given), observe)
        except (OSError, ConnectionError) as error:
            reason = str(error).partition("\n")[0]
            value = f"{name!r}, which downloads its own: {reason}"
            raise FieldError("env", "of data that can be had here", value) from error


class Jumanji(Environment):
    """An environment of jumanji.

    The last step of an episode has a discount: 0 where the state reached is terminal, 1 where the episode was cut.
    Several agents are one here, that takes all of their actions and is paid the sum of their rewards.
    """

    counts_steps = True

    def __init__(self, name: str, inner: Any, observe: str = "everything") -> None:
        self.id, self.inner = name, inner
        self.max_steps = getattr(inner, "time_limit", None)
        self.patience = max(self.max_steps or 0, UNLIMITED_STEPS)
        self.truncates = hasattr(sys.modules[type(inner).__module__], "truncation")
        self.observation_space = _space(inner.observation_spec)
        parts = [part for part in self.observation_space if part != "action_mask"]
        if observe not in ("everything", *parts):
            raise FieldError("env_params", f"one of everything, {', '.join(parts)} as observe", repr(observe))
        self.parts = parts if observe == "everything" else [observe]
        mask = self.observation_space.get("action_mask")
        self.joint_shape, self.action_space = _actions(inner.action_spec, mask and mask.shape)

    @property
    def name(self) -> str:
        """The id."""
        return self.id

    def reset(self, key: Key) -> tuple[Tree, Tree]:
        """Jumanji's own."""
        state, timestep = self.inner.reset(jax.random.key_data(key))
        return self._observed(timestep.observation), state

    def step(self, key: Key, state: Tree, action: jax.Array) -> Step:
        """Endings are the last step's discount, where the environment ever cuts."""
        if self.joint_shape:
            action = jnp.stack(jnp.unravel_index(action, self.joint_shape))
        action = action.astype(self.inner.action_spec.dtype)
        state, timestep = self.inner.step(state, action)
        is_last, is_cut = timestep.step_type == StepType.LAST, jnp.max(timestep.discount) > 0
        observation, reward = self._observed(timestep.observation), jnp.sum(timestep.reward)
        if not self.truncates:
            return Step(observation, state, reward, is_last)
        return Step(observation, state, reward, is_last & ~is_cut, is_last & is_cut)

    def draw(self, states: Sequence[Tree], returns: Any, path: Path) -> None:
        """Jumanji's own animation."""
        self.inner.animate(list(states), interval=100, save_path=str(path))

    def _observed(self, observation: Tree) -> Tree:
        """Parts by name, and the mask, which is flat where an action is one of all combinations."""
        seen = {part: getattr(observation, part) for part in self.parts}
        mask = getattr(observation, "action_mask", None)
        if mask is not None:
            seen["action_mask"] = mask.reshape(-1) if self.joint_shape else mask
        return seen


def _space(spec: Any) -> Any:
    """A specification as a space, or as a mapping of spaces by name."""
    if hasattr(spec, "num_values") and np.ndim(spec.num_values) == 0:
        return Discrete(int(spec.num_values))
    if hasattr(spec, "minimum"):
        return Box(np.asarray(spec.minimum), np.asarray(spec.maximum), tuple(spec.shape), spec.dtype)
    if hasattr(spec, "shape"):
        return Box(-math.inf, math.inf, tuple(spec.shape), spec.dtype)
    return {name: _space(part) for name, part in spec._specs.items()}


def _actions(spec: Any, mask: tuple[int, ...] | None) -> tuple[tuple[int, ...] | None, Any]:
    """`(shape, space)` of actions.

    Where the mask has a flag for every combination of several integers, `[n₀, n₁, …]`, an action is the index of a
    combination, and `shape` says of which; else it is `None`.
    """
    if hasattr(spec, "num_values") and np.ndim(spec.num_values) == 0:
        return None, Discrete(int(spec.num_values))
    if jnp.issubdtype(spec.dtype, jnp.floating):
        return None, Box(np.asarray(spec.minimum), np.asarray(spec.maximum), tuple(spec.shape))
    counts = np.asarray(spec.num_values if hasattr(spec, "num_values") else np.broadcast_to(spec.maximum, spec.shape))
    if mask is not None and mask[0] == counts.size and len(mask) == 2:
        return None, MultiDiscrete(np.full(counts.shape, mask[1]))
    if mask is not None and mask == tuple(counts.tolist()):
        return mask, Discrete(math.prod(mask))
    return None, MultiDiscrete(counts)
