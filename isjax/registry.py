"""Classes by name: what is registered can be asked for in `Config` and on the command line."""

import difflib
import importlib
from collections.abc import Callable
from typing import Generic, TypeVar

from isjax.errors import MUST, FieldError

T = TypeVar("T", bound=type)


class Registry(Generic[T]):
    """Classes by name, all of one kind.

    A name may be `MODULE:NAME`: the module is imported first, so that whatever it registers is known. A run that is
    resumed or opened elsewhere finds its classes by such names alone.
    """

    def __init__(self, field: str, kind: T, *, besides: tuple[str, ...] = ()):
        """An empty registry.

        Args:
          field: the setting that holds one of these names.
          kind: what every class must derive from.
          besides: names that the setting may hold and that name no class.
        """
        self.field, self.kind, self.besides = field, kind, besides
        self._classes: dict[str, T] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """All that may be asked for, in the order of their registration."""
        return (*self.besides, *self._classes)

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that registers a class under `name`.

        Raises:
          ValueError: the name is not a plain word, or another class has it.
          TypeError: the class does not derive from the registry's kind.

        >>> shapes = Registry("shape", object)
        >>> @shapes.register("square")
        ... class Square: ...
        >>> shapes.names
        ('square',)
        """
        if not name.replace("-", "_").isidentifier():
            raise ValueError(f"name must be letters, digits and hyphens, not a digit first, but it is {name!r}.")

        def add(cls: T) -> T:
            if not (isinstance(cls, type) and issubclass(cls, self.kind)):
                raise TypeError(f"{self.field} {name!r} must be a subclass of {self.kind.__name__}, but it is {cls!r}.")
            before = self._classes.get(name)
            # A module that is run twice, or a cell of a notebook, defines its class anew.
            if name in self.besides or (before is not None and _place(before) != _place(cls)):
                raise ValueError(f"{self.field} {name!r} is taken: choose another name for {cls.__name__}.")
            self._classes[name] = cls
            return cls

        return add

    def check(self, name: str) -> None:
        """Raises `ValueError` if there is no such name; imports the module that it names, if it does."""
        if name not in self.besides:
            self.get(name)

    def get(self, name: str) -> T:
        """The class of that name.

        Raises:
          ValueError: there is none.
        """
        module, _, short = name.rpartition(":")
        if module:
            self._load(name, module)
        if short not in self._classes:
            near = difflib.get_close_matches(short, self.names, n=2)
            hint = f"; did you mean {' or '.join(near)}?" if near else "."
            rule = f"one of {', '.join(self.names)}" if self.names else "a registered name"
            raise FieldError(self.field, rule, f"{name!r}{hint}", "{field} must be {rule}, but it is {value}")
        return self._classes[short]

    def _load(self, name: str, module: str) -> None:
        try:
            importlib.import_module(module)
        except Exception as error:  # whatever a module may raise as it is run
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            value = f"{name!r}; {reason}"
            raise FieldError(self.field, "name a module that can be imported", value, MUST) from error


def _place(cls: type) -> tuple[str, str]:
    return cls.__module__, cls.__qualname__
