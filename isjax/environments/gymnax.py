"""gymnax's environments, and any object with gymnax's interface."""

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.error import URLError

import gymnax
import jax
import jax.numpy as jnp
from gymnax.environments.environment import Environment as GymnaxEnvironment

from isjax.environments.api import UNLIMITED_STEPS, Environment, Step, Suite
from isjax.environments.contract import types_of_reset
from isjax.environments.limits import MOST_STEPS, counts_steps, declared_limit
from isjax.environments.parameters import overridden, scalars_of
from isjax.environments.registry import register_suite
from isjax.environments.seaquest import make_seaquest
from isjax.environments.spaces import action_distribution
from isjax.types import Key, Tree

HEADLESS = {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy", "PYGAME_HIDE_SUPPORT_PROMPT": "1"}
"""What keeps pygame, which draws for gymnax, from looking for a screen and a sound card, and from saying so."""


class GymnaxInterface(Protocol):
    """The part of gymnax's interface that is used."""

    def reset(self, key: Key, params: Any) -> tuple[Tree, Tree]:
        """`(observation, state)`. An observation with a field or key `action_mask`, `[A]` boolean, says which
        actions are legal in its state; the rest of it is what the network sees.
        """
        ...

    def step(
        self, key: Key, state: Tree, action: jax.Array, params: Any
    ) -> tuple[Tree, Tree, jax.Array, jax.Array, jax.Array, dict[str, Any]]:
        """`(observation, state, reward, terminated, truncated, info)`, reset where an episode ended;
        `info["final_observation"]` holds the observation from before that reset. Trees and shapes are those of
        `reset`, the reward is one number, and both endings are booleans.
        """
        ...

    def action_space(self, params: Any) -> Any:
        """A `Discrete` space, or a `Box` of real numbers."""
        ...

    def observation_space(self, params: Any) -> Any:
        """Any space."""
        ...


@register_suite("gymnax")
class GymnaxSuite(Suite):
    """What gymnax has registered."""

    def ids(self) -> Sequence[str]:
        """As gymnax has them."""
        return gymnax.registered_envs

    def parameters(self, name: str) -> Mapping[str, Any]:
        """The numbers and flags of its own parameters."""
        params = gymnax.make(name)[1]
        return scalars_of(params) if dataclasses.is_dataclass(params) else {}

    def make(self, name: str, overrides: tuple[str, ...]) -> Environment:
        """As gymnax makes it, and Seaquest with a smaller board where that is enough."""
        try:
            environment, params = gymnax.make(name)
            params = overridden(params, overrides)
            if name == "Seaquest-MinAtar" and not overrides:
                environment = make_seaquest()
            return Gymnax(environment, params)
        except (URLError, ConnectionError, TimeoutError) as error:
            raise ValueError(f"env {name!r} downloads its data, which failed: {error}.") from error


class Gymnax(Environment):
    """An object with gymnax's interface, with its parameters.

    Where both its `step` and its `reset` are those of gymnax's base class, it is stepped without the reset that
    gymnax draws on every step.
    """

    def __init__(self, inner: GymnaxInterface, params: Any = None) -> None:
        """Takes the object's `default_params` where `params` is `None`."""
        self.inner: Any = inner
        self.params = getattr(inner, "default_params", None) if params is None else params
        self.action_space = inner.action_space(self.params)
        self.observation_space = inner.observation_space(self.params)
        self.is_stepped_without_reset = _has_gymnax_own(inner, "step", "reset")
        self.patience = max(declared_limit(self.params) or 0, UNLIMITED_STEPS)

    counts_steps = True

    @functools.cached_property
    def max_steps(self) -> int | None:  # type: ignore[override]
        """What its parameters declare, where that is proved: what they declare need not be what it does."""
        declared = declared_limit(self.params)
        possible = declared is not None and declared <= MOST_STEPS and self.is_stepped_without_reset
        return declared if possible and self._is_cut_by_time_alone() else None

    @property
    def name(self) -> str:
        """Of the object's class."""
        return type(self.inner).__name__

    def reset(self, key: Key) -> tuple[Tree, Tree]:
        """The object's own."""
        return self.inner.reset(key, self.params)

    def step(self, key: Key, state: Tree, action: jax.Array) -> Step:
        """The step of gymnax up to where it draws a reset, or a step of the object's own, which has reset it."""
        if not self.is_stepped_without_reset:
            return self._step_with_reset(key, state, action)
        observation, state, reward, terminated, _ = self.inner.step_env(key, state, action, self.params)
        return Step(observation, state, reward, terminated, self.inner.is_truncated(state, self.params))

    def draw(self, states: Sequence[Tree], returns: Any, path: Path) -> None:
        """Gymnax's own pictures."""
        for name, value in HEADLESS.items():
            os.environ.setdefault(name, value)
        from gymnax.visualize import Visualizer

        Visualizer(self.inner, self.params, list(states), returns).animate(str(path))

    def _step_with_reset(self, key: Key, state: Tree, action: jax.Array) -> Step:
        result = self.inner.step(key, state, action, self.params)
        if len(result) != 6:
            raise ValueError(
                f"{self.name}.step must return (observation, state, reward, terminated, truncated, info), as gymnax "
                f"does since 1.0, but it returns {len(result)} values; one flag for both endings cannot tell a time "
                "limit."
            )
        observation, state, reward, terminated, truncated, info = result
        if "final_observation" not in info:
            raise ValueError(
                f"{self.name}.step must put the observation of the state reached into info['final_observation'], "
                f"but info holds {sorted(map(str, info))}."
            )
        return Step(info["final_observation"], state, reward, terminated, truncated, (observation, state))

    def _is_cut_by_time_alone(self) -> bool:
        """Whether `truncated` is gymnax's own flag, `time >= max_steps_in_episode`, of a time that counts steps."""
        if not _has_gymnax_own(self.inner, "is_truncated"):
            return False
        key, actions = jax.random.key(0), action_distribution(self.action_space)
        action = actions.execute(actions.mode(jnp.zeros(actions.num_params)))
        state = types_of_reset(self.name, lambda: self.reset(key))[1]
        return counts_steps(lambda: self.reset(key)[1], lambda state: self.step(key, state, action).state, state)


def _has_gymnax_own(environment: Any, *methods: str) -> bool:
    """Whether these methods are those of gymnax's base class, overridden neither by a class nor on the object."""
    kind = type(environment)
    return isinstance(environment, GymnaxEnvironment) and all(
        name not in vars(environment) and getattr(kind, name) is getattr(GymnaxEnvironment, name) for name in methods
    )
