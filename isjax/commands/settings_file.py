"""The TOML file of a sweep: every flag's name with underscores, and the tables [vary] and [draw]."""

import dataclasses
import difflib
import math
import tomllib
import typing
from pathlib import Path
from typing import Any, Literal

import jax

from isjax.commands.flags import BadArguments, kinds_of
from isjax.errors import FieldError
from isjax.run.fields import CONFIG_FIELDS, HYPER_FIELDS, check_name
from isjax.run.names import present_values, read_number
from isjax.run.settings import Draw

DRAW = {"scale", "low", "high"}


@dataclasses.dataclass(frozen=True)
class File:
    """What a file says, each value of the type that its field has."""

    flags: dict[str, Any] = dataclasses.field(default_factory=dict)
    vary: dict[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    draw: dict[str, Draw] = dataclasses.field(default_factory=dict)


def read_file(path: str, kind: type) -> File:
    """Reads a file whose names are the fields of `kind`.

    Raises:
      BadArguments: it cannot be read, or says something that is no setting.
    """
    try:
        found = tomllib.loads(Path(path).read_bytes().decode())
        tables = {name: found.pop(name, {}) for name in ("vary", "draw")}
        for name, table in tables.items():
            if not isinstance(table, dict):
                raise FieldError(name, f"a table, [{name}]", _shown(table))
        kinds = {name: x for name, x in kinds_of(kind).items() if name not in ("vary", "draw", "file")}
        flags: dict[str, Any] = {}
        for given, x in found.items():
            now, [x] = present_values(given, [x])
            name = _known(now, kinds)
            if name in flags:
                raise FieldError(name, "there once", given, "{value} must be {rule}, but it is there twice.")
            flags[name] = typed(given, kinds[name], x)
        return File(flags, _vary(tables["vary"]), _draw(tables["draw"]))
    except UnicodeDecodeError as error:
        raise BadArguments(f"--file cannot be read: {path} is not UTF-8 text: {error.reason}.") from error
    except (OSError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadArguments(f"--file cannot be read: {error or 'it is nested too deeply'}") from error
    except ValueError as error:
        raise BadArguments(f"--file: {error}") from error


def typed(name: str, kind: Any, x: Any) -> Any:
    """A value of TOML as a field of this kind has it; text is read as on a command line.

    Raises:
      ValueError: it is of another type.

    >>> typed("torso", tuple[int, ...], [64, 64]), typed("learning_rate", float, "1e-3"), typed("quiet", bool, False)
    ((64, 64), 0.001, False)
    """
    if kind is bool and isinstance(x, bool):
        return x
    if kind in (int, float, float | jax.Array) and not isinstance(x, bool):
        number = int if kind is int else float
        try:
            if isinstance(x, str | int | number):
                return read_number(number, x if isinstance(x, str) else repr(x))
        except ValueError as error:
            raise FieldError(name, str(error), _shown(x)) from None
    if kind is str and isinstance(x, str):
        return x
    if typing.get_origin(kind) is Literal and x in typing.get_args(kind) and isinstance(x, str):
        return x
    if typing.get_origin(kind) is tuple and isinstance(x, list):
        return tuple(typed(name, typing.get_args(kind)[0], each) for each in x)
    raise FieldError(name, _allowed(kind), _shown(x))


def _allowed(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return f"one of {', '.join(typing.get_args(kind))}"
    if typing.get_origin(kind) is tuple:
        return "a list of whole numbers" if typing.get_args(kind)[0] is int else "a list of texts"
    return {bool: "true or false", int: "a whole number", str: "a text"}.get(kind, "a number")


def _known(given: str, kinds: dict[str, Any]) -> str:
    """The field of this name; lambda may go without the underscore that Python needs."""
    name = given.replace("-", "_")
    name = "lambda_" if name == "lambda" else name
    if name not in kinds:
        near = difflib.get_close_matches(name, [*kinds, "vary", "draw"], n=2)
        hint = f"; did you mean {' or '.join(x.rstrip('_') for x in near)}?" if near else "."
        raise ValueError(f"there is no setting {_shown(given)}{hint}")
    return name


def _vary(table: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    found: dict[str, tuple[Any, ...]] = {}
    for given, values in table.items():
        if not isinstance(values, list) or not values:
            raise FieldError(f"vary.{given}", "a list of values", _shown(values))
        name, values = present_values(given, values)
        name = check_name(name, "vary")
        if name in found:
            raise FieldError("vary", "name each field once", name, "{field} must {rule}, but {value} is there twice.")
        kind = float if name in HYPER_FIELDS else CONFIG_FIELDS[name]
        read = tuple(typed(f"vary.{given}", kind, x) for x in values)
        if len(set(read)) < len(read):
            raise FieldError(f"vary.{given}", "a list of different values", _shown(values))
        found[name] = read
    return found


def _draw(table: dict[str, Any]) -> dict[str, Draw]:
    found: dict[str, Draw] = {}
    for given, x in table.items():
        name = check_name(given, "draw")
        if name not in HYPER_FIELDS:
            raise ValueError(f"draw cannot take {name}: every value of it is a program of its own; vary can.")
        if not isinstance(x, dict) or set(x) != DRAW:
            raise FieldError(f"draw.{given}", "{scale, low, high}", _shown(x))
        if name in found:
            raise FieldError("draw", "name each field once", name, "{field} must {rule}, but {value} is there twice.")
        low, high = (typed(f"draw.{given}.{end}", float, x[end]) for end in ("low", "high"))
        scale = typed(f"draw.{given}.scale", Literal["uniform", "log"], x["scale"])
        if not -math.inf < low < high < math.inf or (scale == "log" and low <= 0):
            rule = "from a low to a higher end, both finite, and above 0 on a log scale"
            raise FieldError(f"draw.{given}", rule, f"from {low:g} to {high:g}")
        found[name] = Draw(scale, low, high)
    return found


def _shown(x: Any) -> str:
    """A value as it is in a message, not too long."""
    text = str(x).lower() if isinstance(x, bool) else repr(x) if isinstance(x, str | list | dict) else str(x)
    return text if len(text) <= 60 else f"{text[:57]}…"
