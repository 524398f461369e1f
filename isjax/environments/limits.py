"""Time limits that an environment cannot break: counted beside it, or proved from what it computes.

A declared `max_steps_in_episode` is a number; what cuts an episode is the flag `truncated`. gymnax's own flag is
`state.time >= max_steps_in_episode`: it bounds episodes where `time` starts at 0 and grows by 1 with every step.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from isjax.environments.api import Step
from isjax.types import Key, Tree

_SAME = ("stop_gradient", "convert_element_type", "copy", "broadcast_in_dim", "reshape", "squeeze")
"""Primitives that leave a scalar what it is."""
MOST_STEPS = 2**24
"""Up to which a counter in float32 counts."""


class Limited(NamedTuple):
    """The state of an environment, and how long its episode has lasted."""

    state: Tree
    steps: jax.Array
    """`[]` int32."""


def check_limit(name: str, limit: Any, *, resets_itself: bool) -> None:
    """Raises `ValueError` for a limit at which episodes of the environment `name` cannot be cut."""
    if isinstance(limit, bool) or not isinstance(limit, int | np.integer) or not 1 <= limit < 2**31:
        raise ValueError(f"max_steps of {name} must be None or a whole number from 1 to 2^31 − 1, but it is {limit!r}.")
    if resets_itself:
        raise ValueError(f"max_steps of {name} must be None where its own step resets it, but it is {limit}.")


def limited_reset(reset: Callable[[Key], tuple[Tree, Tree]]) -> Callable[[Key], tuple[Tree, Limited]]:
    """The reset of an environment whose episodes are cut."""

    def start(key: Key) -> tuple[Tree, Limited]:
        observation, state = reset(key)
        return observation, Limited(state, jnp.zeros((), jnp.int32))

    return start


def limited_step(step: Callable[[Key, Tree, jax.Array], Step], limit: int) -> Callable[[Key, Limited, jax.Array], Step]:
    """The step of an environment whose episodes are cut after `limit` steps, unless they terminate there."""

    def advance(key: Key, limited: Limited, action: jax.Array) -> Step:
        after, steps = step(key, limited.state, action), limited.steps + 1
        truncated = (after.truncated | (steps >= limit)) & ~after.terminated
        return after._replace(state=Limited(after.state, steps), truncated=truncated)

    return advance


def limited_draw(draw: Callable[..., None]) -> Callable[[Sequence[Limited], Any, Path], None]:
    """`Environment.draw` for the states of an environment whose episodes are cut."""
    return lambda states, returns, path: draw([limited.state for limited in states], returns, path)


def declared_limit(params: Any) -> int | None:
    """Steps until `state.time >= max_steps_in_episode`, counted from 0; `None` if that is not a number, or none."""
    try:
        limit = float(getattr(params, "max_steps_in_episode", math.nan))
    except TypeError:  # not one number, or one that is traced
        return None
    return max(1, math.ceil(limit)) if math.isfinite(limit) and limit < 2**31 else None


def counts_steps(reset: Callable[[], Tree], step: Callable[[Tree], Tree], state: Tree) -> bool:
    """Whether `state.time` is 0 after every reset and grows by 1 with every step, whatever else happens.

    Args:
      reset: `() → state`.
      step: `state → state`.
      state: one of the states, or its shapes.
    """
    time = getattr(state, "time", None)
    if not hasattr(state, "replace") or not _counts(time):
        return False
    after = jax.make_jaxpr(lambda time, state: step(state.replace(time=time)).time)(time, state)
    start = jax.make_jaxpr(lambda: reset().time)()
    return _shift(after, 0) == (0, 1) and _shift(start, 0) == (None, 0)


def _counts(time: Any) -> bool:
    """Whether it is a number that does not overflow on the way to a limit."""
    dtype = getattr(time, "dtype", None)
    return dtype is not None and time.shape == () and dtype.kind in "iuf" and dtype.itemsize >= 4


def _shift(closed: ClosedJaxpr, output: int) -> tuple[int | None, float] | None:
    """`(i, n)` if an output is always input `i` plus n, `(None, n)` if it is always n, `None` if neither is known."""
    jaxpr = closed.jaxpr
    consts = dict(zip(jaxpr.constvars, closed.consts, strict=True))

    def of(atom: Any) -> tuple[int | None, float] | None:
        if isinstance(atom, Literal) or atom in consts:
            value = atom.val if isinstance(atom, Literal) else consts[atom]
            return (None, float(value)) if np.shape(value) == () else None
        if atom in jaxpr.invars:
            return jaxpr.invars.index(atom), 0.0
        equation = next(equation for equation in jaxpr.eqns if atom in equation.outvars)
        name, inner = equation.primitive.name, equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
        if name in _SAME and atom.aval.shape == () and _counts(atom.aval):
            return of(equation.invars[0])
        if name == "add":
            return _sum(*(of(x) for x in equation.invars))
        if name in ("jit", "pjit", "closed_call", "custom_jvp_call") and isinstance(inner, ClosedJaxpr):
            found = _shift(inner, equation.outvars.index(atom))
            return found if found is None or found[0] is None else _sum(of(equation.invars[found[0]]), (None, found[1]))
        return None

    return of(jaxpr.outvars[output])


def _sum(one: Any, other: Any) -> tuple[int | None, float] | None:
    if one is None or other is None or (one[0] is not None and other[0] is not None):
        return None
    return (other[0] if one[0] is None else one[0]), one[1] + other[1]
