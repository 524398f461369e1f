"""Environments by name: `NAME` of gymnax or of a registered class, `SUITE/ID`, and either behind `MODULE:`."""

import contextlib
import dataclasses
import difflib
import importlib
import importlib.util
import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from isjax.environments.api import Environment, Suite
from isjax.environments.parameters import overridden
from isjax.errors import FieldError
from isjax.registry import Registry

T = TypeVar("T")
GYMNAX = "gymnax"
"""The suite whose ids stand alone."""
BUILT_IN = {
    name: f"isjax.environments.{name}"
    for name in (GYMNAX, "craftax", "brax", "jumanji", "navix", "pgx", "xminigrid", "playground")
}
"""Files of suites that come with the package; each is imported when it is first asked for, as what it needs may not be
installed: an extra of the suite's name."""
EXAMPLES = {
    GYMNAX: "CartPole-v1",
    "craftax": "craftax/Craftax-Classic-Symbolic-v1",
    "brax": "brax/inverted_pendulum",
    "jumanji": "jumanji/Snake-v1",
    "navix": "navix/Navix-DoorKey-5x5-v0",
    "pgx": "pgx/minatar-breakout",
    "xminigrid": "xminigrid/MiniGrid-DoorKey-5x5",
    "playground": "playground/CartpoleBalance",
}
"""An id of each suite."""
CANNOT = {
    "kinetix": "kinetix-env allows no JAX beyond 0.9, and isjax is tested with newer ones",
    "popgym-arcade": "popgym-arcade installs stable-gymnax, which takes the place of gymnax",
}
"""Suites that cannot stand beside this package, and why."""
PACKAGES = {"playground": "mujoco_playground"}
"""What a suite is imported as, where that is not its own name."""

environments = Registry("env", Environment)
suites = Registry("env", Suite)
register = environments.register
register_suite = suites.register


def make(name: str, overrides: tuple[str, ...] = ()) -> Environment:
    """The environment of a name; each override is `NAME=VALUE`, in place of a parameter's default.

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
        refusal = family.refusal(short)
        if refusal:
            raise FieldError("env", f"one of {', '.join(family.ids())} of {suite}", f"{name!r}, {refusal}")
        prefix = f"{module}{colon}{suite}/" if slash else ""
        names = [f"{prefix}{each}" for each in family.ids()] + ([] if slash else list(environments.names))
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
        if not slash:  # an id of another suite, which need not be imported to say so
            near = [f"{each}/{name}" for each in BUILT_IN if name.lower().startswith(each)] or near
        raise _unknown("a registered environment", name, near, names)
    with contextlib.nullcontext() if module else _in_silence():
        return family.make(short, overrides)


def get_suite(suite: str) -> Suite:
    """The suite of a name, or of `MODULE:NAME`; `ValueError` as `make` has it."""
    return _made(suites.get(suite), suite) if ":" in suite else _suite(suite, suite)


def parameters(name: str) -> Mapping[str, Any]:
    """What an environment takes overrides of, with its defaults.

    >>> parameters("MemoryChain-bsuite")["memory_length"]
    5
    """
    module, colon, rest = name.rpartition(":")
    suite, slash, short = rest.partition("/") if "/" in rest else (GYMNAX, "", rest)
    if not slash and (module or rest in environments.names):
        made = make(name)
        fields = dataclasses.fields(made) if dataclasses.is_dataclass(made) else ()
        return {field.name: getattr(made, field.name) for field in fields}
    return get_suite(f"{module}{colon}{suite}").parameters(short)


def install_command(suite: str) -> str:
    """What installs the packages that a suite needs."""
    return f"pip install 'isjax[{suite}]'"


def known_suites() -> tuple[str, ...]:
    """Names of all suites, those that come with the package first."""
    return tuple(dict.fromkeys([*BUILT_IN, *suites.names]))


def is_installed(suite: str) -> bool:
    """Whether what a suite needs is there; nothing is imported."""
    package = PACKAGES.get(suite, suite)
    return suite not in BUILT_IN or importlib.util.find_spec(package) is not None


def _suite(suite: str, name: str) -> Suite:
    """The suite that an environment's name names."""
    known = known_suites()
    if suite in CANNOT and suite not in known:
        raise FieldError("env", "of a suite that goes together with isjax", f"{name!r}: {CANNOT[suite]}")
    if suite not in known:
        near = difflib.get_close_matches(suite, known, n=2)
        raise _unknown("of a registered suite", name, near, known)
    if suite not in suites.names:
        try:
            with _in_silence():
                importlib.import_module(BUILT_IN[suite])
        except ImportError as error:
            value = f"{name!r}: {install_command(suite)} ({error})"
            raise FieldError("env", "of a suite that is installed", value) from error
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise FieldError("env", "of a suite that can be loaded", f"{name!r}: {reason}") from error
    return _made(suites.get(suite), name)


@contextlib.contextmanager
def _in_silence() -> Iterator[None]:
    """What packages of environments warn of and print is not for whoever uses this one."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _made(build: Callable[[], T], name: str) -> T:
    try:
        return build()
    except TypeError as error:
        raise FieldError("env", "of a class that can be called without arguments", f"{name!r}: {error}") from error


def _unknown(rule: str, name: str, near: Sequence[str], known: Sequence[str]) -> FieldError:
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(known)}."
    return FieldError("env", rule, f"{name!r}; {hint}", "{field} must be {rule}, but it is {value}")
