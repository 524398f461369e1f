"""Names of earlier versions. Each keeps working for one release, and a `DeprecationWarning` says what it is now."""

import functools
import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from isjax.errors import FieldError

T = TypeVar("T")
SETTINGS: dict[str, tuple[str, dict[Any, Any]]] = {"towers": ("share_torso", {"shared": True, "separate": False})}
"""By the former name of a setting: its name now, and by each former value the value now."""


def moved(old: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of module `old`, whose names are elsewhere now: `MODULE:NAME` each."""

    def __getattr__(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        module, _, now = places[name].partition(":")
        warnings.warn(f"{old}.{name} is {module}.{now} now.", DeprecationWarning, stacklevel=2)
        return getattr(importlib.import_module(module), now)

    return __getattr__


def present(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by the names and values that they have now. If both names of one are there, the former counts.

    Raises:
      FieldError: a setting of a former name has a value that it never took.
    """
    found = dict(settings)
    for former, (name, values) in SETTINGS.items():
        if former in found:
            value = found.pop(former)
            if not isinstance(value, str) or value not in values:
                raise FieldError(former, f"one of {', '.join(values)}", repr(value))
            found[name] = values[value]
    return found


def takes_former_names(cls: type[T]) -> type[T]:
    """A class whose fields can be given, and read, by their former names too."""
    init = cls.__init__

    @functools.wraps(init)
    def __init__(self: T, *args: Any, **kwargs: Any) -> None:
        for former in SETTINGS.keys() & kwargs:
            warnings.warn(f"{former} is {SETTINGS[former][0]} now.", DeprecationWarning, stacklevel=2)
        init(self, *args, **present(kwargs))

    cls.__init__ = __init__
    for former in SETTINGS:
        setattr(cls, former, property(functools.partial(_former_value, former)))
    return cls


def _former_value(former: str, owner: Any) -> Any:
    name, values = SETTINGS[former]
    warnings.warn(f"{former} is {name} now.", DeprecationWarning, stacklevel=2)
    return next(value for value, now in values.items() if now == getattr(owner, name))
