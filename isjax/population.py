"""Many learners in one compiled program: `vmap` over them, a mesh of devices under them."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from isjax.errors import MUST, FieldError
from isjax.learner import metrics as metrics_lib
from isjax.learner.config import Hyper
from isjax.learner.keys import check_key
from isjax.learner.learner import Evaluation, Learner, LearnerState
from isjax.types import Device, Key, Metrics

__all__ = ["Population", "best_learner", "cpu_batch", "make_population"]

LEARNER, ENV = "learner", "env"
"""Names of the mesh's axes: learners never communicate; one learner's environments, spread, share its gradient."""
CPU_GROUP = 8
"""Learners batched together on one core, at most. Rounding depends on the size of a batch and on nothing else, so that
learners are the same bit for bit wherever batches are whole."""
CPU_GROUP_BYTES = 4 * 2**20
"""What a batch of learners may take of a core's cache, so that large learners go two or four at a time."""


class Population(NamedTuple):
    """Compiled functions of `L` learners; every array in and out has `L` as its first axis."""

    init: jax.stages.Wrapped
    """`(key, hyper=None, index=None) → state`, jitted; learner i draws from `fold_in(key, index[i])`, `index` being
    0 … L − 1 if left out. Fields of `hyper` are numbers, or arrays `[L]`."""
    advance: jax.stages.Wrapped
    """`(state, updates) → (state, metrics)`, jitted; the state is donated, metrics cover all these updates."""
    evaluate: jax.stages.Wrapped
    """`(state, key, index=None) → Evaluation` `[L, E]`, jitted; learner i plays on `fold_in(key, index[i])`."""
    mesh: Mesh
    """The devices, along the axes `learner` and `env`."""


def make_population(
    learner: Learner,
    learners: int,
    *,
    devices: Sequence[Device] | None = None,
    devices_per_learner: int = 1,
    learners_per_batch: int | None = None,
) -> Population:
    """Compiles `learners` copies of a learner into one program.

    Learners are spread evenly over the devices and never communicate; if their number does not divide, the
    largest number of devices that does is used. On each device they advance batch after batch: one batch
    finishes all its updates before the next one starts. With `devices_per_learner`, so many devices share
    each learner's environments, and its gradient is reduced over them.

    Args:
      learner: what `make_learner` returns.
      learners: L, at least 1.
      devices: all local devices if left out.
      devices_per_learner: must divide the number of devices and of a learner's environments.
      learners_per_batch: how many at most are batched together on one device. If left out, all of them, and
        on a CPU 8, or 4 or 2 where the states of 8 are too large for a core's cache.

    Returns:
      `Population(init, advance, evaluate, mesh)`.

    Raises:
      ValueError: a number is less than 1, or does not divide.

    >>> from isjax.learner import Config, Hyper, make_learner
    >>> learner = make_learner(Config(env="Catch-bsuite", num_envs=2, unroll_length=4, torso=(8,)))
    >>> population = make_population(learner, 2, devices=jax.devices()[:1])
    >>> state = population.init(jax.random.key(0), Hyper(learning_rate=jnp.array([1e-3, 1e-2])))
    >>> state, metrics = population.advance(state, 3)
    >>> metrics["env_steps"], metrics["alive"]
    (Array([24., 24.], dtype=float32), Array([ True,  True], dtype=bool))
    """
    for name, number in (
        ("learners", learners),
        ("devices_per_learner", devices_per_learner),
        ("learners_per_batch", learners_per_batch),
    ):
        if number is not None and number < 1:
            raise FieldError(name, "at least 1", number)
    mesh = _mesh(learner, learners, jax.local_devices() if devices is None else devices, devices_per_learner)
    everyone = np.arange(learners)
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    spread = functools.partial(_spread, mesh=mesh)

    def batch(state: LearnerState) -> int:
        return learners_per_batch or (cpu_batch(state) if on_cpu else learners)

    def init(key: Key, hyper: Hyper | None = None, index: jax.Array | None = None) -> LearnerState:
        check_key(key)
        hyper = (Hyper() if hyper is None else hyper).as_arrays(learners)
        keys = _keys(key, everyone if index is None else index, learners)
        # On a CPU one learner at a time: the QR of an orthogonal initializer, batched over learners, can starve a
        # pool of two threads for good.
        at_once = 1 if on_cpu else learners
        return spread(lambda *each: _placed(jax.vmap(learner.init)(*each), mesh), at_once)((keys, hyper))

    update = jax.jit(jax.vmap(learner.update), inline=True)  # traced once, for its shapes and for the program

    def advance_batch(state: LearnerState, updates: jax.Array) -> tuple[LearnerState, Metrics]:
        shapes = jax.eval_shape(update, state)[1]

        def step(_, carry):
            state, merged = carry
            state, metrics = update(state)
            return _placed(state, mesh), metrics_lib.merge(merged, metrics)

        state, merged = jax.lax.fori_loop(0, updates, step, (_placed(state, mesh), metrics_lib.start(shapes)))
        # What never changes need not be gathered from the batches again.
        return dataclasses.replace(state, hyper=None, key=None), metrics_lib.finish(merged)

    def advance(state: LearnerState, updates: jax.Array) -> tuple[LearnerState, Metrics]:
        after, metrics = spread(advance_batch, batch(state))((state,), updates)
        return dataclasses.replace(after, hyper=state.hyper, key=state.key), metrics

    def evaluate(state: LearnerState, key: Key, index: jax.Array | None = None) -> Evaluation:
        keys = _keys(key, everyone if index is None else index, learners)
        return spread(jax.vmap(learner.evaluate), batch(state))((state, keys))

    return Population(jax.jit(init), jax.jit(advance, donate_argnums=0), jax.jit(evaluate), mesh)


def _placed(state: LearnerState, mesh: Mesh) -> LearnerState:
    """A batch of learners with its environments spread over the devices that share them."""
    if mesh.shape[ENV] == 1:
        return state
    sharding = NamedSharding(jax.sharding.get_abstract_mesh(), PartitionSpec(None, ENV))
    apart = state.actors._replace(pool=None)  # of which every device needs all
    apart = jax.lax.with_sharding_constraint(apart, sharding)
    return dataclasses.replace(state, actors=apart._replace(pool=state.actors.pool))


def _spread(function: Callable[..., Any], batch: int, *, mesh: Mesh) -> Callable[..., Any]:
    """`function` of batches of learners, over all learners of all devices.

    Args:
      function: `(*learners, *shared) → trees`; of `learners` and its result, the first axis is the batch.
      batch: at most how many learners `function` gets at once.
      mesh: the devices.

    Returns:
      `(learners, *shared) → trees`, `learners` being a tuple of trees `[L, ...]`.
    """

    def on_each_device(learners: tuple, *shared: Any) -> Any:
        count = jax.tree.leaves(learners)[0].shape[0]
        size = _batch_size(count, batch)
        whole = count - count % size
        if count == size:
            return function(*learners, *shared)
        batches = jax.tree.map(lambda x: x[:whole].reshape(whole // size, size, *x.shape[1:]), learners)
        result = jax.lax.map(lambda each: function(*each, *shared), batches)
        result = jax.tree.map(lambda x: x.reshape(whole, *x.shape[2:]), result)
        if whole == count:
            return result
        rest = function(*jax.tree.map(lambda x: x[whole:], learners), *shared)
        return jax.tree.map(lambda x, y: jnp.concatenate([x, y]), result, rest)

    def spread(learners: tuple, *shared: Any) -> Any:
        # Learners do not communicate, so there is nothing for the checks on replication to find; what the devices
        # of one learner have to tell each other, the compiler finds.
        return jax.shard_map(
            on_each_device,
            mesh=mesh,
            in_specs=(PartitionSpec(LEARNER), *(PartitionSpec() for _ in shared)),
            out_specs=PartitionSpec(LEARNER),
            # Where a learner has its device to itself nothing is left to the compiler: otherwise JAX writes a
            # constraint on sharding behind every operation, nearly half of the program.
            axis_names={LEARNER, ENV} if mesh.shape[ENV] == 1 else {LEARNER},
            check_vma=False,
        )(learners, *shared)

    return spread


def cpu_batch(state: LearnerState) -> int:
    """How many of these learners a CPU's core takes at once: `CPU_GROUP`, or a half or a quarter of it.

    Args:
      state: of a population, whose size does not matter.

    >>> from isjax.learner import Config, make_learner
    >>> learner = make_learner(Config(env="Catch-bsuite", num_envs=2, unroll_length=4, torso=(8,)))
    >>> cpu_batch(jax.eval_shape(make_population(learner, 16).init, jax.random.key(0)))
    8
    """
    learners = state.update.shape[0]
    each = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)) / learners
    return next((n for n in (CPU_GROUP, CPU_GROUP // 2) if n * each <= CPU_GROUP_BYTES), CPU_GROUP // 4)


def _batch_size(count: int, most: int) -> int:
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


def _keys(key: Key, index: jax.Array | np.ndarray, learners: int) -> Key:
    if jnp.shape(index) != (learners,):
        raise ValueError(f"index must be [{learners}], but its shape is {list(jnp.shape(index))}.")
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.asarray(index))


def check_devices(learner: Learner, devices: Sequence[Device], per_learner: int) -> None:
    """Raises `ValueError` unless `per_learner` divides the number of devices, and that of a learner's environments."""
    if len(devices) % per_learner:
        raise FieldError("devices_per_learner", f"divide the {len(devices)} devices", per_learner, MUST)
    if per_learner > 1:
        envs = jax.eval_shape(learner.init, jax.random.key(0)).actors.episode_return.shape[0]
        if envs % per_learner:
            raise FieldError("devices_per_learner", f"divide {{num_envs}}, which is {envs}", per_learner, MUST)


def _mesh(learner: Learner, learners: int, devices: Sequence[Device], per_learner: int) -> Mesh:
    check_devices(learner, devices, per_learner)
    teams = len(devices) // per_learner
    count = max(n for n in range(1, teams + 1) if learners % n == 0)
    return Mesh(np.asarray(devices[: count * per_learner]).reshape(count, per_learner), (LEARNER, ENV))
