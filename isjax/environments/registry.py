"""Environments by name: `NAME` of gymnax or of a registered class, `SUITE/ID`, and either behind `MODULE:`."""

import difflib
import importlib
from collections.abc import Callable, Sequence
from typing import TypeVar

from isjax.environments.api import Environment, Suite
from isjax.environments.parameters import overridden
from isjax.errors import FieldError
from isjax.registry import Registry

T = TypeVar("T")
GYMNAX = "gymnax"
"""The suite whose ids stand alone."""
BUILT_IN = {GYMNAX: "isjax.environments.gymnax"}
"""Files of suites that come with the package; each is imported when it is first asked for, as what it needs may not be
installed: an extra of the suite's name."""

environments = Registry("env", Environment)
suites = Registry("env", Suite)
register = environments.register
register_suite = suites.register


def make(name: str, overrides: tuple[str, ...] = ()) -> Environment:
    """The environment of a name; each override is `NAME=NUMBER`, in place of a parameter's default.

    Raises:
      ValueError: no such name (near matches are named), a suite that is not installed, no such parameter, or data
        that cannot be downloaded.

    >>> make("MemoryChain-bsuite", ("memory_length=10",)).params.memory_length
    10
    """
    module, colon, rest = name.rpartition(":")
    suite, slash, short = rest.partition("/") if "/" in rest else (GYMNAX, "", rest)
    if not slash and (module or rest in environments.names):
        return overridden(_made(environments.get(name), name), overrides)
    if slash and suite == GYMNAX:
        raise FieldError("env", "an id of gymnax without its suite", repr(name))
    family = _made(suites.get(f"{module}{colon}{suite}"), name) if module else _suite(suite, name)
    if short not in family.ids():
        prefix = f"{module}{colon}{suite}/" if slash else ""
        names = [f"{prefix}{each}" for each in family.ids()] + ([] if slash else list(environments.names))
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
        raise _unknown("a registered environment", name, near, names)
    return family.make(short, overrides)


def _suite(suite: str, name: str) -> Suite:
    """The suite that an environment's name names."""
    known = tuple(dict.fromkeys([*BUILT_IN, *suites.names]))
    if suite not in known:
        near = difflib.get_close_matches(suite, known, n=2)
        raise _unknown("of a registered suite", name, near, known)
    if suite not in suites.names:
        try:
            importlib.import_module(BUILT_IN[suite])
        except ImportError as error:
            value = f"{name!r}: pip install 'isjax[{suite}]' ({error})"
            raise FieldError("env", "of a suite that is installed", value) from error
    return _made(suites.get(suite), name)


def _made(build: Callable[[], T], name: str) -> T:
    try:
        return build()
    except TypeError as error:
        raise FieldError("env", "of a class that can be called without arguments", f"{name!r}: {error}") from error


def _unknown(rule: str, name: str, near: Sequence[str], known: Sequence[str]) -> FieldError:
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(known)}."
    return FieldError("env", rule, f"{name!r}; {hint}", "{field} must be {rule}, but it is {value}")
