"""How training scales with the number of learners: compile seconds, steps per second, memory, with defaults.

`python -m benchmarks.population` takes about four minutes on two cores and writes `results/population.json` and
its table in docs/evidence/measured.md. On an accelerator Breakout is measured too, and larger numbers of learners.
Sizes take turns, so that a noisy machine is noisy for all of them; figures are medians with the 10 to 90 % range.
"""

import argparse
import json
import os
import time
from typing import Any, NamedTuple

import jax

if __name__ == "__main__":  # before gymnax, which computes on import
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)

import jax.numpy as jnp
import numpy as np

from benchmarks.harness import RESULTS as FOLDER
from benchmarks.harness import (
    Work,
    ceilings,
    compiled,
    on_accelerator,
    peak_bytes,
    provenance,
    publish,
    roofline,
    seconds,
    spread,
    work,
)
from benchmarks.readme import MEASURED, rows
from isjax.learner import make_learner
from isjax.learner.defaults import defaults
from isjax.population import make_population
from isjax.run.store import device_name

RESULTS = FOLDER / "population.json"
Case = tuple[str, int]
"""An environment and a number of learners."""
CASES: tuple[Case, ...] = tuple(("CartPole-v1", n) for n in (1, 16, 64, 256, 2048, 4096))
ACCELERATOR_CASES = (
    *(("CartPole-v1", n) for n in (1, 16, 256, 2048, 16384)),
    *(("Breakout-MinAtar", n) for n in (1, 16, 256, 1024, 4096)),
)
ROUNDS, TURNS, TURN_S = 3, 10, 1.0


class Started(NamedTuple):
    """A compiled program, what it holds, and how many updates make a turn."""

    program: Any
    state: list[Any]
    devices: list[Any]
    least: Work
    updates: int


def started(env: str, learners: int, turn_s: float) -> tuple[Started, float]:
    """The program of so many learners, with a state to start from; and what compiling took."""
    config, hyper = defaults(env)
    population = make_population(make_learner(config), learners)
    state = population.init(jax.random.key(0), hyper)
    program, compile_s = compiled(population.advance, state, jnp.int32(1))
    least = work(population.advance, state, jnp.int32(1))
    held = [state]

    def train(updates: int) -> None:
        held[0], _ = jax.block_until_ready(program(held[0], jnp.int32(updates)))

    train(2)
    updates = max(1, round(turn_s * 10 / seconds(lambda: train(10))))
    return Started(program, held, list(population.mesh.devices.flat), least, updates), compile_s


def steps_an_update(case: Case) -> int:
    """Of all learners together."""
    return case[1] * defaults(case[0])[0].steps_per_update


def table(result: dict) -> str:
    """The records as the page shows them."""
    header = "environment, learners, devices, steps/s of all learners, 10 to 90 %, compiling, temporary memory"
    lines = [
        [
            record["environment"],
            f"{record['learners']:,}",
            record["devices"],
            f"{record['env_steps_per_s']['median'] / 1e6:.2f} M",
            f"{record['env_steps_per_s']['p10'] / 1e6:.2f} to {record['env_steps_per_s']['p90'] / 1e6:.2f} M",
            f"{record['compile_s']['median']:.1f} s",
            f"{record['temporary_bytes'] / 1e6:.1f} MB",
        ]
        for record in result["records"]
    ]
    return f"{rows(header.split(', '), lines)}\njax {result['versions']['jax']}; sizes take turns in one run.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two small sizes, one turn, nothing is written")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of compiling, {ROUNDS} if left out")
    given = parser.parse_args()
    cases = ACCELERATOR_CASES if on_accelerator() else CASES
    cases, rounds, turns, turn_s = (CASES[:2], 1, 1, 0.01) if given.quick else (cases, given.rounds, TURNS, TURN_S)
    compile_s: dict[Case, list[float]] = {case: [] for case in cases}
    for _ in range(rounds):
        programs: dict[Case, Started] = {}
        for case in cases:
            jax.clear_caches()
            programs[case], taken = started(*case, turn_s)
            compile_s[case].append(taken)
    rates: dict[Case, list[float]] = {case: [] for case in cases}
    for _ in range(turns):
        for case, held in programs.items():
            began = time.monotonic()
            held.state[0], _ = jax.block_until_ready(held.program(held.state[0], jnp.int32(held.updates)))
            rates[case].append(held.updates * steps_an_update(case) / (time.monotonic() - began))
    ceiling = ceilings(jax.devices())
    records = []
    for case, held in programs.items():
        steps = steps_an_update(case)
        record = {
            "environment": case[0],
            "learners": case[1],
            "devices": device_name(held.devices),
            "compile_s": spread(compile_s[case]),
            "env_steps_per_s": spread(rates[case]),
            "temporary_bytes": held.program.memory_analysis().temp_size_in_bytes,
            "least_bytes_a_step": held.least.bytes / steps,
            "operations_a_step": held.least.operations / steps,
            "share_of_roofline": roofline(held.least, steps / float(np.median(rates[case])), ceiling),
            "peak_bytes": peak_bytes(held.devices),
        }
        print(json.dumps(record), flush=True)
        records.append(record)
    if not given.quick:
        result = provenance() | {"ceilings": ceiling, "records": records}
        publish(RESULTS, result, {MEASURED: table(result)})


if __name__ == "__main__":
    main()
