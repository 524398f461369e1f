"""Parameters of environments as texts: `NAME=VALUE` in place of a default, which is a number, a flag or a word."""

import dataclasses
import difflib
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from isjax.errors import FieldError

T = TypeVar("T")
LIMITS = ("max_steps_in_episode", "max_steps", "max_timesteps", "episode_length", "time_limit")
"""Names of parameters that count steps, of which there must be one."""
_OF = "{field}: NAME must be {rule}, but it is {value}."
_FLAGS = {"true": True, "1": True, "false": False, "0": False}
_SMALLEST, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


def overridden(params: T, overrides: tuple[str, ...]) -> T:
    """The parameters with those changed that overrides name.

    Args:
      params: a dataclass; anything if there are no overrides.
      overrides: `NAME=VALUE` each.

    Raises:
      ValueError: no such parameter, or a text that is not such a value.
    """
    if not overrides:
        return params
    fields = dataclasses.fields(params) if dataclasses.is_dataclass(params) else ()  # type: ignore[arg-type]
    known = {field.name: getattr(params, field.name) for field in fields}
    return dataclasses.replace(params, **changes(known, overrides))  # type: ignore[type-var]


def scalars_of(params: Any) -> dict[str, Any]:
    """The fields of a dataclass that texts can name: numbers, flags and words."""
    found = {field.name: getattr(params, field.name) for field in dataclasses.fields(params)}
    return {name: x for name, x in found.items() if isinstance(x, str) or np.asarray(x).dtype.kind in "biuf"}


def defaults_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The arguments of a function that texts can name: those whose default is a number, a flag or a word."""
    parameters = inspect.signature(function).parameters
    return {name: x.default for name, x in parameters.items() if isinstance(x.default, bool | int | float | str)}


def changes(
    known: Mapping[str, Any], overrides: tuple[str, ...], words: Mapping[str, tuple[str, ...]] | None = None
) -> dict[str, Any]:
    """The parameters that overrides name, as their defaults are: numbers, flags or words.

    Args:
      known: all parameters, with their defaults.
      overrides: `NAME=VALUE` each.
      words: what each parameter that is a word may be, where it may not be any.

    Raises:
      ValueError: no such parameter, or a text that is not such a value.
    """
    if overrides and not known:
        raise FieldError("env_params", "left alone where there are no parameters", " ".join(overrides))
    kind = "VALUE" if any(isinstance(x, str) for x in known.values()) else "NUMBER"
    found: dict[str, Any] = {}
    for override in overrides:
        name, equals, text = override.partition("=")
        if name not in known or not equals:
            near = difflib.get_close_matches(name, known, n=1) or [next(iter(known))]
            value = f"{override!r}; an example is {near[0]}={known[near[0]]}"
            rule = f"NAME={kind} with NAME one of {', '.join(known)}"
            raise FieldError("env_params", rule, value, "{field} must be {rule}, but one is {value}.")
        if name in found:
            sentence = "{field} must {rule}, but {value} is there twice."
            raise FieldError("env_params", "name each parameter once", name, sentence)
        is_word = isinstance(known[name], str)
        found[name] = _word(name, text, (words or {}).get(name)) if is_word else _parameter(name, known[name], text)
    return found


def _word(name: str, text: str, allowed: tuple[str, ...] | None) -> str:
    if not text or (allowed and text not in allowed):
        rule = f"one of {', '.join(allowed)}" if allowed else "a word"
        raise FieldError("env_params", rule, repr(text), _OF.replace("NAME", name))
    return text


def _parameter(name: str, default: Any, text: str) -> Any:
    """The number, as `default` is one."""
    array = np.asarray(default)
    if array.shape != () or array.dtype.kind not in "biuf":
        raise FieldError("env_params", "left alone, for it is no number", repr(text), _OF.replace("NAME", name))
    if array.dtype.kind == "b":
        if text.lower() not in _FLAGS:
            raise FieldError("env_params", "true or false", repr(text), _OF.replace("NAME", name))
        return _FLAGS[text.lower()]
    is_whole = array.dtype.kind in "iu"
    low, high = (1 if name in LIMITS else -(2**31), 2**31 - 1) if is_whole else (-_LARGEST, _LARGEST)
    wanted = f"a whole number from {low:,} to {high:,}" if is_whole else "a number that float32 can hold"
    try:
        value = int(text) if is_whole else float(text)
    except ValueError:
        value = math.nan
    vanishes = not is_whole and 0 < abs(value) < _SMALLEST
    if not low <= value <= high or vanishes or (name in LIMITS and value < 1):
        raise FieldError("env_params", wanted, repr(text), _OF.replace("NAME", name))
    return value
