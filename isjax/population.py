"""Many learners in one compiled program: `vmap` over them, a mesh of devices under them."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from isjax.learner import metrics as metrics_lib
from isjax.learner.config import Hyper
from isjax.learner.learner import Evaluation, Learner, LearnerState, check_key
from isjax.types import Device, Key, Metrics

AXIS = "learner"


class Population(NamedTuple):
    """Compiled functions of `L` learners; every array in and out has `L` as its first axis."""

    init: Callable[..., LearnerState]
    """`(key, hyper=None) → state`; learner i draws from `fold_in(key, i)`, however many there are. Fields
    of `hyper` are numbers, or arrays `[L]`."""
    advance: jax.stages.Wrapped
    """`(state, updates) → (state, metrics)`, jitted; the state is donated, metrics cover all these updates."""
    evaluate: jax.stages.Wrapped
    """`(state, key) → Evaluation`, jitted, on keys that training never draws from."""
    mesh: Mesh
    """The devices, along the axis `learner`."""


def make_population(learner: Learner, learners: int, *, devices: Sequence[Device] | None = None) -> Population:
    """Compiles `learners` copies of a learner into one program.

    Learners are spread evenly over the devices and never communicate. If their number does not divide,
    the largest number of devices that does is used.

    Args:
      learner: what `make_learner` returns.
      learners: L, at least 1.
      devices: all local devices if left out.

    Returns:
      `Population(init, advance, evaluate, mesh)`.

    Raises:
      ValueError: `learners` is less than 1.
    """
    if learners < 1:
        raise ValueError(f"learners must be at least 1, but it is {learners}.")
    mesh = _mesh(learners, jax.local_devices() if devices is None else devices)
    split = NamedSharding(mesh, PartitionSpec(AXIS))
    index = jax.device_put(jnp.arange(learners), split)

    @jax.jit
    @partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec(AXIS), PartitionSpec(AXIS)),
        out_specs=PartitionSpec(AXIS),
    )
    def init_all(key: Key, index: jax.Array, hyper: Hyper) -> LearnerState:
        # One learner at a time on each device: the QR of an orthogonal initializer, batched over learners, can
        # starve a pool of two threads for good.
        return jax.lax.map(lambda each: learner.init(each[0], each[1]), (_keys(key, index), hyper))

    def init(key: Key, hyper: Hyper | None = None) -> LearnerState:
        check_key(key)
        hyper = jax.tree.map(lambda x: _per_learner(x, learners), hyper or Hyper())
        return init_all(key, index, jax.device_put(hyper, split))

    update_all = jax.vmap(learner.update)

    def advance(state: LearnerState, updates: jax.Array) -> tuple[LearnerState, Metrics]:
        shapes = jax.eval_shape(update_all, state)[1]

        def step(_, carry):
            state, merged = carry
            state, metrics = update_all(state)
            return state, metrics_lib.merge(merged, metrics)

        state, merged = jax.lax.fori_loop(0, updates, step, (state, metrics_lib.start(shapes)))
        return state, metrics_lib.finish(merged)

    def evaluate(state: LearnerState, key: Key) -> Evaluation:
        return jax.vmap(learner.evaluate)(state, _keys(key, index))

    return Population(init, jax.jit(advance, donate_argnums=0), jax.jit(evaluate), mesh)


def best_learner(scores: np.ndarray, alive: np.ndarray) -> int:
    """Index of the highest score among learners that are alive and have one.

    Raises:
      ValueError: there is none.

    >>> best_learner(np.array([1.0, np.nan, 3.0]), np.array([True, True, False]))
    0
    """
    counts = np.asarray(alive, bool) & np.isfinite(scores)
    if not counts.any():
        raise ValueError("No learner is alive with a finite score.")
    return int(np.argmax(np.where(counts, scores, -np.inf)))


def _keys(key: Key, index: jax.Array) -> Key:
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(index)


def _per_learner(x: Any, learners: int) -> jax.Array:
    x = jnp.asarray(x, jnp.float32)
    if x.shape not in ((), (learners,)):
        raise ValueError(f"A field of hyper must be a number or [{learners}], but its shape is {list(x.shape)}.")
    return jnp.broadcast_to(x, (learners,))


def _mesh(learners: int, devices: Sequence[Device]) -> Mesh:
    count = max(n for n in range(1, len(devices) + 1) if learners % n == 0)
    return Mesh(np.asarray(devices[:count]), (AXIS,))
