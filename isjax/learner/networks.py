"""Where the networks of version 0.1 were: `isjax.networks` has them now."""

import warnings
from typing import Any

from isjax import networks


def __getattr__(name: str) -> Any:
    if name not in ("ActorCritic", "RecurrentActorCritic"):
        raise AttributeError(f"module 'isjax.learner.networks' has no attribute {name!r}")
    warnings.warn(f"isjax.learner.networks.{name} is isjax.networks.{name} now.", DeprecationWarning, stacklevel=2)
    return getattr(networks, name)
