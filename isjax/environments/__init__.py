"""Environments: what one is, one by its name, and the spaces that it is described by.

gymnax's are there by their ids and those of a suite as `SUITE/ID`; what a suite needs is loaded when it is asked for.
An environment of one's own is a class in one new file, below a line such as `@register("name")`.
"""

from isjax.environments.api import Environment, Step, Suite
from isjax.environments.registry import make, register, register_suite
from isjax.environments.spaces import Box, Discrete, MultiDiscrete

__all__ = ["Box", "Discrete", "Environment", "MultiDiscrete", "Step", "Suite", "make", "register", "register_suite"]
