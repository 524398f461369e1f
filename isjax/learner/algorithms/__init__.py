"""Algorithms by name, a file for each family.

An algorithm of one's own is a class in one new file, below a line `@register_algorithm("name")`.
"""

from isjax.learner.algorithms import actor_critic, proximal, trust_region
from isjax.learner.algorithms.base import (
    Algorithm,
    Batch,
    Critics,
    Prepared,
    View,
    algorithms,
    register_algorithm,
)

# isort: split
from isjax.learner.algorithms import action_values  # last in the list of names

# isort: split
from isjax.learner.algorithms import soft_actor_critic

__all__ = [
    "Algorithm",
    "Batch",
    "Critics",
    "Prepared",
    "View",
    "action_values",
    "actor_critic",
    "algorithms",
    "proximal",
    "register_algorithm",
    "soft_actor_critic",
    "trust_region",
]
