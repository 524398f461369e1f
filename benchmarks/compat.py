"""`compat.rlax` on `[T, B]` against rlax under `vmap`.

`python -m benchmarks.compat` takes a minute or two on two cores, writes `results/compat.json` and renews the table in
docs/coming-from.md; `--quick` measures one small shape, checks that both agree, and writes nowhere. Both get the same
arrays, whole on the device, and take turns in one process; a call is one of a compiled program, its result waited for.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import rlax as theirs

from benchmarks.harness import RESULTS as FOLDER
from benchmarks.harness import compiled, in_turn, provenance, publish, ratio, spread
from benchmarks.readme import README, rows
from isjax.compat import rlax as ours

RESULTS, PAGE = FOLDER / "compat.json", README.parent / "docs" / "coming-from.md"
SHAPES, QUICK_SHAPES = ((20, 1024), (128, 256), (1024, 256)), ((8, 16),)
TURNS = 60
FUNCTIONS = {
    "vtrace": lambda m, v_tm1, v_t, r_t, discount_t, rho: m.vtrace(v_tm1, v_t, r_t, discount_t, rho),
    "vtrace_td_error_and_advantage": lambda m, *x: m.vtrace_td_error_and_advantage(*x),
    "lambda_returns": lambda m, v_tm1, v_t, r_t, discount_t, rho: m.lambda_returns(r_t, discount_t, v_t, 0.95),
    "n_step_bootstrapped_returns": lambda m, v_tm1, v_t, r_t, discount_t, rho: m.n_step_bootstrapped_returns(
        r_t, discount_t, v_t, 5
    ),
}
"""What is timed, of a module and `v_tm1, v_t, r_t, discount_t, rho_tm1`; returns are of five steps."""


def measure(name: str, length: int, width: int, turns: int) -> dict:
    """The record of one function at one shape."""
    keys = jax.random.split(jax.random.key(0), 3)
    values, r_t = jax.random.normal(keys[0], (length + 1, width)), jax.random.normal(keys[1], (length, width))
    rho = jax.random.uniform(keys[2], (length, width), minval=0.5, maxval=1.5)
    arrays = values[:-1], values[1:], r_t, jnp.full_like(r_t, 0.99), rho
    rivals = {
        "here": lambda *x: FUNCTIONS[name](ours, *x),
        "rlax": jax.vmap(lambda *x: FUNCTIONS[name](theirs, *x), 1, 1),
    }
    programs = {rival: compiled(function, *arrays)[0] for rival, function in rivals.items()}
    found = [jax.tree.leaves(program(*arrays)) for program in programs.values()]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-3), *found)
    calls = {rival: (lambda program=program: program(*arrays)) for rival, program in programs.items()}
    taken = in_turn(calls, turns, calls=5, warm_up=3)
    return {
        "function": name,
        "T": length,
        "B": width,
        "us": {rival: spread([1e6 * s for s in each]) for rival, each in taken.items()},
        "times_faster": ratio(taken["rlax"], taken["here"]),
    }


def table(result: dict) -> str:
    """For each function and shape what a call takes, as the page shows it."""
    lines = [
        [f"`{x['function']}`", f"{x['T']:,} × {x['B']:,}"]
        + [f"{x['us'][rival]['median']:,.0f} µs" for rival in ("here", "rlax")]
        + [f"{x['times_faster']['median']:.1f} ({x['times_faster']['p10']:.1f} to {x['times_faster']['p90']:.1f})"]
        for x in result["records"]
    ]
    header = ["function", "T × B", "here", "rlax under `vmap`", "times faster"]
    return f"{rows(header, lines)}\n{result['device']}; jax {result['versions']['jax']}.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small shape, nothing is written")
    quick = parser.parse_args().quick
    shapes, turns = (QUICK_SHAPES, 3) if quick else (SHAPES, TURNS)
    records = [measure(name, *shape, turns) for name in FUNCTIONS for shape in shapes]
    result = provenance(jax.devices()[:1]) | {"turns": turns, "records": records}
    print(table(result))
    if not quick:
        publish(RESULTS, result, {PAGE: table(result)})


if __name__ == "__main__":
    main()
