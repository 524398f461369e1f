"""Checks of single settings: their types, and sizes that no device can count to."""

import math
import typing
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from isjax.errors import FieldError

LIMIT = 2**31
"""What is counted on a device has to stay below: its integers have 32 bits."""


def check_sizes(config: Any, counts: Sequence[str]) -> None:
    """Raises `ValueError` for numbers that no device can count to, or that would come to nothing.

    Args:
      config: a `Config`.
      counts: its fields that count something.
    """
    for name in counts:
        require(getattr(config, name) < LIMIT, name, getattr(config, name), "less than 2^31")
    for width, following in pairwise((1, *config.torso, 1)):
        require(width * following < LIMIT, "torso", config.torso, "layers of fewer than 2^31 weights")
    rows = f"so small that num_envs · unroll_length, here {config.steps_per_update}, is less than 2^31"
    require(config.steps_per_update < LIMIT, "num_envs", config.num_envs, rows)
    updates = f"less than 2^31 updates of num_envs · unroll_length = {config.steps_per_update} steps"
    require(config.updates < LIMIT, "steps", config.steps, updates)
    steps = "so few that epochs · minibatches is less than 2^31"
    require(config.epochs * config.minibatches < LIMIT, "epochs", config.epochs, steps)
    if config.replay_fraction:
        least, most = 1 / (config.num_envs * 2 + 1), config.replay_size / (config.replay_size + 1)
        some = f"above {least:.3g} to come to an environment beside {config.num_envs}"
        require(config.replayed_envs > 0, "replay_fraction", config.replay_fraction, some)
        stored = f"at most {most:.6g} to ask for no more than replay_size = {config.replay_size} unrolls hold"
        is_stored = config.replayed_envs <= config.replay_size * config.num_envs
        require(is_stored, "replay_fraction", config.replay_fraction, stored)
        held = "so small that it holds fewer than 2^31 steps"
        require(config.replay_size * config.steps_per_update < LIMIT, "replay_size", config.replay_size, held)


def typed(name: str, kind: Any, value: Any) -> Any:
    """A setting in the type of its field: NumPy's numbers are numbers, a list is a tuple.

    Raises:
      ValueError: it is anything else.
    """
    choices = typing.get_args(kind)
    if typing.get_origin(kind) is Literal:
        require(isinstance(value, str) and value in choices, name, repr(value), f"one of {', '.join(choices)}")
        return value
    if typing.get_origin(kind) is tuple:
        each = "whole numbers" if choices[0] is int else "texts"
        require(isinstance(value, tuple | list), name, repr(value), f"a tuple of {each}")
        return tuple(typed(name, choices[0], x) for x in value)
    types, allowed = {
        bool: ((bool, np.bool_), "true or false"),
        int: ((int, np.integer), "a whole number"),
        float: ((int, float, np.integer, np.floating), "a number"),
        str: ((str,), "a text"),
    }[kind]
    is_bool = isinstance(value, bool | np.bool_)
    fits = isinstance(value, types) and is_bool == (kind is bool)
    require(fits and not (kind is float and not math.isfinite(value)), name, repr(value), allowed)
    return kind(value)


def numbers(name: str, value: Any) -> Any:
    """What a field of `Hyper` holds, as an array or traced; raises `ValueError` for what is not real numbers."""
    try:
        x = value if isinstance(value, jax.Array) else np.asarray(value)
    except ValueError:  # a list of lists of different lengths
        x = np.asarray("")
    is_real = jnp.issubdtype(x.dtype, jnp.integer) or jnp.issubdtype(x.dtype, jnp.floating)
    require(is_real, name, repr(value), "a number, or an array [L] of numbers")
    return x


def require(holds: bool, name: str, value: object, allowed: str) -> None:
    """Raises `ValueError` that names field, value and what is allowed, unless the rule holds."""
    if not holds:
        shown = f"{value}"
        raise FieldError(name, allowed, shown if len(shown) <= 80 else f"{shown[:77]}…")
