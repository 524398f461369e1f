"""Where the algorithms of version 0.1 were: `isjax.learner.algorithms` has them now."""

import warnings
from typing import Any

from isjax.learner import algorithms, uses
from isjax.learner.algorithms import targets

_MOVED = {
    "ALGORITHMS": (algorithms, "algorithms"),
    "Algorithm": (algorithms, "Algorithm"),
    "check_settings": (uses, "check_settings"),
    "corrected_advantage": (targets, "corrected_advantage"),
    "get_algorithm": (uses, "get_algorithm"),
    "settings_in_use": (uses, "settings_in_use"),
}


def __getattr__(name: str) -> Any:
    if name not in _MOVED:
        raise AttributeError(f"module 'isjax.learner.objectives' has no attribute {name!r}")
    module, now = _MOVED[name]
    warnings.warn(f"isjax.learner.objectives.{name} is {module.__name__}.{now} now.", DeprecationWarning, stacklevel=2)
    return getattr(module, now)
