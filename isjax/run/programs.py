"""The compiled programs of a group, and how many learners the devices have memory for."""

import os
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from isjax.learner import LearnerState, make_learner
from isjax.learner.metrics import without_nan
from isjax.population import CPU_GROUP, LEARNER, Population, make_population
from isjax.run.checkpoints import Rows, layout, pack, unpack
from isjax.run.limits import free_memory
from isjax.run.plan import Plan, training_key
from isjax.types import Device, Metrics

SHARE_OF_HOST, SHARE_OF_DEVICE = 0.5, 0.9
"""How much of the memory that is free learners may take: a host's, which others need too, and an accelerator's."""
WHOLE_BATCHES = 8
"""From so many batches a device on, the last one is filled up with copies that count nowhere: every learner then is
in a batch of one size."""


class Programs(NamedTuple):
    """What `size` learners run, compiled ahead."""

    size: int
    """Learners, copies that fill up the devices among them."""
    devices: list[Device]
    teams: int
    """Learners, or sets of them, that advance at the same time: devices, over those that share a learner."""
    init: jax.stages.Compiled
    advance: jax.stages.Compiled
    evaluate: jax.stages.Compiled
    pack: jax.stages.Compiled
    like: LearnerState
    """Shapes, types and places of a state."""
    compile_s: float
    bytes_per_learner: float | None
    """Of device memory, as the compiled programs say; `None` where they do not."""

    @property
    def bytes(self) -> float | None:
        """Of memory, on all devices together; `None` where the programs do not say."""
        return self.bytes_per_learner and self.bytes_per_learner * self.size / self.teams * len(self.devices)

    def filled(self, learners: np.ndarray) -> np.ndarray:
        """Indices of `size` learners: the last one again where there are fewer."""
        return np.concatenate([learners, np.repeat(learners[-1:], self.size - len(learners))])

    def layout(self) -> dict[str, Any]:
        """What rows are made of."""
        return layout(self.like)

    def placed(self, rows: Rows, key_implementation: str) -> LearnerState:
        """Rows as a state on the devices, filled up with copies of the last one."""
        filled = {name: x[self.filled(np.arange(len(x)))] for name, x in rows.items()}
        state = unpack(filled, self.like, key_implementation)
        return jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), state, self.like)


def compile_programs(plan: Plan, learners: int, devices: Sequence[Device], devices_per_learner: int) -> Programs:
    """Compiles for `learners` learners, and up to a device's worth of copies."""
    began = time.monotonic()
    size = filled_size(learners, len(devices) // devices_per_learner, devices[0].platform)
    population = make_population(
        make_learner(plan.config), size, devices=devices, devices_per_learner=devices_per_learner
    )
    key, index = training_key(plan), np.zeros(size, np.int32)
    hyper = plan.hyper_of(index)
    init = population.init.lower(key, hyper, index).compile()
    shapes = jax.eval_shape(population.init, key, hyper, index)
    like = jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes, init.output_shardings
    )

    def measured(state: LearnerState, updates: jax.Array) -> tuple[LearnerState, Metrics]:
        state, metrics = population.advance(state, updates)
        return state, without_nan(metrics)

    advance = jax.jit(measured, donate_argnums=0).lower(like, jnp.int32(1)).compile()
    evaluate = population.evaluate.lower(like, key, index).compile()
    everywhere = NamedSharding(population.mesh, PartitionSpec() if devices_per_learner > 1 else PartitionSpec(LEARNER))
    packed = jax.jit(pack, out_shardings=everywhere).lower(like).compile()
    return Programs(
        size=size,
        devices=list(population.mesh.devices.flat),
        teams=population.mesh.shape[LEARNER],
        init=init,
        advance=advance,
        evaluate=evaluate,
        pack=packed,
        like=like,
        compile_s=time.monotonic() - began,
        bytes_per_learner=_bytes_per_learner(population, size, advance, evaluate, packed),
    )


def filled_size(learners: int, teams: int, platform: str) -> int:
    """Learners with the copies that give every device as many: whole batches, where that adds little."""
    if learners < teams:
        return learners
    each = -(-learners // teams)
    if platform == "cpu" and each >= WHOLE_BATCHES * CPU_GROUP:
        each = -(-each // CPU_GROUP) * CPU_GROUP
    return each * teams


def learners_that_fit(programs: Programs, local_devices: int) -> int | None:
    """How many learners there is memory for; `None` if that cannot be known."""
    free = free_bytes(programs.devices[0], local_devices)
    if free is None or not programs.bytes_per_learner:
        return None
    return max(1, int(free / programs.bytes_per_learner)) * programs.teams


def free_bytes(device: Device, local_devices: int) -> float | None:
    """Memory that learners of one device may take; `None` if that cannot be known."""
    if device.platform != "cpu":
        stats = device.memory_stats()
        return SHARE_OF_DEVICE * (stats["bytes_limit"] - stats["bytes_in_use"]) if stats else None
    found = [free for free in (_free_on_the_host(), free_memory()) if free is not None]
    return SHARE_OF_HOST * min(found) / local_devices if found else None


def _free_on_the_host() -> float | None:
    try:
        with open("/proc/meminfo") as file:
            found = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in file}
        return found["MemAvailable"]
    except (OSError, KeyError, ValueError, IndexError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None


def _bytes_per_learner(population: Population, size: int, advance: Any, evaluate: Any, packed: Any) -> float | None:
    """On each device: what the largest program holds, and the copy that a checkpoint is written from."""
    found = [_bytes(program) for program in (advance, evaluate)]
    copies = _bytes(packed)
    if copies is None or None in found:
        return None
    each = size / population.mesh.shape[LEARNER]
    return (max(x for x in found if x is not None) + copies) / each


def _bytes(program: Any) -> float | None:
    analysis = program.memory_analysis()
    if analysis is None:
        return None
    held = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return held + analysis.temp_size_in_bytes
