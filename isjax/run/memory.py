"""What no memory could hold is refused before anything is compiled or allocated."""

import jax

from isjax.errors import FieldError
from isjax.learner import make_learner
from isjax.run.programs import free_bytes
from isjax.run.store import Plan
from isjax.run.summary import training_key
from isjax.types import Device

HOST_BYTES = 200
"""What a host keeps of each learner at least, in all of its tables."""


def check_memory(plan: Plan, device: Device) -> None:
    """Raises `ValueError` where even what is certainly needed is twice the memory that there is to take."""
    free = free_bytes(device, 1)
    needed = needed_bytes(plan)
    field = max(needed, key=lambda name: needed[name])
    if free is not None:
        check_bytes(field, getattr(plan if field == "learners" else plan.config, field), sum(needed.values()), free)


def check_bytes(field: str, value: object, needed: float, free: float) -> None:
    """Raises `ValueError` where `needed` is more than twice of what is free."""
    if needed > 2 * free:
        sentence = "{field} must be {rule}, but it is {value}, which needs " + f"{needed / 1e9:,.3g} GB."
        raise FieldError(field, f"what memory can hold, {free / 1e9:.3g} GB here", value, sentence)


def needed_bytes(plan: Plan) -> dict[str, float]:
    """A lower bound by the field that it grows with: for one learner, as others can wait for their turn."""
    config = plan.config
    state = jax.eval_shape(make_learner(config).init, training_key(plan))
    observations = _bytes(state.actors.observation)
    return {
        "learners": plan.learners * HOST_BYTES,
        "torso": _bytes(state.params),
        "num_envs": _bytes(state.actors),
        "unroll_length": config.unroll_length * observations,
        "evaluation_episodes": config.evaluation_episodes * observations / config.num_envs,
        "replay_size": _bytes(state.replay),
        "actor_lag": _bytes(state.lagging),
    }


def _bytes(tree: object) -> float:
    return float(sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree)))
