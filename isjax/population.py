"""Many learners in one compiled program: `vmap` over them, a mesh of devices under them."""

from collections.abc import Callable, Sequence
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
CPU_GROUP = 8
"""Learners batched together on one core: with 2,048 small networks, the fastest of 8, 16, 32 and all at once."""


class Population(NamedTuple):
    """Compiled functions of `L` learners; every array in and out has `L` as its first axis."""

    init: Callable[..., LearnerState]
    """`(key, hyper=None) → state`; learner i draws from `fold_in(key, i)`, however many there are. Fields
    of `hyper` are numbers, or arrays `[L]`."""
    advance: jax.stages.Wrapped
    """`(state, updates) → (state, metrics)`, jitted; the state is donated, metrics cover all these updates."""
    evaluate: jax.stages.Wrapped
    """`(state, key) → Evaluation` `[L, E]`, jitted; learner i plays on `fold_in(key, i)`."""
    mesh: Mesh
    """The devices, along the axis `learner`."""


def make_population(
    learner: Learner,
    learners: int,
    *,
    devices: Sequence[Device] | None = None,
    learners_per_group: int | None = None,
) -> Population:
    """Compiles `learners` copies of a learner into one program.

    Learners are spread evenly over the devices and never communicate; if their number does not divide, the
    largest number of devices that does is used. On each device they advance group after group: one group is
    one batch, and finishes all its updates before the next one starts.

    Args:
      learner: what `make_learner` returns.
      learners: L, at least 1.
      devices: all local devices if left out.
      learners_per_group: how many at most are batched together on one device. If left out, 8 on a CPU,
        where a group stays in the cache, and all of them elsewhere.

    Returns:
      `Population(init, advance, evaluate, mesh)`.

    Raises:
      ValueError: a number is less than 1.
    """
    for name, number in (("learners", learners), ("learners_per_group", learners_per_group)):
        if number is not None and number < 1:
            raise ValueError(f"{name} must be at least 1, but it is {number}.")
    mesh = _mesh(learners, jax.local_devices() if devices is None else devices)
    split = NamedSharding(mesh, PartitionSpec(AXIS))
    index = jax.device_put(jnp.arange(learners), split)
    if learners_per_group is None:
        learners_per_group = CPU_GROUP if mesh.devices.flat[0].platform == "cpu" else learners

    def init(key: Key, hyper: Hyper | None = None) -> LearnerState:
        check_key(key)
        hyper = jax.tree.map(lambda x: _per_learner(x, learners), Hyper() if hyper is None else hyper)
        return init_all(key, jax.device_put(hyper, split))

    @jax.jit
    def init_all(key: Key, hyper: Hyper) -> LearnerState:
        # One learner at a time: the QR of an orthogonal initializer, batched over learners, can starve a pool of
        # two threads for good.
        return _spread(jax.vmap(learner.init), mesh, 1)((_keys(key, index), hyper))

    update = _over_learners(learner.update)

    def advance_group(state: LearnerState, updates: jax.Array) -> tuple[LearnerState, Metrics]:
        shapes = jax.eval_shape(update, state)[1]

        def step(_, carry):
            state, merged = carry
            state, metrics = update(state)
            return state, metrics_lib.merge(merged, metrics)

        state, merged = jax.lax.fori_loop(0, updates, step, (state, metrics_lib.start(shapes)))
        return state, metrics_lib.finish(merged)

    def advance(state: LearnerState, updates: jax.Array) -> tuple[LearnerState, Metrics]:
        return _spread(advance_group, mesh, learners_per_group)((state,), updates)

    def evaluate(state: LearnerState, key: Key) -> Evaluation:
        return _spread(_over_learners(learner.evaluate), mesh, learners_per_group)((state, _keys(key, index)))

    return Population(init, jax.jit(advance, donate_argnums=0), jax.jit(evaluate), mesh)


def _over_learners(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` of one learner over the first axis; a single one goes without a batch axis, which costs a fifth."""

    def over(*trees: Any) -> Any:
        if jax.tree.leaves(trees)[0].shape[0] > 1:
            return jax.vmap(function)(*trees)
        return jax.tree.map(lambda x: x[None], function(*jax.tree.map(lambda x: x[0], trees)))

    return over


def _spread(function: Callable[..., Any], mesh: Mesh, group: int) -> Callable[..., Any]:
    """`function` of groups of learners, over all learners of all devices.

    Args:
      function: `(*learners, *shared) → trees`; of `learners` and its result, the first axis is the group.
      mesh: the devices.
      group: at most how many learners `function` gets at once.

    Returns:
      `(learners, *shared) → trees`, `learners` being a tuple of trees `[L, ...]`.
    """

    def on_each_device(learners: tuple, *shared: Any) -> Any:
        count = jax.tree.leaves(learners)[0].shape[0]
        size = _group_size(count, group)
        whole = count - count % size
        if count == size:
            return function(*learners, *shared)
        groups = jax.tree.map(lambda x: x[:whole].reshape(whole // size, size, *x.shape[1:]), learners)
        result = jax.lax.map(lambda each: function(*each, *shared), groups)
        result = jax.tree.map(lambda x: x.reshape(whole, *x.shape[2:]), result)
        if whole == count:
            return result
        rest = function(*jax.tree.map(lambda x: x[whole:], learners), *shared)
        return jax.tree.map(lambda x, y: jnp.concatenate([x, y]), result, rest)

    def spread(learners: tuple, *shared: Any) -> Any:
        # Without communication there is nothing for the checks on replication to find.
        specs = (PartitionSpec(AXIS), *(PartitionSpec() for _ in shared))
        return jax.shard_map(on_each_device, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(AXIS), check_vma=False)(
            learners, *shared
        )

    return spread


def _group_size(count: int, most: int) -> int:
    """A divisor of `count` if one is between half of `most` and `most`; otherwise `most`, with a rest."""
    most = min(most, count)
    return next((size for size in range(most, most // 2, -1) if count % size == 0), most)


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
