"""Dataclasses as flags: `tyro.cli`, with every complaint in one line."""

import contextlib
import dataclasses
import difflib
import functools
import io
import itertools
import os
import re
import sys
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, TypeVar

import jax
import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from isjax._renamed import SETTINGS
from isjax.commands.output import BadArguments
from isjax.commands.pages import with_page
from isjax.errors import FieldError
from isjax.run.names import flag_of, present_values, read_number, switch_of

T = TypeVar("T")


def parse(kind: type[T], argv: list[str], *, prog: str, default: T | None = None) -> T:
    """The arguments as a `kind`, fields of nested dataclasses being flags without a prefix.

    Raises:
      BadArguments: they are not.
      SystemExit: `--help` was answered.
    """
    complaint = io.StringIO()
    options: dict[str, Any] = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(complaint), _wide(argv):
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
            raise BadArguments(_reason(stop, kind) or _unboxed(complaint.getvalue())) from None
        raise
    if unknown:
        raise BadArguments(_unknown(unknown[0], kind))
    _tell_repeated(argv, kind)
    return result


def present_flags(argv: list[str]) -> list[str]:
    """The arguments with flags as they are called now; says so of those that were called otherwise before.

    Raises:
      BadArguments: such a flag has a value that it never took.

    >>> present_flags(["--towers", "separate", "--learners", "2"])
    ['--no-share-torso', '--learners', '2']
    """
    found, rest = [], iter(argv)
    for token in rest:
        flag, equals, value = token.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if name not in SETTINGS or not flag.startswith("--"):
            found.append(token)
            continue
        try:
            now, [is_on] = present_values(name, [value if equals else next(rest, "")])
        except FieldError as error:
            raise BadArguments(error.described(flag_of)) from error
        found.append(switch_of(now, is_on))
        print(f"{flag} is {found[-1]} now.", file=sys.stderr)
    return found


def _tell_repeated(argv: list[str], kind: type) -> None:
    """Says which value counts where flags come again, other than those that take several."""
    flags = {flag_of(name): name for name in kinds_of(kind) if name not in ("vary", "draw", "column")}
    given = [token.partition("=")[0].replace("_", "-") for token in argv]
    for flag in dict.fromkeys(flag for flag in given if flag in flags and given.count(flag) > 1):
        print(f"{flag} is given {given.count(flag)} times: the last one counts.", file=sys.stderr)


@contextlib.contextmanager
def _wide(argv: list[str]) -> Iterator[None]:
    """Lets complaints be as wide as they are: they are taken apart again. Help keeps the terminal's width."""
    before = os.environ.get("COLUMNS")
    if not {"-h", "--help"} & set(argv):
        os.environ["COLUMNS"] = "10000"
    try:
        yield
    finally:
        os.environ.pop("COLUMNS", None)
        if before is not None:
            os.environ["COLUMNS"] = before


def _reason(stop: BaseException, kind: type) -> str | None:
    """What a field or one of our readers said before the parser gave up, if they did."""
    error: BaseException | None = stop
    said = None
    while error is not None:
        if isinstance(error, FieldError):
            return in_flags(error, kind)
        arg, message = getattr(error, "arg", None), getattr(error, "message", "")
        field = getattr(arg, "field", None)
        if field and message.startswith("must "):
            said = f"{flag_of(field.intern_name)} {message}"
        error = error.__context__
    return said


def in_flags(error: Exception, kind: type) -> str:
    """What an error says, the fields that it is about being called as flags are, and the page that helps."""
    if not isinstance(error, FieldError):
        return str(error)
    fields = kinds_of(kind)
    return with_page(error.described(lambda name: flag_of(name) if name in fields else name), error.field)


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
            return _one(functools.partial(read_number, int), "INT")
        if info.type in (float, float | jax.Array):
            return _one(functools.partial(read_number, float), "FLOAT")
        if typing.get_origin(info.type) is Literal:
            choices = typing.get_args(info.type)
            return _one(functools.partial(_chosen, choices), f"{{{','.join(choices)}}}")
        if typing.get_origin(info.type) is tuple:
            if typing.get_args(info.type)[0] is int:
                return _several(lambda text: [_read(_integer_of_several, text)], "INT")
            return _several(lambda text: filter(None, text.split(",")), "NAME")
        return None

    return registry


def _one(read: Callable[[str], Any], metavar: str) -> PrimitiveConstructorSpec[Any]:
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda texts: _read(read, texts[0]),
        is_instance=lambda x: isinstance(x, str | int | float),
        str_from_instance=lambda x: [f"{x:.12g}" if isinstance(x, float) else str(x)],
    )


def _several(read: Callable[[str], Iterable[Any]], metavar: str) -> PrimitiveConstructorSpec[Any]:
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar=f"[{metavar} ...]",
        instance_from_str=lambda texts: tuple(x for text in texts for x in read(text)),
        is_instance=lambda x: isinstance(x, tuple),
        str_from_instance=lambda x: [str(value) for value in x],
    )


def _chosen(choices: tuple[str, ...], text: str) -> str:
    if text not in choices:
        raise ValueError(f"one of {', '.join(choices)}")
    return text


def _integer_of_several(text: str) -> int:
    try:
        return read_number(int, text)
    except ValueError as error:
        raise ValueError(str(error).replace("a whole number", "whole numbers")) from None


def _read(read: Callable[[str], Any], text: str) -> Any:
    """What `read` makes of it, whose errors say what it must be."""
    try:
        return read(text)
    except ValueError as error:
        raise ValueError(f"must be {error}, but it is {text!r}.") from None


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
    near = difflib.get_close_matches(token.partition("=")[0], [flag_of(name) for name in kinds_of(kind)], n=2)
    return f"there is no option {token}" + (f"; did you mean {' or '.join(near)}?" if near else ".")


def kinds_of(kind: Any) -> dict[str, Any]:
    """The types of all fields, those of nested dataclasses in place of the field that holds them."""
    hints = typing.get_type_hints(kind)
    return {
        name: x
        for field in dataclasses.fields(kind)
        for name, x in (
            kinds_of(field.type) if dataclasses.is_dataclass(field.type) else {field.name: hints[field.name]}
        ).items()
    }
