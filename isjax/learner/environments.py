"""Environments behind gymnax's interface; the only file that imports gymnax."""

import contextlib
import dataclasses
import difflib
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple
from urllib.error import URLError

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces
from gymnax.environments.environment import Environment as GymnaxEnvironment
from gymnax.environments.minatar import seaquest, seaquest_helpers

from isjax.learner.distributions import ActionDistribution, Categorical, Gaussian, one_hot
from isjax.types import Key, Tree

MAX_ONE_HOT = 256
"""Integer observations with at most so many values are one-hot encoded, others cast to float32."""
UNLIMITED_STEPS = 10_000
"""How long an evaluation waits for an episode of an environment without `max_steps_in_episode`."""
SEAQUEST_ROOM = 32
"""Places for each kind of thing on Seaquest's board."""


class Step(NamedTuple):
    """One step of one environment."""

    observation: Tree
    """What to act on next: the first observation of the next episode where this one ended."""
    state: Tree
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    """Cut by a time limit, and not terminated as well."""
    final_observation: Tree
    """The state actually reached."""


class Adapter(NamedTuple):
    """An environment as the learner sees it: pure functions of one environment, to be vmapped."""

    reset: Callable[[Key], tuple[Tree, Tree]]
    """`key → (observation, state)`."""
    step: Callable[[Key, Tree, jax.Array, tuple[Tree, Tree] | None], Step]
    """`(key, state, action, fresh) → Step`; `fresh` is what `reset` gave, for where an episode ends."""
    takes_fresh: bool
    """Whether `step` uses `fresh`; otherwise the environment draws a reset of its own on every step."""
    encode: Callable[[Tree], jax.Array]
    """A batch of observations `[N, ...]` to float32 features for the network."""
    structure: Callable[[Tree], Tree]
    """The same batch for a network that takes structure: without its mask, floats as float32, the rest as it is."""
    legal: Callable[[Tree], jax.Array | None]
    """Of the same batch, `[N, A]` boolean: the actions that may be taken; `None` where all may."""
    actions: ActionDistribution
    max_steps: int | None
    """The time limit, where the environment states one."""


def make_environment(name: str, overrides: tuple[str, ...] = ()) -> tuple[Any, Any]:
    """`(environment, params)` of a registered id; each override is `NAME=NUMBER`, in place of a default.

    Raises:
      ValueError: no such id (near matches are named), no such parameter, or data that cannot be downloaded.

    >>> make_environment("MemoryChain-bsuite", ("memory_length=10",))[1].memory_length
    10
    """
    if name not in gymnax.registered_envs:
        near = difflib.get_close_matches(name, gymnax.registered_envs, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(gymnax.registered_envs)}."
        raise ValueError(f"env must be a registered environment, but it is {name!r}; {hint}")
    try:
        environment, params = gymnax.make(name)
        if name == "Seaquest-MinAtar" and not overrides:
            environment = _Seaquest()
        return environment, _overridden(params, overrides)
    except (URLError, ConnectionError, TimeoutError) as error:
        raise ValueError(f"env {name!r} downloads its data, which failed: {error}.") from error


def _overridden(params: Any, overrides: tuple[str, ...]) -> Any:
    known = {field.name: getattr(params, field.name) for field in dataclasses.fields(params)}
    changes = {}
    for override in overrides:
        name, equals, text = override.partition("=")
        if name not in known or not equals:
            near = difflib.get_close_matches(name, known, n=1) or [next(iter(known))]
            raise ValueError(
                f"env_params must be NAME=NUMBER with NAME one of {', '.join(known)}, but one is {override!r}; "
                f"an example is {near[0]}={known[near[0]]}."
            )
        kind = int if isinstance(known[name], int) and not isinstance(known[name], bool) else float
        try:
            changes[name] = kind(text)
        except ValueError:
            wanted = "a whole number" if kind is int else "a number"
            raise ValueError(f"env_params: {name} must be {wanted}, but it is {text!r}.") from None
    return dataclasses.replace(params, **changes)


@contextlib.contextmanager
def _seaquest_room() -> Iterator[None]:
    """What is traced meanwhile has arrays of `SEAQUEST_ROOM`: gymnax's code reads their size from a constant."""
    before = seaquest_helpers.MAX_ENTITIES
    try:
        seaquest.MAX_ENTITIES = seaquest_helpers.MAX_ENTITIES = SEAQUEST_ROOM
        yield
    finally:
        seaquest.MAX_ENTITIES = seaquest_helpers.MAX_ENTITIES = before


class _Seaquest(seaquest.MinSeaquest):
    """gymnax's game with places for 32 of a kind, not 100: the same numbers, and a step takes a fifth of the time.

    Default parameters never need more. At the hardest, one fish or submarine comes a step and crosses ten
    fields at three steps each: 31 at once. A submarine has one bullet in the air, and divers and own bullets are few.
    """

    step_env = _seaquest_room()(seaquest.MinSeaquest.step_env)
    reset_env = _seaquest_room()(seaquest.MinSeaquest.reset_env)
    get_obs = _seaquest_room()(seaquest.MinSeaquest.get_obs)


def animate(name: str, overrides: tuple[str, ...], states: list[Tree], returns: Any, path: Any) -> None:
    """Writes gymnax's own pictures of an episode as a GIF; raises whatever it raises where it has none."""
    from gymnax.visualize import Visualizer

    environment, params = make_environment(name, overrides)
    Visualizer(environment, params, states, returns).animate(str(path))


def adapt(environment: Any, params: Any = None, *, box_actions: Literal["tanh", "clip"] = "tanh") -> Adapter:
    """The adapter of any object with gymnax's interface (see `types.Environment`).

    Args:
      environment: the object; its `step` returns six values.
      params: its parameters; `environment.default_params` if left out.
      box_actions: "tanh" or "clip", how Gaussian actions are brought into a bounded Box.

    Raises:
      ValueError: the object's `step` returns five values, or its `info` lacks `final_observation`.
      TypeError: its action space is neither Discrete nor Box.
    """
    if params is None:
        params = getattr(environment, "default_params", None)
    actions = _action_distribution(environment.action_space(params), box_actions)
    observation, state = jax.eval_shape(environment.reset, jax.random.key(0), params)
    # gymnax builds states from Python numbers: settle every dtype, or a scan's carry changes its type.
    reference = (observation, state)

    def reset(key: Key) -> tuple[Tree, Tree]:
        return _as_types(environment.reset(key, params), reference)

    takes_fresh = _resets_like_gymnax(environment)
    if takes_fresh:
        step = functools.partial(_step_onto_fresh, environment, params, reference)
    else:
        _check_step(environment, params, actions, state)
        step = functools.partial(_step_with_own_reset, environment, params, reference)
    limit = getattr(params, "max_steps_in_episode", None)
    has_mask = _split_mask(observation)[1] is not None
    if has_mask and not isinstance(actions, Categorical):
        raise TypeError(
            f"action_mask is for Discrete actions, but the action space is {environment.action_space(params)!r}."
        )
    return Adapter(
        reset=reset,
        step=step,
        takes_fresh=takes_fresh,
        encode=functools.partial(_encode, *_integer_range(environment.observation_space(params))),
        structure=lambda observation: jax.tree.map(_as_float32, _split_mask(observation)[0]),
        legal=lambda observation: _split_mask(observation)[1],
        actions=actions,
        max_steps=None if limit is None else int(limit),
    )


def _resets_like_gymnax(environment: Any) -> bool:
    """Whether `step` is gymnax's own: `step_env`, then a reset drawn anew on every step, then a choice."""
    return isinstance(environment, GymnaxEnvironment) and type(environment).step is GymnaxEnvironment.step


def _step_onto_fresh(environment, params, reference, key, state, action, fresh) -> Step:
    observation, state, reward, terminated, _ = environment.step_env(key, state, action, params)
    truncated = environment.is_truncated(state, params) & ~terminated
    observation, state = _as_types((observation, state), reference)
    next_observation, next_state = _where(terminated | truncated, fresh, (observation, state))
    return Step(next_observation, next_state, _scalar(reward), terminated, truncated, observation)


def _step_with_own_reset(environment, params, reference, key, state, action, fresh) -> Step:
    del fresh
    observation, state, reward, terminated, truncated, info = environment.step(key, state, action, params)
    observation, state = _as_types((observation, state), reference)
    final = _as_types(info["final_observation"], reference[0])
    return Step(observation, state, _scalar(reward), terminated, truncated & ~terminated, final)


def _check_step(environment: Any, params: Any, actions: ActionDistribution, state: Tree) -> None:
    name = type(environment).__name__
    action = jax.eval_shape(lambda: actions.execute(actions.mode(jnp.zeros(actions.num_params))))
    result = jax.eval_shape(environment.step, jax.random.key(0), state, action, params)
    if len(result) != 6:
        raise ValueError(
            f"{name}.step must return (observation, state, reward, terminated, truncated, info), as gymnax does since "
            f"1.0, but it returns {len(result)} values; one flag for both endings cannot tell a time limit."
        )
    if "final_observation" not in result[5]:
        raise ValueError(
            f"{name}.step must put the observation of the state reached into info['final_observation'], "
            f"but info holds {sorted(result[5])}."
        )


def _action_distribution(space: Any, box_actions: Literal["tanh", "clip"]) -> ActionDistribution:
    if isinstance(space, spaces.Discrete) or (hasattr(space, "n") and not hasattr(space, "low")):
        return Categorical(int(space.n))
    if not hasattr(space, "low"):
        raise TypeError(f"The action space must be Discrete or Box, but it is {space!r}.")
    low, high = (np.broadcast_to(np.asarray(x, np.float32), space.shape).ravel() for x in (space.low, space.high))
    bounded = bool(np.all(np.isfinite(low)) and np.all(np.isfinite(high)))
    bounds = (tuple(low.tolist()), tuple(high.tolist())) if bounded else (None, None)
    return Gaussian(tuple(space.shape), *bounds, into=box_actions)


def _split_mask(observation: Tree) -> tuple[Tree, jax.Array | None]:
    """The observation without its `action_mask`, and that mask, if it has one."""
    if isinstance(observation, Mapping) and "action_mask" in observation:
        return {name: x for name, x in observation.items() if name != "action_mask"}, observation["action_mask"]
    mask = getattr(observation, "action_mask", None)
    if mask is not None:
        fields: Any = observation
        replace = getattr(fields, "_replace", None) or functools.partial(dataclasses.replace, fields)
        return replace(action_mask=None), mask
    return observation, None


def _encode(low: int, count: float, observation: Tree) -> jax.Array:
    """Integers with few values become one-hot, everything else float32; several leaves are joined flat.

    Integers take `count` values from `low` on; infinitely many if the space does not say.
    """
    leaves = jax.tree.leaves(_split_mask(observation)[0])
    if len(leaves) > 1:
        return jnp.concatenate([x.reshape(x.shape[0], -1).astype(jnp.float32) for x in leaves], axis=1)
    (x,) = leaves
    if not jnp.issubdtype(x.dtype, jnp.integer):
        return x.astype(jnp.float32)
    if count > MAX_ONE_HOT:
        return x.astype(jnp.float32)
    return one_hot(x - low, int(count)).reshape(x.shape[0], -1).astype(jnp.float32)


def _as_float32(x: jax.Array) -> jax.Array:
    return x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x


def _integer_range(space: Any) -> tuple[int, float]:
    if hasattr(space, "n"):
        return 0, int(space.n)
    if not hasattr(space, "low"):
        return 0, math.inf
    low, high = float(np.asarray(space.low).min()), float(np.asarray(space.high).max())
    return (int(low), int(high - low) + 1) if math.isfinite(high - low) else (0, math.inf)


def _scalar(reward: jax.Array) -> jax.Array:
    return jnp.asarray(reward, jnp.float32).reshape(())


def _as_types(tree: Tree, reference: Tree) -> Tree:
    return jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype).reshape(like.shape), tree, reference)


def _where(condition: jax.Array, yes: Tree, no: Tree) -> Tree:
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), yes, no)
