"""Environments behind gymnax's interface."""

import contextlib
import dataclasses
import difflib
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple
from urllib.error import URLError

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments.environment import Environment as GymnaxEnvironment
from gymnax.environments.minatar import seaquest, seaquest_helpers

from isjax.errors import FieldError
from isjax.learner.contract import Returned, as_types, settle_types, types_of_reset
from isjax.learner.distributions import ActionDistribution, Categorical, Gaussian
from isjax.learner.encoding import encoder, split_mask
from isjax.learner.limits import MOST_STEPS, counts_steps, declared_limit
from isjax.types import Key, Tree

UNLIMITED_STEPS = 10_000
"""How long an evaluation waits for an episode of an environment that guarantees no limit, at least."""
SEAQUEST_ROOM = 32
"""Places for each kind of thing on Seaquest's board."""
_FLAGS = {"true": True, "1": True, "false": False, "0": False}
_SMALLEST, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


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
    """Steps after which every episode has ended, where the environment's code guarantees it: what it declares need
    not be what it does."""
    patience: int
    """Steps after which an evaluation gives an episode up: `max_steps`, or the longer of what is declared and
    `UNLIMITED_STEPS`."""


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
        value = f"{name!r}; {hint}"
        raise FieldError("env", "a registered environment", value, "{field} must be {rule}, but it is {value}")
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
            value = f"{override!r}; an example is {near[0]}={known[near[0]]}"
            rule = f"NAME=NUMBER with NAME one of {', '.join(known)}"
            raise FieldError("env_params", rule, value, "{field} must be {rule}, but one is {value}.")
        if name in changes:
            sentence = "{field} must {rule}, but {value} is there twice."
            raise FieldError("env_params", "name each parameter once", name, sentence)
        changes[name] = _parameter(name, known[name], text)
    return dataclasses.replace(params, **changes)


def _parameter(name: str, default: Any, text: str) -> Any:
    """The number, as `default` is one."""
    array = np.asarray(default)
    if array.shape != () or array.dtype.kind not in "biuf":
        raise ValueError(f"env_params: {name} must be left alone, for it is no number, but it is {text!r}.")
    if array.dtype.kind == "b":
        if text.lower() not in _FLAGS:
            raise ValueError(f"env_params: {name} must be true or false, but it is {text!r}.")
        return _FLAGS[text.lower()]
    is_whole = array.dtype.kind in "iu"
    low, high = (1 if name == "max_steps_in_episode" else -(2**31), 2**31 - 1) if is_whole else (-_LARGEST, _LARGEST)
    wanted = f"a whole number from {low:,} to {high:,}" if is_whole else "a number that float32 can hold"
    try:
        value = int(text) if is_whole else float(text)
    except ValueError:
        value = math.nan
    vanishes = not is_whole and 0 < abs(value) < _SMALLEST
    if not low <= value <= high or vanishes or (name == "max_steps_in_episode" and value < 1):
        raise ValueError(f"env_params: {name} must be {wanted}, but it is {text!r}.")
    return value


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
      ValueError: the object's `step` returns five values, or its `info` lacks `final_observation`; its trees, shapes
        or numbers are not what they have to be.
      TypeError: its action space is neither Discrete nor Box, or a type is not what it has to be.
    """
    if params is None:
        params = getattr(environment, "default_params", None)
    name = type(environment).__name__
    actions = _action_distribution(environment.action_space(params), box_actions)
    like = jax.eval_shape(lambda: actions.execute(actions.mode(jnp.zeros(actions.num_params))))
    action = jnp.zeros(like.shape, like.dtype)
    takes_fresh = _has_gymnax_own(environment, "step", "reset")
    step = functools.partial(_step_env if takes_fresh else _own_step, environment, params)
    key = jax.random.key(0)
    start = types_of_reset(name, lambda: environment.reset(key, params))
    _check_mask(name, start[0], actions)
    reference = settle_types(name, start, lambda state: step(key, state, action))
    observation, state = reference
    declared = declared_limit(params) or 0
    is_guaranteed = takes_fresh and _is_cut_by_time_alone(environment, params, state, action)
    limit = declared if is_guaranteed and 0 < declared <= MOST_STEPS else None
    return Adapter(
        reset=lambda key: as_types(tuple(environment.reset(key, params)), reference),
        step=functools.partial(_step, step, takes_fresh, reference),
        takes_fresh=takes_fresh,
        encode=encoder(environment.observation_space(params), observation),
        structure=lambda observation: jax.tree.map(_as_float32, split_mask(observation)[0]),
        legal=lambda observation: split_mask(observation)[1],
        actions=actions,
        max_steps=limit,
        patience=limit or max(declared, UNLIMITED_STEPS),
    )


def _has_gymnax_own(environment: Any, *methods: str) -> bool:
    """Whether these methods are those of gymnax's base class, overridden neither by a class nor on the object."""
    kind = type(environment)
    return isinstance(environment, GymnaxEnvironment) and all(
        name not in vars(environment) and getattr(kind, name) is getattr(GymnaxEnvironment, name) for name in methods
    )


def _is_cut_by_time_alone(environment: Any, params: Any, state: Tree, action: Any) -> bool:
    """Whether `truncated` is gymnax's own flag, `time >= max_steps_in_episode`, of a time that counts steps."""
    key = jax.random.key(0)
    return _has_gymnax_own(environment, "is_truncated") and counts_steps(
        lambda: environment.reset(key, params)[1],
        lambda state: environment.step_env(key, state, action, params)[1],
        state,
    )


def _step_env(environment: Any, params: Any, key: Key, state: Tree, action: jax.Array) -> Returned:
    """The step of gymnax up to where it draws a reset anew, which it does on every step."""
    observation, state, reward, terminated, _ = environment.step_env(key, state, action, params)
    truncated = environment.is_truncated(state, params)
    return Returned(observation, state, reward, terminated, truncated, observation)


def _own_step(environment: Any, params: Any, key: Key, state: Tree, action: jax.Array) -> Returned:
    """The environment's own step, which has reset it where an episode ended."""
    name = type(environment).__name__
    result = environment.step(key, state, action, params)
    if len(result) != 6:
        raise ValueError(
            f"{name}.step must return (observation, state, reward, terminated, truncated, info), as gymnax does since "
            f"1.0, but it returns {len(result)} values; one flag for both endings cannot tell a time limit."
        )
    observation, state, reward, terminated, truncated, info = result
    if "final_observation" not in info:
        raise ValueError(
            f"{name}.step must put the observation of the state reached into info['final_observation'], "
            f"but info holds {sorted(map(str, info))}."
        )
    return Returned(observation, state, reward, terminated, truncated, info["final_observation"])


def _step(step, takes_fresh, reference, key, state, action, fresh) -> Step:
    after = step(key, state, action)
    terminated = jnp.asarray(after.terminated)
    truncated = jnp.asarray(after.truncated) & ~terminated
    following = as_types((after.observation, after.state), reference)
    final = as_types(after.final_observation, reference[0])
    if takes_fresh:
        following = _where(terminated | truncated, fresh, following)
    observation, state = following
    return Step(observation, state, jnp.asarray(after.reward, jnp.float32), terminated, truncated, final)


def _check_mask(name: str, observation: Tree, actions: ActionDistribution) -> None:
    mask = split_mask(observation)[1]
    if mask is None:
        return
    if not isinstance(actions, Categorical):
        raise TypeError(f"action_mask is for Discrete actions, but those of {name} are of a Box.")
    if mask.shape != (actions.num_actions,):
        raise ValueError(
            f"action_mask of {name} must have a flag for each action, [{actions.num_actions}], but its shape is "
            f"{list(mask.shape)}."
        )


def _action_distribution(space: Any, box_actions: Literal["tanh", "clip"]) -> ActionDistribution:
    if hasattr(space, "n") and not hasattr(space, "low"):
        if getattr(space, "shape", ()) != () or getattr(space, "start", 0) != 0 or not int(space.n) >= 1:
            raise ValueError(f"A Discrete action space must be one of {{0, …, n − 1}} with n ≥ 1, but it is {space!r}.")
        return Categorical(int(space.n))
    if not hasattr(space, "low") or not jnp.issubdtype(getattr(space, "dtype", jnp.float32), jnp.floating):
        raise TypeError(f"The action space must be Discrete or Box of real numbers, but it is {space!r}.")
    shape = tuple(space.shape)
    if math.prod(shape) == 0:
        raise ValueError(f"A Box of actions must have at least one dimension, but it is {space!r}.")
    try:
        with np.errstate(over="ignore"):  # a bound that float32 does not hold is infinity
            low, high = (np.broadcast_to(np.asarray(x, np.float32), shape).ravel() for x in (space.low, space.high))
    except ValueError:
        raise ValueError(
            f"Bounds of a Box must have its shape, {list(shape)}, but theirs are {list(np.shape(space.low))} and "
            f"{list(np.shape(space.high))}."
        ) from None
    if np.all(np.isneginf(low) & np.isposinf(high)):
        return Gaussian(shape, None, None, into=box_actions)
    return Gaussian(shape, tuple(low.tolist()), tuple(high.tolist()), into=box_actions)


def _as_float32(x: jax.Array) -> jax.Array:
    return x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x


def _where(condition: jax.Array, yes: Tree, no: Tree) -> Tree:
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), yes, no)
