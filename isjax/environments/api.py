"""What an environment is: a reset and a step, both pure, two spaces, and what is known of how long episodes last."""

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from isjax.types import Key, Tree

UNLIMITED_STEPS = 10_000
"""How long an evaluation waits for an episode of an environment that guarantees no limit, at least."""


class Step(NamedTuple):
    """One step of one environment. Nothing has been reset, wherever an episode ended."""

    observation: Tree
    """Of the state reached, in which an episode may have ended."""
    state: Tree
    """The state reached."""
    reward: Any
    """One real number."""
    terminated: Any
    """Whether the state reached is terminal, so that nothing more can be gained from there."""
    truncated: Any = False
    """Whether the episode is cut short in a state from which more could be gained, as by a time limit. Where both
    flags are true, the episode is terminated. Leave it out where `step` never cuts: that is quicker.
    """
    following: tuple[Tree, Tree] | None = None
    """`(observation, state)` to act on next, of an environment that can only be stepped together with a reset of its
    own; `None` for any other: the unroll resets it.
    """

    @property
    def ended(self) -> jax.Array:
        """Whether the episode ended, in either way."""
        return self.terminated | self.truncated


class Environment(abc.ABC):
    """An environment with its parameters; derive a class that has `reset`, `step` and the spaces.

    A dataclass can be given its fields on the command line, as `--env-params NAME=VALUE`.
    """

    action_space: Any = None
    """A `Discrete` space, a `MultiDiscrete` one of several integers at once, or a `Box` of real numbers whose
    dimensions may have bounds on both sides, on one or on none. Those of `isjax.environments`, gymnax and gymnasium
    will do.
    """
    observation_space: Any = None
    """Any space, a mapping of spaces where observations are one, or `None`. Integers that have few values by their
    space are one-hot encoded, images scaled by their bounds.
    """
    max_steps: int | None = None
    """Steps after which an episode is cut; `step` need not count them. `None` if only `step` ends episodes."""
    patience: int = UNLIMITED_STEPS
    """Steps after which an evaluation gives an episode up, where there is no `max_steps`."""
    counts_steps: bool = False
    """Whether `step` itself is proved to cut every episode after `max_steps` steps, and none before."""

    @property
    def name(self) -> str:
        """What errors call it."""
        return type(self).__name__

    @abc.abstractmethod
    def reset(self, key: Key) -> tuple[Tree, Tree]:
        """`(observation, state)` of a new episode. An observation with a field or key `action_mask`, `[A]` boolean,
        says which actions are legal in its state; the rest of it is what the network sees. Of a `MultiDiscrete` space
        it has the flags of one integer after another, or, where each has n values, a row of n for each.
        """

    @abc.abstractmethod
    def step(self, key: Key, state: Tree, action: jax.Array) -> Step:
        """What comes of an action. Trees and shapes are those of `reset`, both endings are booleans."""

    def draw(self, states: Sequence[Tree], returns: Any, path: Path) -> None:
        """Writes moving pictures of an episode; raises whatever it raises where that cannot be.

        Args:
          states: one after another, on the host.
          returns: `[len(states)]`, what each has come to.
          path: of the file, an animated GIF; what is none takes another ending, as `path.with_suffix(".html")`.
        """
        raise NotImplementedError(f"{self.name} has no pictures of its own.")


class Suite(abc.ABC):
    """A family of environments, each with an id; derive a class in a file of its own and register it.

    >>> class Balancing(Suite):
    ...     def ids(self):
    ...         return ["pole", "pendulum"]
    ...     def make(self, name, overrides):
    ...         from isjax.environments import make
    ...         return make({"pole": "CartPole-v1", "pendulum": "Pendulum-v1"}[name], overrides)
    >>> Balancing().make("pole", ("max_steps_in_episode=100",)).params.max_steps_in_episode
    100
    """

    @abc.abstractmethod
    def ids(self) -> Sequence[str]:
        """All ids that `make` knows."""

    @abc.abstractmethod
    def make(self, name: str, overrides: tuple[str, ...]) -> Environment:
        """The environment of an id; each override is `NAME=VALUE`, in place of a parameter's default."""

    def parameters(self, name: str) -> Mapping[str, Any]:
        """What `make` takes overrides of, with its defaults."""
        return {}

    def refusal(self, name: str) -> str:
        """Why an id that the suite itself knows is not among `ids`; empty where there is nothing to say."""
        return ""
