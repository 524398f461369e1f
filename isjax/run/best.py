"""Where `load` was in version 0.1: it is in `isjax.run.policy` now."""

import warnings
from typing import Any

from isjax.run import policy


def __getattr__(name: str) -> Any:
    if name in ("Policy", "load"):
        warnings.warn(f"isjax.run.best.{name} is isjax.run.policy.{name} now.", DeprecationWarning, stacklevel=2)
        return getattr(policy, name)
    raise AttributeError(f"module 'isjax.run.best' has no attribute {name!r}")
