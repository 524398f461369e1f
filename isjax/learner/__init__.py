"""One learner: environments, networks, acting and updating.

Brings flax with it; optax and gymnax are loaded when a learner is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from isjax.learner.algorithms import Algorithm, register_algorithm
from isjax.learner.config import Config, Hyper
from isjax.learner.defaults import defaults
from isjax.learner.metrics import register_metric

if TYPE_CHECKING:
    from isjax.learner.learner import Evaluation, Learner, LearnerState, make_agent, make_learner

__all__ = [
    "Algorithm",
    "Config",
    "Evaluation",
    "Hyper",
    "Learner",
    "LearnerState",
    "defaults",
    "make_agent",
    "make_learner",
    "register_algorithm",
    "register_metric",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("isjax.learner.learner"), name)
    raise AttributeError(f"module 'isjax.learner' has no attribute {name!r}")
