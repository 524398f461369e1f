"""Importance sampling for reinforcement learning, on accelerators.

`isjax.ops` and `isjax.losses` need jax alone. `isjax.learner` brings flax, optax and gymnax with it. Every part is
loaded when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isjax import losses as losses
    from isjax import ops as ops

__version__ = "0.2.0"
__all__ = ["compat", "environments", "errors", "learner", "losses", "networks", "ope", "ops", "population", "stats"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"isjax.{name}")
    raise AttributeError(f"module 'isjax' has no attribute {name!r}")
