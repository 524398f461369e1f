"""Dataclasses as flags: `tyro.cli`, with every complaint in one line."""

import contextlib
import dataclasses
import difflib
import io
import itertools
import re
import typing
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import jax
import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

T = TypeVar("T")


class BadArguments(Exception):
    """One line about what the user gave, and what is allowed."""


def parse(kind: type[T], argv: list[str], *, prog: str, default: T | None = None) -> T:
    """The arguments as a `kind`, fields of nested dataclasses being flags without a prefix.

    Raises:
      BadArguments: they are not.
      SystemExit: `--help` was answered.
    """
    complaint = io.StringIO()
    options: dict[str, Any] = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(complaint):
            result, unknown = tyro.cli(
                kind,
                prog=prog,
                args=argv,
                return_unknown_args=True,
                registry=_registry(),
                config=(tyro.conf.OmitArgPrefixes,),
                **options,
            )
    except SystemExit as stop:
        if stop.code:
            raise BadArguments(in_flags(_unboxed(complaint.getvalue()), kind)) from None
        raise
    if unknown:
        raise BadArguments(_unknown(unknown[0], kind))
    return result


def in_flags(message: str, kind: type) -> str:
    """A message that names fields, in terms of flags: its first word, and words that can be nothing else."""
    fields = _fields(kind)
    first, _, rest = message.partition(" ")
    if first in fields:
        message = f"{_flag(first)} {rest}"

    def as_flag(found: re.Match[str]) -> str:
        return _flag(found[0]) if found[0] in fields else found[0]

    return re.sub(r"(?<![\w'-])[a-z]+(_[a-z]*)+", as_flag, message)


def peek(argv: list[str], flag: str) -> str | None:
    """The value of a flag before the arguments are parsed for good; the last one counts."""
    found = None
    for token, after in itertools.zip_longest(argv, argv[1:]):
        name, equals, value = token.partition("=")
        if name == flag:
            found = value if equals else after
    return found


def _registry() -> ConstructorRegistry:
    """How values are read, with complaints that say what was given and what is allowed."""
    registry = ConstructorRegistry()

    @registry.primitive_rule
    def rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        if info.type is int:
            return _one(int, "INT", "a whole number")
        if info.type in (float, float | jax.Array):
            return _one(float, "FLOAT", "a number")
        if typing.get_origin(info.type) is Literal:
            choices = typing.get_args(info.type)
            return _one({x: x for x in choices}.__getitem__, f"{{{','.join(choices)}}}", f"one of {', '.join(choices)}")
        if typing.get_origin(info.type) is tuple:
            return _integers() if typing.get_args(info.type)[0] is int else _names()
        return None

    return registry


def _one(read: Callable[[str], Any], metavar: str, allowed: str) -> PrimitiveConstructorSpec[Any]:
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda texts: _read(read, texts[0], allowed),
        is_instance=lambda x: isinstance(x, str | int | float),
        str_from_instance=lambda x: [f"{x:.12g}" if isinstance(x, float) else str(x)],
    )


def _integers() -> PrimitiveConstructorSpec[Any]:
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar="[INT ...]",
        instance_from_str=lambda texts: tuple(_read(int, text, "whole numbers") for text in texts),
        is_instance=lambda x: isinstance(x, tuple),
        str_from_instance=lambda x: [str(value) for value in x],
    )


def _names() -> PrimitiveConstructorSpec[Any]:
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar="[NAME ...]",
        instance_from_str=lambda texts: tuple(name for text in texts for name in text.split(",") if name),
        is_instance=lambda x: isinstance(x, tuple),
        str_from_instance=list,
    )


def _read(read: Callable[[str], Any], text: str, allowed: str) -> Any:
    try:
        return read(text)
    except (ValueError, KeyError):
        raise ValueError(f"must be {allowed}, but it is {text!r}.") from None


def _unboxed(text: str) -> str:
    """What tyro prints between its title and the next rule, in a box or in plain characters, on one line."""
    lines = [line.strip("│ ") for line in text.splitlines()[1:]]
    start = 1 if lines and _is_rule(lines[0]) else 0
    end = next((i for i, line in enumerate(lines) if i > start and _is_rule(line)), len(lines))
    line = " ".join(lines[start:end]).strip()
    line = re.sub(r"^Missing from [^:]+: (\S+).*", r"\1 is missing.", line)
    line = re.sub(r"^Missing value for argument '(--\S+)'.*", r"\1 needs a value.", line)
    return re.sub(r"^Error parsing (?:(--\S+)|\S+):", lambda found: found[1] or "", line).strip()


def _is_rule(line: str) -> bool:
    return set(line) <= set("─-╰╯")


def _unknown(token: str, kind: type) -> str:
    if not token.startswith("-"):
        return f"there is no place for the argument {token!r}."
    near = difflib.get_close_matches(token.partition("=")[0], [_flag(name) for name in _fields(kind)], n=2)
    return f"there is no option {token}" + (f"; did you mean {' or '.join(near)}?" if near else ".")


def _fields(kind: Any) -> list[str]:
    """Names of all fields, those of nested dataclasses in place of the field that holds them."""
    return [
        name
        for field in dataclasses.fields(kind)
        for name in (_fields(field.type) if dataclasses.is_dataclass(field.type) else [field.name])
    ]


def _flag(name: str) -> str:
    return "--" + name.rstrip("_").replace("_", "-")
