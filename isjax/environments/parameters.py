"""Parameters of environments as texts: `NAME=NUMBER` in place of a dataclass's default."""

import dataclasses
import difflib
import math
from typing import Any, TypeVar

import numpy as np

from isjax.errors import FieldError

T = TypeVar("T")
LIMITS = ("max_steps_in_episode", "max_steps")
"""Names of parameters that count steps, of which there must be one."""
_OF = "{field}: NAME must be {rule}, but it is {value}."
_FLAGS = {"true": True, "1": True, "false": False, "0": False}
_SMALLEST, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


def overridden(params: T, overrides: tuple[str, ...]) -> T:
    """The parameters with those changed that overrides name.

    Args:
      params: a dataclass; anything if there are no overrides.
      overrides: `NAME=NUMBER` each.

    Raises:
      ValueError: no such parameter, or a text that is not such a number.
    """
    if not overrides:
        return params
    fields = dataclasses.fields(params) if dataclasses.is_dataclass(params) else ()  # type: ignore[arg-type]
    known = {field.name: getattr(params, field.name) for field in fields}
    if not known:
        raise FieldError("env_params", "left alone where there are no parameters", " ".join(overrides))
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
    return dataclasses.replace(params, **changes)  # type: ignore[type-var]


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
