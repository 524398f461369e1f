"""What an environment's functions return is checked once, when a learner is built, from shapes alone."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from isjax.environments.api import Step
from isjax.types import Tree


def types_of_reset(name: str, reset: Callable[[], Any]) -> tuple[Tree, Tree]:
    """Shapes and types `(observation, state)` that a reset gives.

    Raises:
      ValueError: it gives something else.
    """
    found = jax.eval_shape(reset)
    if not (isinstance(found, tuple | list) and len(found) == 2):
        raise ValueError(f"{name}.reset must return (observation, state), but it returns {_shown(found)}.")
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tuple(found))


def as_step(name: str, returned: Any) -> Step:
    """What a step returned; raises `TypeError` unless it is a `Step`."""
    if not isinstance(returned, Step):
        raise TypeError(
            f"{name}.step must return an isjax.environments.Step, but it returns a {type(returned).__name__}."
        )
    return returned


def settle_types(name: str, reference: tuple[Tree, Tree], step: Callable[[Tree], Step]) -> tuple[Tree, Tree]:
    """Shapes and types `(observation, state)` that hold after a reset and after any step.

    Environments build states from Python numbers: where a reset and a step differ in type alone, both become the type
    that holds either, as a scan needs it.

    Args:
      name: of the environment.
      reference: `types_of_reset`.
      step: from a state.

    Raises:
      ValueError: a step gives trees or shapes other than a reset's, or anything but one number for the reward.
      TypeError: types differ that have nothing in common, or an ending is not boolean.
    """
    while True:
        after = jax.eval_shape(step, reference[1])
        observation, state = reference
        if after.following is not None:
            observation = _common(f"{name}.step", "observation", observation, after.following[0])
            state = _common(f"{name}.step", "state", state, after.following[1])
        reached = "observation" if after.following is None else "final observation"
        observation = _common(f"{name}.step", reached, observation, after.observation)
        settled = observation, _common(f"{name}.step", "state", state, after.state)
        if jax.tree.leaves(settled) == jax.tree.leaves(reference):
            break
        reference = settled
    _check_reward(name, after.reward)
    for flag in ("terminated", "truncated"):
        _check_flag(name, flag, getattr(after, flag))
    return reference


def as_types(tree: Tree, reference: Tree) -> Tree:
    """The same numbers in the types of `reference`."""
    return jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), tree, reference)


def _common(who: str, what: str, one: Tree, other: Tree) -> Tree:
    if jax.tree.structure(one) != jax.tree.structure(other):
        raise ValueError(
            f"{who} must return the tree that reset returns as its {what}, {_shown(one)}, but it is {_shown(other)}."
        )

    def common(path: Any, x: Any, y: Any) -> Any:
        where = what + jax.tree_util.keystr(path)
        if x.shape != y.shape:
            raise ValueError(
                f"{who} must return the shape of reset as its {where}, {list(x.shape)}, but it is {list(y.shape)}."
            )
        try:
            dtype = x.dtype if x.dtype == y.dtype else jnp.promote_types(x.dtype, y.dtype)
        except TypeError:
            raise TypeError(
                f"{who} must return the type of reset as its {where}, {x.dtype}, but it is {y.dtype}."
            ) from None
        return jax.ShapeDtypeStruct(x.shape, dtype)

    return jax.tree.map_with_path(common, one, other)


def _check_reward(name: str, reward: Any) -> None:
    if reward.shape != ():
        raise ValueError(f"{name}.step must return one number as its reward, but its shape is {list(reward.shape)}.")
    if not (jnp.issubdtype(reward.dtype, jnp.number) or reward.dtype == bool) or jnp.issubdtype(
        reward.dtype, jnp.complexfloating
    ):
        raise TypeError(f"{name}.step must return a real number as its reward, but its type is {reward.dtype}.")


def _check_flag(name: str, what: str, flag: Any) -> None:
    if flag.shape != ():
        raise ValueError(f"{name}.step must return one flag as {what}, but its shape is {list(flag.shape)}.")
    if flag.dtype != bool:
        raise TypeError(f"{name}.step must return {what} as a boolean, but its type is {flag.dtype}.")


def _shown(tree: Tree) -> str:
    """A tree with shapes for leaves, on one short line."""
    text = str(jax.tree.map(lambda x: list(x.shape), tree)).replace("\n", " ")
    return text if len(text) <= 80 else text[:79] + "…"
