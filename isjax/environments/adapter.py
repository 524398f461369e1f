"""An environment as the learner sees it: checked, in settled types, with its encoder and its action distribution."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from isjax.environments.api import Environment, Step
from isjax.environments.contract import as_step, as_types, settle_types, types_of_reset
from isjax.environments.distributions import ActionDistribution, Gaussian
from isjax.environments.encoding import encoder, split_mask
from isjax.environments.limits import MOST_STEPS, check_limit, limited_draw, limited_reset, limited_step
from isjax.environments.spaces import action_distribution
from isjax.types import Key, Tree


class Adapter(NamedTuple):
    """An environment as the learner sees it: pure functions of one environment, to be vmapped."""

    reset: Callable[[Key], tuple[Tree, Tree]]
    """`key → (observation, state)`."""
    step: Callable[[Key, Tree, jax.Array], Step]
    """`(key, state, action) → Step`; `truncated` is false where the episode is terminated as well."""
    draw: Callable[[Sequence[Tree], Any, Path], None]
    """`Environment.draw`, of states as `reset` and `step` give them."""
    resets_itself: bool
    """Whether `step` gives what follows an ending; otherwise the unroll draws resets."""
    encode: Callable[[Tree], jax.Array]
    """A batch of observations `[N, ...]` to float32 features for the network."""
    structure: Callable[[Tree], Tree]
    """The same batch for a network that takes structure: without its mask, floats as float32, the rest as it is."""
    legal: Callable[[Tree], jax.Array | None]
    """Of observations `[..., *shape]`, `[..., P]` boolean: the actions that may be taken; `None` where all may."""
    actions: ActionDistribution
    uncut_steps: int
    """Steps before which no episode is truncated, for certain; 1 where nothing is certain, as what an environment
    declares need not be what it does."""
    patience: int
    """Steps after which every episode has ended, or an evaluation gives it up."""


def as_environment(environment: Any, params: Any = None) -> Environment:
    """The environment itself, or that of an object with gymnax's interface and its parameters.

    Raises:
      ValueError: parameters are given to an `Environment`, which has its own.
      TypeError: the object has not gymnax's methods.
    """
    if not isinstance(environment, Environment):
        methods = ("reset", "step", "action_space", "observation_space")
        missing = [name for name in methods if not callable(getattr(environment, name, None))]
        if missing or isinstance(environment, type):
            what = f"the class {environment.__name__}" if isinstance(environment, type) else repr(environment)[:80]
            raise TypeError(
                f"environment must be an isjax.environments.Environment or have gymnax's methods {', '.join(methods)}, "
                f"but it is {what}."
            )
        from isjax.environments.gymnax import Gymnax

        return Gymnax(environment, params)
    if params is not None:
        raise ValueError(
            f"environment_params must be left out where the environment has its own, as {environment.name} has."
        )
    return environment


def adapt(environment: Environment, *, box_actions: Literal["tanh", "clip"] = "tanh") -> Adapter:
    """The adapter of an environment.

    Args:
      environment: what to adapt; its episodes are cut where it has `max_steps` and does not count them itself.
      box_actions: "tanh" or "clip", how Gaussian actions are brought into a bounded Box.

    Raises:
      ValueError: its step gives too little to tell a time limit; its trees, shapes or numbers are not what they have
        to be.
      TypeError: its action space is neither Discrete nor MultiDiscrete nor Box, or a type is not what it has to be.
    """
    actions = action_distribution(environment.action_space, box_actions)
    reference, truncates, resets_itself = _checked(environment, actions)
    reset, step, draw = _settled_reset(environment, reference), _settled_step(environment, reference), environment.draw
    limit = environment.max_steps
    if limit is not None and not environment.counts_steps:
        check_limit(environment.name, limit, resets_itself=resets_itself)
        reset, step, draw = limited_reset(reset), limited_step(step, limit), limited_draw(draw)
    is_cut_late = not truncates or (environment.counts_steps and limit is not None)
    return Adapter(
        reset=reset,
        step=step,
        draw=draw,
        resets_itself=resets_itself,
        encode=encoder(environment.observation_space, reference[0]),
        structure=lambda observation: jax.tree.map(_as_float32, split_mask(observation)[0]),
        legal=_flags_of(reference[0]),
        actions=actions,
        uncut_steps=(limit or MOST_STEPS) if is_cut_late else 1,
        patience=limit or environment.patience,
    )


def _checked(environment: Environment, actions: ActionDistribution) -> tuple[tuple[Tree, Tree], bool, bool]:
    """Shapes and types `(observation, state)`, and whether `step` ever truncates, and whether it resets.

    Raises `ValueError` or `TypeError` where they are not what they have to be.
    """
    name, key = environment.name, jax.random.key(0)
    like = jax.eval_shape(lambda: actions.execute(actions.mode(jnp.zeros(actions.num_params))))
    action = jnp.zeros(like.shape, like.dtype)
    start = types_of_reset(name, lambda: environment.reset(key))
    _check_mask(name, start[0], actions)
    facts = {}

    def first_step(state: Tree) -> Step:
        after = as_step(name, environment.step(key, state, action))
        facts.update(truncates=after.truncated is not False, resets_itself=after.following is not None)
        return after

    reference = settle_types(name, start, first_step)
    return reference, facts["truncates"], facts["resets_itself"]


def _settled_reset(environment: Environment, reference: tuple[Tree, Tree]) -> Callable[[Key], tuple[Tree, Tree]]:
    return lambda key: as_types(tuple(environment.reset(key)), reference)


def _settled_step(environment: Environment, reference: tuple[Tree, Tree]) -> Callable[[Key, Tree, jax.Array], Step]:
    def step(key: Key, state: Tree, action: jax.Array) -> Step:
        after = environment.step(key, state, action)
        terminated = jnp.asarray(after.terminated)
        truncated = jnp.asarray(after.truncated) & ~terminated
        observation, state = as_types((after.observation, after.state), reference)
        following = None if after.following is None else as_types(tuple(after.following), reference)
        return Step(observation, state, jnp.asarray(after.reward, jnp.float32), terminated, truncated, following)

    return step


def _check_mask(name: str, observation: Tree, actions: ActionDistribution) -> None:
    mask = split_mask(observation)[1]
    if mask is None:
        return
    if isinstance(actions, Gaussian):
        raise TypeError(f"action_mask is for Discrete actions, one or several, but those of {name} are of a Box.")
    rows = getattr(actions, "rows", None)
    if mask.shape not in ((actions.num_params,), rows):
        or_rows = f" or {list(rows)}" if rows else ""
        raise ValueError(
            f"action_mask of {name} must have a flag for each action, [{actions.num_params}]{or_rows}, but its shape "
            f"is {list(mask.shape)}."
        )


def _flags_of(reference: Tree) -> Callable[[Tree], jax.Array | None]:
    """What gives the mask of observations `[..., *shape]` as `[..., P]`, or `None` where there is none."""
    one = split_mask(reference)[1]

    def legal(observation: Tree) -> jax.Array | None:
        mask = split_mask(observation)[1]
        if one is None or mask is None:
            return mask
        return mask.reshape(*mask.shape[: mask.ndim - one.ndim], -1)

    return legal


def _as_float32(x: jax.Array) -> jax.Array:
    return x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x
