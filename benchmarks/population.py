"""How training scales with the number of learners: compile seconds, steps per second, memory, CartPole's defaults.

`python benchmarks/population.py` takes about four minutes on two cores and writes `results/population.json` and
its table in README.md.
Sizes take turns, so that a noisy machine is noisy for all of them; figures are medians with the 10 to 90 % range.
"""

import argparse
import json
import os
import time

import jax

if __name__ == "__main__":  # before gymnax, which computes on import
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)

import jax.numpy as jnp
import numpy as np
from harness import RESULTS as FOLDER
from harness import ceilings, compiled, peak_bytes, provenance, roofline, spread, work, write
from readme import rows, write_table

from isjax.learner import make_learner
from isjax.learner.defaults import defaults
from isjax.population import make_population
from isjax.run.store import device_name

RESULTS = FOLDER / "population.json"
SIZES = (1, 16, 64, 256, 2048, 4096)
STEPS_A_TURN = 4_000_000


def started(learners: int):
    """The compiled program of so many learners, a state to start from, and what compiling took."""
    population = make_population(make_learner(defaults("CartPole-v1")[0]), learners)
    state = population.init(jax.random.key(0), defaults("CartPole-v1")[1])
    program, compile_s = compiled(population.advance, state, jnp.int32(1))
    least = work(population.advance, state, jnp.int32(1))
    state, _ = program(state, jnp.int32(1))
    return program, jax.block_until_ready(state), compile_s, list(population.mesh.devices.flat), least


def table(result: dict) -> str:
    """The records as the README shows them."""
    header = "learners, devices, steps/s of all learners, 10 to 90 %, compiling, temporary memory"
    lines = [
        [
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
    quick = parser.parse_args().quick
    steps_per_update = defaults("CartPole-v1")[0].steps_per_update
    sizes, turns, steps_a_turn = ((1, 16), 1, 10_000) if quick else (SIZES, 10, STEPS_A_TURN)
    compile_s: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(1 if quick else 3):
        programs = {}
        for size in sizes:
            jax.clear_caches()
            program, state, seconds, devices, least = started(size)
            compile_s[size].append(seconds)
            programs[size] = [program, state, devices, least]
    rates: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(turns):
        for size, held in programs.items():
            updates = max(1, steps_a_turn // (size * steps_per_update))
            began = time.monotonic()
            held[1], _ = held[0](held[1], jnp.int32(updates))
            jax.block_until_ready(held[1])
            rates[size].append(size * updates * steps_per_update / (time.monotonic() - began))
    ceiling = ceilings(jax.devices())
    records = [
        {
            "learners": size,
            "devices": device_name(held[2]),
            "compile_s": spread(compile_s[size]),
            "env_steps_per_s": spread(rates[size]),
            "temporary_bytes": held[0].memory_analysis().temp_size_in_bytes,
            "least_bytes_a_step": held[3].bytes / size / steps_per_update,
            "operations_a_step": held[3].operations / size / steps_per_update,
            "share_of_roofline": roofline(held[3], size * steps_per_update / float(np.median(rates[size])), ceiling),
            "peak_bytes": peak_bytes(held[2]),
        }
        for size, held in programs.items()
    ]
    for record in records:
        print(json.dumps(record), flush=True)
    if not quick:
        result = provenance() | {"ceilings": ceiling, "records": records}
        write(RESULTS, result)
        write_table("population", table(result))


if __name__ == "__main__":
    main()
