"""What no memory could hold is refused before anything is compiled or allocated."""

from collections.abc import Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np

from isjax.errors import FieldError
from isjax.learner import Config, make_learner
from isjax.run.plan import Plan, training_key
from isjax.run.programs import free_bytes
from isjax.types import Device

HOST_BYTES = 200
"""What a host keeps of each learner at least, in all of its tables."""
SIZES = ("torso", "num_envs", "unroll_length", "evaluation_episodes", "replay_size", "channels", "actor_lag")
"""Fields that memory grows with: whichever is farthest above its default is named."""


def check_memory(plan: Plan, device: Device, names: Mapping[str, str] = MappingProxyType({})) -> None:
    """Raises `ValueError` where even what is certainly needed is twice the memory that there is to take.

    Args:
      plan: what is to be run.
      device: where.
      names: of fields that the caller calls otherwise.
    """
    free = free_bytes(device, 1)
    sizes = {"learners": (plan.learners, Plan.learners)} | {
        name: (getattr(plan.config, name), getattr(Config, name)) for name in SIZES
    }
    field = max(sizes, key=lambda name: np.max(sizes[name][0], initial=0) / np.max(sizes[name][1], initial=1))
    check_bytes(names.get(field, field), sizes[field][0], needed_bytes(plan), free)


def check_bytes(field: str, value: object, needed: float, free: float | None) -> None:
    """Raises `ValueError` where `needed` is more than twice of what is free, as far as that is known."""
    if free is not None and needed > 2 * free:
        sentence = "{field} must be {rule}, but it is {value}, which needs " + f"{needed / 1e9:,.3g} GB."
        raise FieldError(field, f"what memory can hold, {free / 1e9:.3g} GB here", value, sentence)


def needed_bytes(plan: Plan) -> float:
    """A lower bound: the arrays of one learner, as others can wait for their turn, and what a host keeps of all."""
    config = plan.config
    state = jax.eval_shape(make_learner(config).init, training_key(plan))
    observations = _bytes(state.actors.observation)
    rows = max(config.unroll_length, config.evaluation_episodes / config.num_envs)
    return plan.learners * HOST_BYTES + _bytes(state) + rows * observations


def _bytes(tree: object) -> float:
    shapes = [x for x in jax.tree.leaves(tree) if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)]
    return float(sum(x.size * x.dtype.itemsize for x in shapes))
