"""The fields of `Config` and `Hyper` as a command line has them: by name, as a flag, with values in text."""

import dataclasses
import difflib
import typing
from typing import Any, Literal

from isjax.errors import FieldError
from isjax.learner.config import Config, Hyper
from isjax.run.names import read_number

CONFIG_FIELDS = {
    field.name: kind
    for field, kind in zip(dataclasses.fields(Config), typing.get_type_hints(Config).values(), strict=True)
}
HYPER_FIELDS = tuple(field.name for field in dataclasses.fields(Hyper))


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


def _number(kind: type, name: str, text: str) -> Any:
    try:
        return read_number(kind, text)
    except ValueError as error:
        raise FieldError(name, str(error), repr(text)) from None
