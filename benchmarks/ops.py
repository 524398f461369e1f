"""V-trace, Retrace, GAE and their one recurrence on `[T, B]`: against rlax under `vmap`, and scan against associative.

`python -m benchmarks.ops` takes about four minutes on two cores, writes `results/ops.json` and renews its tables in
docs/evidence/measured.md and in benchmarks/README.md; `--quick` measures two small shapes, checks that rivals agree,
and writes nowhere. What is compared is the form that is the default on this device, the scan on a CPU.
All get the same arrays, whole on the device: log-ratios, as an agent has them, of which rlax's V-trace takes `exp`
within its program; `rlax_given_ratios` gets them ready-made. A call is one of a compiled program from Python, its
result waited for; `dispatch` is a program that adds two rows, what a call costs that computes nothing. Rivals take
turns in one process. rlax has no time limits: neither do these arrays. On an accelerator a call costs more than a small
shape takes; there each is also timed inside a program that does it `REPEATS` times.
"""

import argparse
import json

import jax
import jax.numpy as jnp
import numpy as np
import rlax

from benchmarks.harness import (
    GUIDE,
    ceilings,
    compiled,
    geometric_mean,
    in_turn,
    on_accelerator,
    provenance,
    publish,
    ratio,
    roofline,
    seconds,
    spread,
    work,
)
from benchmarks.harness import RESULTS as FOLDER
from benchmarks.readme import MEASURED, rows
from isjax import ops

RESULTS = FOLDER / "ops.json"
SHAPES = ((20, 32), (20, 1024), (128, 256), (128, 4096), (1024, 256), (4096, 64))
LENGTHS, WIDTHS = tuple(2**n for n in range(3, 13)), (1, 8, 64, 256)
OPERATORS = ("recurrence", "vtrace", "retrace", "gae")
LARGE = (512, 16384)
"""A shape for accelerators alone."""
QUICK_SHAPES = ((8, 16), (64, 8))
TURNS, BLOCK_S, REPEATS = 40, 2e-3, 10


def arrays(length: int, width: int) -> tuple[jax.Array, ...]:
    """`v_tm1, v_t, r_t, discount_t, log_rho_tm1`; a twentieth of the rows end an episode."""
    keys = jax.random.split(jax.random.key(0), 4)
    values = jax.random.normal(keys[0], (length + 1, width))
    discount_t = jnp.where(jax.random.uniform(keys[1], (length, width)) < 0.05, 0.0, 0.99)
    r_t, noise = (jax.random.normal(key, (length, width)) for key in keys[2:])
    return values[:-1], values[1:], r_t, discount_t, 0.3 * noise


def rlax_vtrace(v_tm1, v_t, r_t, discount_t, rho_tm1):
    each = jax.vmap(rlax.vtrace_td_error_and_advantage, (1, 1, 1, 1, 1, None), 1)
    found = each(v_tm1, v_t, r_t, discount_t, rho_tm1, 1.0)
    return found.errors + v_tm1, found.pg_advantage


def rlax_retrace(q_tm1, v_t, r_t, discount_t, log_rho_tm1):
    each = jax.vmap(rlax.retrace_continuous, (1, 1, 1, 1, 1, 1, None), 1)
    return q_tm1 + each(q_tm1, q_tm1[1:], v_t, r_t, discount_t, log_rho_tm1[1:], 1.0)


def rlax_gae(v_tm1, v_t, r_t, discount_t, _):
    values = jnp.concatenate([v_tm1, v_t[-1:]])
    each = jax.vmap(rlax.truncated_generalized_advantage_estimation, (1, 1, None, 1), 1)
    return each(r_t, discount_t, 0.95, values)


def ours(name: str, associative: bool):
    """One of our operators as a function of the arrays."""
    both = {"associative": associative}
    return {
        "recurrence": lambda v_tm1, v_t, r_t, discount_t, log_rho: ops.backward_affine(discount_t, v_tm1, **both),
        "vtrace": lambda *x: tuple(ops.vtrace(*x, **both)),
        "retrace": lambda *x: ops.retrace(*x, **both),
        "gae": lambda v_tm1, v_t, r_t, discount_t, _: ops.gae(v_tm1, v_t, r_t, discount_t, **both),
    }[name]


def rivals(name: str) -> dict:
    """Name → function of the arrays; all but `dispatch` give the same numbers."""
    theirs = {
        "recurrence": {},
        "vtrace": {"rlax": lambda *x: rlax_vtrace(*x[:4], jnp.exp(x[4])), "rlax_given_ratios": rlax_vtrace},
        "retrace": {"rlax": rlax_retrace},
        "gae": {"rlax": rlax_gae},
    }[name]
    dispatch = {"dispatch": lambda *x: x[0][:1] + x[1][:1]}
    return {"scan": ours(name, False), "associative": ours(name, True)} | theirs | dispatch


def measure(name: str, length: int, width: int, functions: dict, turns: int, ceiling: dict[str, float]) -> dict:
    """The record of one operator at one shape."""
    given = {rival: arrays(length, width) for rival in functions}
    if "rlax_given_ratios" in given:
        *others, log_rho = given["rlax_given_ratios"]
        given["rlax_given_ratios"] = (*others, jnp.exp(log_rho))
    programs, compile_s = {}, {}
    for rival, function in functions.items():
        programs[rival], compile_s[rival] = compiled(function, *given[rival])
    calls = {rival: (lambda program=programs[rival], x=given[rival]: program(*x)) for rival in functions}
    expected = calls["scan"]()
    for rival in set(functions) - {"dispatch"}:
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-3), expected, calls[rival]())
    own = "associative" if on_accelerator() else "scan"
    block = int(np.clip(BLOCK_S / seconds(calls[own], 3), 1, 50))
    taken = in_turn(calls, turns, calls=block, warm_up=3)
    least = work(functions[own], *given[own])
    record = {
        "operator": name,
        "T": length,
        "B": width,
        "us": {rival: spread([1e6 * s for s in each]) for rival, each in taken.items()},
        "compile_s": compile_s,
        "associative_times_faster": ratio(taken["scan"], taken["associative"]),
        "least_bytes": least.bytes,
        "share_of_roofline": roofline(least, float(np.median(taken[own])), ceiling),
    }
    if on_accelerator():
        inside = {rival: repeated(functions[rival], given[rival]) for rival in {own, "rlax"} & set(functions)}
        each = in_turn(inside, max(3, turns // 4))
        record["us_in_a_program"] = {rival: spread([1e6 * s / REPEATS for s in x]) for rival, x in each.items()}
    for rival in ("rlax", "rlax_given_ratios"):
        if rival in taken:
            record[f"times_faster_than_{rival}"] = ratio(taken[rival], taken[own])
    print(name, (length, width), {rival: round(us["median"]) for rival, us in record["us"].items()}, flush=True)
    return record


def repeated(function, given):
    """A program that does it again and again, of rewards that differ each time, called with these arrays."""

    def program(*x):
        once = function(*x)
        return jax.lax.fori_loop(1, REPEATS, lambda i, _: function(x[0], x[1], x[2] * (1 + 1e-6 * i), *x[3:]), once)

    executable, _ = compiled(program, *given)
    return lambda: executable(*given)


def summary(records: list[dict]) -> dict:
    """For each operator: the geometric mean of how many times faster it is, and its worst shape."""
    found = {}
    for name in ("vtrace", "retrace", "gae"):
        for rival in ("rlax", "rlax_given_ratios"):
            key = f"times_faster_than_{rival}"
            faster = {f"{r['T']}x{r['B']}": r[key]["median"] for r in records if r["operator"] == name and key in r}
            if faster:
                worst = min(faster, key=lambda shape: faster[shape])
                mean = geometric_mean(list(faster.values()))
                found[f"{name}_than_{rival}"] = {"geometric_mean": mean, "least": faster[worst], "at": worst}
    return found


def crossover(records: list[dict]) -> dict[str, int | None]:
    """For each width: the shortest length from which on the associative recurrence is faster, if there is one."""
    found = {}
    for width in sorted({r["B"] for r in records}):
        faster = {r["T"]: r["associative_times_faster"]["median"] > 1 for r in records if r["B"] == width}
        slower = [length for length, is_faster in faster.items() if not is_faster]
        longer = [length for length in faster if length > max(slower, default=0)]
        found[str(width)] = min(longer, default=None)
    return found


def times(found: dict) -> str:
    return f"{found['median']:.1f} ({found['p10']:.1f} to {found['p90']:.1f})"


def microseconds(found: dict) -> dict[str, str]:
    return {rival: f"{each['median']:,.0f} µs" for rival, each in found.items()}


def table(result: dict) -> str:
    """V-trace as the page shows it."""
    cpu = result["device"].startswith("cpu")
    own, other = ("scan", "associative") if cpu else ("associative", "scan")
    header = f"T × B, V-trace here, rlax under `vmap`, times faster, {other} form, an empty call"
    header += "" if cpu else ", within a program, rlax within a program"
    lines = []
    for record in (r for r in result["records"] if r["operator"] == "vtrace"):
        us = microseconds(record["us"])
        cells = [us[own], us["rlax"], times(record["times_faster_than_rlax"]), us[other], us["dispatch"]]
        if not cpu:
            inside = microseconds(record["us_in_a_program"])
            cells += [inside[own], inside["rlax"]]
        lines.append([f"{record['T']:,} × {record['B']:,}", *cells])
    total = result["summary"]["vtrace_than_rlax"]
    note = f"{total['geometric_mean']:.1f} times faster in the geometric mean; {result['device']}"
    return f"{rows(header.split(', '), lines)}\n{note}; jax {result['versions']['jax']}.\n"


def guide_table(result: dict) -> str:
    """The other operators, and where the associative form begins to pay, for benchmarks/README.md."""
    header = "operator, T × B, scan, associative, rlax under `vmap`, times faster than rlax"
    lines = []
    for record in result["records"]:
        us = microseconds(record["us"])
        faster = record.get("times_faster_than_rlax")
        shape = f"{record['T']:,} × {record['B']:,}"
        cells = [us["scan"], us["associative"], us.get("rlax", ""), times(faster) if faster else ""]
        lines.append([record["operator"], shape, *cells])
    starts = [[f"{int(width):,}", f"{t:,}" if t else "never"] for width, t in result["crossover"].items()]
    pays = rows(["B", "T from which on the associative form is faster"], starts) + "\n" if starts else ""
    return f"{rows(header.split(', '), lines)}\n{pays}{result['device']}; jax {result['versions']['jax']}.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two small shapes, nothing is written")
    parser.add_argument("--only", choices=OPERATORS, help="measure this operator alone; the record then holds no other")
    parser.add_argument("--turns", type=int, default=TURNS, help=f"{TURNS} if left out")
    given = parser.parse_args()
    quick, shapes = given.quick, SHAPES + (LARGE,) * on_accelerator()
    shapes, turns = (QUICK_SHAPES, 3) if quick else (shapes, given.turns)
    names = (given.only,) if given.only else OPERATORS
    ceiling = ceilings(jax.devices()[:1])
    records = [measure(name, *shape, rivals(name), turns, ceiling) for name in names for shape in shapes]
    widths = WIDTHS[:1] if quick else WIDTHS if "recurrence" in names else ()
    grid = [(length, width) for width in widths for length in LENGTHS[:: 9 if quick else 1]]
    by_length = [measure("recurrence", *shape, rivals("recurrence"), turns, ceiling) for shape in grid]
    result = provenance(jax.devices()[:1]) | {
        "turns": turns,
        "ceilings": ceiling,
        "records": records,
        "by_length": by_length,
        "summary": summary(records),
        "crossover": crossover(by_length),
    }
    print(json.dumps({"summary": result["summary"], "crossover": result["crossover"]}, indent=1))
    if not quick:
        publish(RESULTS, result, {MEASURED: table(result), GUIDE: guide_table(result)})


if __name__ == "__main__":
    main()
