"""The settings of a sweep: a grid, random draws, and which of them one compiled program can hold."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from isjax.errors import MUST, FieldError
from isjax.learner.config import Config, Hyper
from isjax.learner.defaults import with_unroll_length
from isjax.randomness import Domain, generator
from isjax.run.fields import CONFIG_FIELDS, HYPER_FIELDS, as_text, check_name, read_value
from isjax.run.names import flag_of, present_values, switch_of
from isjax.run.plan import Plan

T = TypeVar("T")
MOST_SETTINGS = 1_000_000
Values = dict[str, Any]
"""Of the fields that differ between settings."""


class Draw(NamedTuple):
    """A random number."""

    scale: Literal["uniform", "log"]
    low: float
    high: float

    def sample(self, generator: np.random.Generator) -> float:
        """One number, with no more digits than a command line likes."""
        if self.scale == "log":
            x = math.exp(generator.uniform(math.log(self.low), math.log(self.high)))
        else:
            x = generator.uniform(self.low, self.high)
        return float(f"{x:.6g}")


@dataclasses.dataclass(frozen=True)
class Space:
    """What varies."""

    vary: dict[str, tuple[Any, ...]]
    """Values of a grid."""
    draw: dict[str, Draw]
    draws: int = 1
    """How often the fields of `draw` are drawn; each time for the whole grid."""

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise FieldError("draws", "at least 1", self.draws)
        if self.draws > 1 and not self.draw:
            raise FieldError("draws", "1 where {draw} names nothing to draw", self.draws)
        twice = [name for name in self.vary if name in self.draw]
        if twice:
            raise FieldError(
                "draw", "other fields than {vary}", twice[0], "{field} must name {rule}, but both name {value}."
            )
        count = self.draws * math.prod(len(values) for values in self.vary.values())
        if count > MOST_SETTINGS:
            raise FieldError("draws", f"so few that there are at most {MOST_SETTINGS:,} settings", f"{self.draws:,}")

    def settings(self, seed: int) -> list[Values]:
        """Every setting, the last field of the grid changing fastest."""
        numbers = generator(seed, Domain.SWEEP)
        drawn = [{name: draw.sample(numbers) for name, draw in self.draw.items()} for _ in range(self.draws)]
        grid = [dict(zip(self.vary, values, strict=True)) for values in itertools.product(*self.vary.values())]
        return [point | numbers for point in grid for numbers in drawn]


class Group(NamedTuple):
    """Settings that one compiled program holds."""

    plan: Plan
    settings: list[int]
    """Their numbers, in the order of the plan's learners."""


Base = Callable[[str, str, int | None], tuple[Config, Hyper]]
"""What settings start from, by environment, algorithm and, where it varies, `unroll_length`."""


def group(settings: Sequence[Values], base: Base, config: Config, numbers: dict[str, int]) -> list[Group]:
    """Settings by the programs that they need: those that differ in numbers of `Hyper` alone share one.

    Args:
      settings: what differs.
      base: the rest.
      config: environment and algorithm where they do not differ.
      numbers: `learners` of each setting, and the other numbers of a `Plan`.

    Raises:
      ValueError: a setting is impossible.
    """
    from isjax.learner.uses import settings_in_use

    by_program: dict[Config, list[tuple[int, Hyper]]] = {}
    complete = settings_in_use([_complete(values, base, config) for values in settings])
    for number, (program, hyper) in enumerate(complete):
        by_program.setdefault(program, []).append((number, hyper))
    most = (max(map(len, by_program.values())) - 1).bit_length()
    if numbers.get("halvings", 0) > most:
        rule = f"at most {most}: then one setting of each program is left"
        raise FieldError("halvings", rule, numbers["halvings"], "{field} must be {rule}; but it is {value}.")
    replicas = numbers["learners"]
    groups = []
    for program, members in by_program.items():
        hyper = {
            name: _repeated([float(getattr(hyper, name)) for _, hyper in members], replicas) for name in HYPER_FIELDS
        }
        learners = replicas * len(members)
        plan = Plan(config=program, hyper=Hyper(**hyper), **numbers | {"learners": learners, "replicas": replicas})
        groups.append(Group(plan, [number for number, _ in members]))
    return groups


def _complete(values: Values, base: Base, config: Config) -> tuple[Config, Hyper]:
    names = values.get("env", config.env), values.get("algorithm", config.algorithm)
    program, hyper = base(*names, values.get("unroll_length"))
    program = dataclasses.replace(program, **{name: x for name, x in values.items() if name in CONFIG_FIELDS})
    hyper = dataclasses.replace(hyper, **{name: x for name, x in values.items() if name in HYPER_FIELDS})
    hyper.check()
    return program, hyper


def _repeated(values: list[float], replicas: int) -> Any:
    return values[0] if len(set(values)) == 1 else np.repeat(values, replicas)


def joined(flag: str, file: dict[str, T], given: dict[str, T]) -> dict[str, T]:
    """What a file and the command line name, each field in one of them.

    Raises:
      ValueError: both name it.
    """
    twice = [name for name in given if name in file]
    if twice:
        sentence = "{field} must {rule}, but {value} is in the file and on the command line."
        raise FieldError(flag, "name each field once", twice[0], sentence)
    return file | given


def read_vary(texts: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """`NAME=VALUE,VALUE,…` each.

    Raises:
      ValueError: a field is unknown or cannot vary, or a value is not one of it.

    >>> read_vary(["learning_rate=1e-3,1e-2", "torso=64,64x64"])
    {'learning_rate': (0.001, 0.01), 'torso': ((64,), (64, 64))}
    """
    found: dict[str, tuple[Any, ...]] = {}
    for text in texts:
        given, values = _split(text, "vary", "NAME=VALUE,VALUE,…")
        name, values = present_values(given, [value.strip() for value in values.split(",")])
        name = check_name(name, "vary")
        read = tuple(read_value(name, as_text(value)) for value in values)
        if len(set(read)) < len(read):
            raise FieldError("vary", f"give {{{name}}} different values", repr(text), MUST)
        found |= {_new(name, found, "vary"): read}
    return found


def read_draws(texts: Sequence[str]) -> dict[str, Draw]:
    """`NAME=SCALE:LOW:HIGH` each, the scale being uniform or log.

    Raises:
      ValueError: a field is unknown or cannot be drawn, or the range is none.

    >>> read_draws(["learning_rate=log:1e-4:1e-2"])
    {'learning_rate': Draw(scale='log', low=0.0001, high=0.01)}
    """
    found = {}
    for text in texts:
        given, values = _split(text, "draw", "NAME=SCALE:LOW:HIGH")
        name = check_name(given, "draw")
        if name in CONFIG_FIELDS:
            rule = (
                f"{{field}} cannot take {{{name}}}: every value of it is a program of its own, so name the values with"
            )
            raise FieldError("draw", "name a field of Hyper", name, f"{rule} {{vary}}.")
        scale, *ends = values.split(":")
        try:
            low, high = (float(end) for end in ends)
        except ValueError:
            low = high = math.nan
        if scale not in ("uniform", "log") or not -math.inf < low < high < math.inf or (scale == "log" and low <= 0):
            rule = "NAME=uniform:LOW:HIGH, or NAME=log:LOW:HIGH with LOW above 0, both of them finite"
            raise FieldError("draw", rule, repr(text))
        found |= {_new(name, found, "draw"): Draw(scale, low, high)}  # type: ignore[arg-type]
    return found


def as_flags(config: Config, hyper: Hyper, base: tuple[Config, Hyper]) -> list[str]:
    """The flags by which a setting differs from where `isjax train` starts."""
    flags = ["--env", config.env]
    if config.algorithm != Config.algorithm:
        flags += ["--algorithm", config.algorithm]
    derived = with_unroll_length(base[0], config.unroll_length)
    start = dataclasses.replace(base[0], resets_per_unroll=derived.resets_per_unroll)
    for here, there in ((config, start), (hyper, base[1])):
        for field in dataclasses.fields(here):
            x, start = getattr(here, field.name), getattr(there, field.name)
            if field.name in ("env", "algorithm") or x == start:
                continue
            if isinstance(x, bool):
                flags.append(switch_of(field.name, x))
            else:
                flags += [flag_of(field.name), *(as_text(each) for each in (x if isinstance(x, tuple) else (x,)))]
    return flags


def _split(text: str, flag: str, form: str) -> tuple[str, str]:
    name, equals, values = text.partition("=")
    if not equals:
        raise FieldError(flag, form, repr(text))
    return name, values


def _new(name: str, found: dict[str, Any], flag: str) -> str:
    if name in found:
        raise FieldError(flag, "name each field once", name, "{field} must {rule}, but {value} is there twice.")
    return name
