"""Seaquest on a smaller board, which steps five times as fast."""

import functools
import importlib.util
from types import ModuleType
from typing import Any

from gymnax.environments.minatar import seaquest, seaquest_helpers

SEAQUEST_ROOM = 32
"""Places for each kind of thing on Seaquest's board."""


@functools.cache
def make_seaquest() -> Any:
    """Gymnax's game with places for 32 of a kind, not 100: the same numbers, and a step takes a fifth of the time.

    Default parameters never need more. At the hardest, one fish or submarine comes a step and crosses ten
    fields at three steps each: 31 at once. A submarine has one bullet in the air, and divers and own bullets are few.
    """
    helpers = _copy(seaquest_helpers, {"MAX_ENTITIES": SEAQUEST_ROOM})
    shared = {name for name, x in vars(seaquest_helpers).items() if vars(seaquest).get(name) is x}
    own = {name: getattr(helpers, name) for name in shared if not name.startswith("__")}
    return _copy(seaquest, own).MinSeaquest()


def _copy(module: ModuleType, changes: dict[str, Any]) -> ModuleType:
    """A second copy of a module with some of its globals changed; the module itself stays as it is."""
    spec = importlib.util.find_spec(module.__name__)
    assert spec is not None
    assert spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    vars(copy).update(changes)
    return copy
