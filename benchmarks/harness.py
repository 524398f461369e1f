"""How everything here is timed and recorded: rivals take turns, and a record says what it was measured on."""

import json
import math
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.readme import write_table
from isjax.run.store import device_name, versions

HERE = Path(__file__).parent
RESULTS = HERE / "results"
GUIDE = HERE / "README.md"


def seconds(function: Callable[[], Any], calls: int = 1) -> float:
    """Wall-clock seconds of one call, its result waited for: the mean of `calls` calls in a row."""
    began = time.perf_counter()
    for _ in range(calls):
        jax.block_until_ready(function())
    return (time.perf_counter() - began) / calls


def in_turn(
    rivals: dict[str, Callable[[], Any]], turns: int, *, calls: int = 1, warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds a call of each rival, turn after turn: a noisy machine is noisy for all of them.

    Each is called `warm_up` times before the first turn, and once more, untimed, before its own timed calls where
    these are many. The order turns around every time, so that no rival always follows the same one.
    """
    for function in rivals.values():
        for _ in range(warm_up):
            jax.block_until_ready(function())
    taken: dict[str, list[float]] = {name: [] for name in rivals}
    for turn in range(turns):
        for name in reversed(rivals) if turn % 2 else rivals:
            if calls > 1:
                jax.block_until_ready(rivals[name]())
            taken[name].append(seconds(rivals[name], calls))
    return taken


def compiled(function: Callable[..., Any], *arguments: Any) -> tuple[Callable[..., Any], float]:
    """The compiled program of a function (or of one that `jax.jit` gave), and the seconds that this took."""
    program = function if hasattr(function, "lower") else jax.jit(function)
    began = time.perf_counter()
    executable = program.lower(*arguments).compile()
    return executable, time.perf_counter() - began


def spread(values: Sequence[float]) -> dict[str, float]:
    """The median, and the range that 10 to 90 % of the values lie in."""
    low, median, high = np.percentile(values, [10, 50, 90])
    return {"median": float(median), "p10": float(low), "p90": float(high)}


def ratio(slower: Sequence[float], faster: Sequence[float]) -> dict[str, float]:
    """How many times faster, turn by turn."""
    return spread([a / b for a, b in zip(slower, faster, strict=True)])


def geometric_mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


class Work(NamedTuple):
    """The least that a program has to do, whoever compiles it."""

    bytes: int
    """Arguments read once and results written once."""
    operations: int
    """Multiplications and additions of its matrix products."""


def work(function: Callable[..., Any], *arguments: Any) -> Work:
    """What a function of these arguments has to do; a loop of unknown length counts as one pass, a choice as all."""
    traced = jax.make_jaxpr(function)(*arguments)
    moved = sum(x.size * x.dtype.itemsize for x in (*traced.in_avals, *traced.out_avals))
    return Work(moved, _operations(traced.jaxpr))


def _operations(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2 * equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        inner = (getattr(x, "jaxpr", x) for x in jax.tree.leaves(equation.params))
        total += times * sum(_operations(x) for x in inner if hasattr(x, "eqns"))
    return total


def ceilings(devices: Sequence[Any]) -> dict[str, float]:
    """What these devices do at best, together: bytes a second of a long copy, operations of a large product.

    Measured on the first of them, in float32 with the precision that is the default.
    """
    size = 2**11 if devices[0].platform == "cpu" else 2**13
    x = jax.device_put(np.random.default_rng(0).normal(size=(size, size)).astype(np.float32), devices[0])
    copy, product = jax.jit(lambda x: -x), jax.jit(lambda x: x @ x)
    taken = in_turn({"copy": lambda: copy(x), "product": lambda: product(x)}, 10)
    return {
        "bytes_per_s": len(devices) * 2 * x.nbytes / float(np.median(taken["copy"])),
        "operations_per_s": len(devices) * 2 * size**3 / float(np.median(taken["product"])),
    }


def roofline(done: Work, taken: float, ceiling: dict[str, float]) -> float:
    """The share of `taken` seconds that devices at their ceilings would need."""
    return max(done.bytes / ceiling["bytes_per_s"], done.operations / ceiling["operations_per_s"]) / taken


def peak_bytes(devices: Sequence[Any]) -> int | None:
    """The most memory that any of these devices has held, where they keep count: a CPU does not."""
    held = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in devices]
    return max((x for x in held if x is not None), default=None)


def commit() -> str:
    """The commit that is checked out, with `+` where files that it tracks were changed since."""
    git = ["git", "-C", str(HERE)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
        changed = subprocess.run(
            [*git, "diff", "--quiet", "HEAD", "--", ":!benchmarks/results", ":!README.md", ":!docs/evidence"],
            check=False,
        ).returncode
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + "+" * bool(changed)


def provenance(devices: Sequence[Any] | None = None) -> dict[str, Any]:
    """What a record was measured on: device, versions, commit."""
    return {
        "device": device_name(list(jax.devices() if devices is None else devices)),
        "versions": versions(),
        "commit": commit(),
    }


def on_accelerator() -> bool:
    """Whether this measures on something other than a CPU."""
    return jax.default_backend() != "cpu"


def place(path: Path, device: str) -> Path:
    """Where the record of a device is kept: each kind of accelerator has a folder of its own beside a CPU's."""
    if device.startswith("cpu"):
        return path
    return path.parent / re.sub(r"\W+", "-", device.rpartition(" × ")[2].lower()) / path.name


def write(path: Path, result: Any) -> None:
    """Writes a record; one that does not say what it was measured on is refused."""
    for record in result if isinstance(result, list) else [result]:
        missing = {"device", "versions", "commit"} - set(record)
        if missing:
            raise ValueError(f"{path.name} must say its {', '.join(sorted(missing))}.")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


def publish(path: Path, result: Any, tables: dict[Path, str]) -> None:
    """Writes a record at its place and renews its tables, by document.

    Documents show what a CPU did; an accelerator's folder has a page, which `isjax bench --tables` writes.
    """
    device = (result[0] if isinstance(result, list) else result)["device"]
    write(place(path, device), result)
    for document, table in tables.items() if device.startswith("cpu") else ():
        write_table(path.stem, table, document)


def read(path: Path) -> Any:
    return json.loads(path.read_text())
