"""The fields of `Config` and `Hyper` as a command line has them: by name, as a flag, with values in text."""

import dataclasses
import difflib
import typing
from collections.abc import Sequence
from typing import Any, Literal

from isjax._renamed import SETTINGS, present
from isjax.errors import FieldError
from isjax.learner.config import Config, Hyper

CONFIG_FIELDS = {
    field.name: kind
    for field, kind in zip(dataclasses.fields(Config), typing.get_type_hints(Config).values(), strict=True)
}
HYPER_FIELDS = tuple(field.name for field in dataclasses.fields(Hyper))


def present_values(name: str, values: Sequence[Any]) -> tuple[str, list[Any]]:
    """A setting and values of it, by the name and the values that it has now if it was called otherwise before.

    >>> present_values("towers", ["shared", "separate"]), present_values("torso", ["64"])
    (('share_torso', [True, False]), ('torso', ['64']))
    """
    former = name.strip().replace("-", "_")
    if former not in SETTINGS:
        return name, list(values)
    return SETTINGS[former][0], [x for value in values for x in present({former: value}).values()]


def check_name(name: str, flag: str) -> str:
    """The field that a sweep may vary or draw by this name.

    Raises:
      ValueError: there is none.
    """
    name = name.strip().replace("-", "_")
    name = "lambda_" if name == "lambda" else name
    if name in ("learners", "seed"):
        sentence = "{field} cannot take {value}: {rule}; their number is {learners}."
        raise FieldError(flag, "every setting has the same learners, each a seed of its own", name, sentence)
    if name not in CONFIG_FIELDS and name not in HYPER_FIELDS:
        near = difflib.get_close_matches(name, [*CONFIG_FIELDS, *HYPER_FIELDS], n=2)
        hint = f"; did you mean {' or '.join(near)}?" if near else "."
        raise FieldError(
            flag, "name a field of Config or Hyper", f"{name!r}{hint}", "{field} must {rule}, but it is {value}"
        )
    return name


def read_value(name: str, text: str) -> Any:
    """A value of a field, as a command line gives it; widths of `torso` are joined by x."""
    if name in HYPER_FIELDS:
        return _number(float, name, text)
    kind = CONFIG_FIELDS[name]
    if typing.get_origin(kind) is Literal:
        if text not in typing.get_args(kind):
            raise FieldError(name, f"one of {', '.join(typing.get_args(kind))}", repr(text))
        return text
    if kind is bool:
        if text not in ("true", "false"):
            raise FieldError(name, "true or false", repr(text))
        return text == "true"
    if typing.get_origin(kind) is tuple:
        if typing.get_args(kind)[0] is int:
            return tuple(_number(int, name, width) for width in text.split("x"))
        return tuple(text.split("+"))
    return text if kind is str else _number(kind, name, text)


def as_text(x: Any) -> str:
    """A value as `read_value` reads it."""
    if isinstance(x, bool):
        return str(x).lower()
    if isinstance(x, tuple | list):
        return ("x" if all(isinstance(each, int) for each in x) else "+").join(str(each) for each in x)
    return f"{x:g}" if isinstance(x, float) and float(f"{x:g}") == x else str(x)


def flag_of(name: str) -> str:
    """The flag of a field.

    >>> flag_of("lambda_"), flag_of("num_envs")
    ('--lambda', '--num-envs')
    """
    return "--" + name.rstrip("_").replace("_", "-")


def switch_of(name: str, is_on: bool) -> str:
    """The flag that switches a field on or off."""
    return flag_of(name) if is_on else flag_of(name).replace("--", "--no-", 1)


def _number(kind: type, name: str, text: str) -> Any:
    try:
        return read_number(kind, text)
    except ValueError as error:
        raise FieldError(name, str(error), repr(text)) from None


def read_number(kind: type, text: str) -> Any:
    """A whole number of 64 bits, or a number that is one.

    Raises:
      ValueError: it is not; the message is what it must be.
    """
    rule = "a whole number" if kind is int else "a number"
    try:
        x = kind(text)
    except ValueError:
        raise ValueError(rule) from None
    if isinstance(x, int) and not -(2**63) <= x < 2**63:
        raise ValueError("a whole number of at most 64 bits")
    if x != x:
        raise ValueError(rule)
    return x
