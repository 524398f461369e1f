"""Logs that are malformed, odd or unusual: each is refused in one line, or its values are those of plain NumPy."""

import contextlib
import csv
import io
import json
import math
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tests import oracles_ope as oracle
from tests.faults.counting import Outcome
from tests.faults.log_cases import WANTED, Case, Columns, cases

DISCOUNT = 0.9
ESTIMATORS = ("ordinary_is", "weighted_is", "per_decision_is", "weighted_per_decision_is")
LONGEST = 300


def run(*, quick: bool = False, seed: int = 0) -> list[Outcome]:
    """Every case, or a sample of them; a few in processes of their own."""
    chosen = list(cases(seed))
    if quick:
        chosen = chosen[seed % 5 :: 5]
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        for i, case in enumerate(chosen):
            place = Path(folder) / f"{i}"
            place.mkdir()
            outcomes.append(_outcome(case, place, is_process=not quick and i % 60 == 0))
    return outcomes


def _outcome(case: Case, folder: Path, *, is_process: bool) -> Outcome:
    path = case.write(folder)
    out = folder / "values.json"
    argv = ["evaluate", str(path), "--discount", str(DISCOUNT), "--resamples", "0", "--json", str(out)]
    argv += ["--estimators", *ESTIMATORS]
    code, output = (_in_process_of_its_own if is_process else _in_this_process)(argv)
    fault = _fault(case, path, out, code, output)
    return Outcome(case.name, shlex.join(["isjax", *argv]), code, output, fault)


def _in_this_process(argv: list[str]) -> tuple[int, str]:
    from isjax.cli import main

    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            return main(argv), error.getvalue()
        except BaseException as failure:
            return 1, f"Traceback: {type(failure).__name__}: {failure}"


def _in_process_of_its_own(argv: list[str]) -> tuple[int, str]:
    if any("\0" in word for word in argv):
        return _in_this_process(argv)
    done = subprocess.run([sys.executable, "-m", "isjax", *argv], capture_output=True, timeout=120, check=False)
    return done.returncode, done.stderr.decode(errors="replace")


def _fault(case: Case, path: Path, out: Path, code: int, output: str) -> str | None:
    """One line if something is wrong with what the command did."""
    if "Traceback" in output:
        return f"traceback: {output[-200:]}"
    longest = max(map(len, output.splitlines()), default=0)
    if longest > LONGEST:
        return f"long line: {longest} characters"
    if code == 2 and (case.expected is None):
        is_one_line = output.startswith("isjax evaluate: error: ") and output.count("\n") == 1
        return None if is_one_line and not out.exists() else f"wrong output: {output[:200]}"
    meant = _another_reader(path) if case.is_either else case.expected
    if code or meant is None:
        return f"wrong exit code: {code}, {output[:200]}"
    return _difference(meant, json.loads(out.read_text())["estimates"])


def _difference(columns: Columns, estimates: dict[str, Any]) -> str | None:
    """The first value that is not the one of plain NumPy."""
    episodes: dict[int, list[tuple[int, float, float]]] = {}
    for episode, step, reward, log_pi, log_mu in zip(*(np.asarray(columns[x]).tolist() for x in WANTED), strict=True):
        episodes.setdefault(int(episode), []).append((int(step), log_pi - log_mu, float(reward)))
    steps = [np.array(sorted(of))[:, 1:].T for _, of in sorted(episodes.items())]
    largest = max(float(np.max(np.abs(r))) for _, r in steps)
    size = 2.0 ** math.frexp(largest)[1] if largest < 1e300 else 2.0**1000  # The oracle must not overflow either.
    for name in ESTIMATORS:
        with np.errstate(all="ignore"):
            right = getattr(oracle, name)([(log_rho, r / size) for log_rho, r in steps], DISCOUNT) * size
        value = estimates[name]["value"]
        right = 0.0 if np.isnan(right) else float(right)  # No weight at all has a defined answer.
        if value is None or not math.isclose(value, right, rel_tol=1e-9, abs_tol=1e-11 * largest):
            return f"silent wrong value: {name} is {value}, not {right}"
    return None


def _another_reader(path: Path) -> Columns | None:
    """The columns as NumPy, pyarrow or Python's own csv read them."""
    try:
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                return {name: arrays[name] for name in WANTED}
        if path.suffix == ".parquet":
            return {name: np.array(pq.read_table(path)[name].to_pylist()) for name in WANTED}
        with path.open(newline="", encoding="latin-1") as file:
            rows = [{name.strip(): x for name, x in row.items()} for row in csv.DictReader(file)]
        return {name: [int(x[name]) if name in WANTED[:2] else float(x[name]) for x in rows] for name in WANTED}
    except Exception:
        return None
