"""SIGKILL before a rename, a removal or an fsync of a run or a sweep; then it is resumed to the end.

Its tables must be those of a run that nothing killed, bit by bit, and its folder must hold the same files.
Every point is tried on a copy of what a kill there would leave; many of them with a process that really is killed.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.faults.counting import Outcome
from tests.faults.folders import SMALL, VARY, compiled_once, said

CALLS = ("replace", "rename", "unlink", "remove", "rmdir", "fsync")
"""Of `os`: everything above them, pathlib, shutil and orbax among it, comes down to these."""
REAL = 100
"""Processes that are killed."""
JOBS = {
    "train": ["train", *SMALL, "--learners", "3", "--learners-per-group", "2"],
    "sweep": ["sweep", *SMALL, *VARY],
}
TABLES = ("metrics.parquet", "learners.parquet")


def run(*, quick: bool = False, seed: int = 0) -> list[Outcome]:
    """Kills at every point; if quick, at a few."""
    dice, outcomes = random.Random(seed), []
    with tempfile.TemporaryDirectory() as place, compiled_once():
        for job, argv in JOBS.items():
            truth, points = Path(place) / job, Path(place) / f"{job}-points"
            with copies_at_every_call(truth, points) as count:
                assert said([*argv, "--out", str(truth)])[0] == 0
            chosen = dice.sample(range(1, count() + 1), 6) if quick else range(1, count() + 1)
            outcomes += [resumed(f"{job}: copy {n}", job, points / str(n), truth, dice) for n in sorted(chosen)]
            if not quick:
                real = sorted(dice.sample(range(1, count() + 1), min(REAL // len(JOBS), count())))
                outcomes += [killed(job, n, Path(place) / "real", truth) for n in real]
    return outcomes


@contextlib.contextmanager
def before_every_call(folder: Path, act: Callable[[int], None]) -> Iterator[Callable[[], int]]:
    """While inside, `act` comes before every such call about something in the folder; yields their count."""
    count = [0]
    inside = os.path.realpath(folder)

    def place_of(args: tuple, options: dict) -> str:
        where = args[0]
        if isinstance(where, int):
            return os.path.realpath(f"/proc/self/fd/{where}")
        base = options.get("dir_fd")
        return os.path.realpath(f"/proc/self/fd/{base}" if base is not None else where)

    def wrapped(call: Callable) -> Callable:
        def counted(*args, **options):
            if place_of(args, options).startswith(inside):
                count[0] += 1
                act(count[0])
            return call(*args, **options)

        return counted

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, wrapped(getattr(os, name)))
        yield lambda: count[0]


@contextlib.contextmanager
def copies_at_every_call(folder: Path, points: Path) -> Iterator[Callable[[], int]]:
    """Copies what a kill would leave; a thread may remove something meanwhile, as it might beside a kill."""

    def copy(number: int) -> None:
        with contextlib.suppress(shutil.Error, FileNotFoundError):
            subprocess.run(["cp", "-a", f"{folder}/.", str(points / str(number))], check=False, capture_output=True)

    points.mkdir(parents=True)
    with before_every_call(folder, copy) as count:
        yield count


def resumed(name: str, job: str, folder: Path, truth: Path, dice: random.Random | None = None) -> Outcome:
    """What is left is resumed; with dice, once more from a point on the way."""
    again = folder.with_name(f"{folder.name}-again")
    point = dice.randint(1, 12) if dice else 0

    def copy(number: int) -> None:
        if number == point:
            subprocess.run(["cp", "-a", f"{folder}/.", str(again)], check=False, capture_output=True)

    with before_every_call(folder, copy):
        outcome = go_on(name, job, folder, truth)
    if not outcome.fault and again.exists():
        outcome = go_on(f"{name}, then {point}", job, again, truth)
    for each in (folder, again):
        shutil.rmtree(each, ignore_errors=True)
    return outcome


def go_on(name: str, job: str, folder: Path, truth: Path) -> Outcome:
    """Resumes, or begins again where nothing was begun, and compares with what was not killed."""
    begun = any((folder / file).exists() for file in ("config.json", "sweep.json"))
    argv = [job, "--resume", "--devices", "1", "--checkpoint-every", "0", "--quiet"] if begun else JOBS[job]
    argv = [*argv, "--out", str(folder)]
    code, text = said(argv)
    return Outcome(name, " ".join(argv), code, text, fault(code, text, folder, truth))


def fault(code: int, text: str, folder: Path, truth: Path) -> str | None:
    """One line about what is wrong, if anything is."""
    if "Traceback" in text:
        return f"traceback: {text.strip().splitlines()[-1][:200]}"
    if code:
        return f"wrong exit code: {code}"
    for name in TABLES:
        for path in sorted(truth.rglob(name)):
            there = folder / path.relative_to(truth)
            if not there.exists() or not pq.read_table(there).equals(pq.read_table(path)):
                return f"silent wrong value: {path.relative_to(truth)} is another"
    left = files_of(folder) ^ files_of(truth)
    return f"left over or missing: {', '.join(sorted(left))[:200]}" if left else None


def files_of(folder: Path) -> set[str]:
    """Everything in a folder, by its path in it."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def killed(job: str, number: int, folder: Path, truth: Path) -> Outcome:
    """A process of its own is killed before that call."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    command = [sys.executable, "-m", "tests.faults.kills", str(number), *JOBS[job], "--out", str(folder)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode not in (-signal.SIGKILL, 0):
        text = process.stdout + process.stderr
        return Outcome(
            f"{job}: kill {number}", " ".join(command), process.returncode, text, "wrong exit code: it failed"
        )
    return go_on(f"{job}: kill {number}", job, folder, truth)


def main(argv: list[str]) -> int:
    """The process that is killed: the number of the call, and the command."""
    from isjax.cli import main as command

    number, folder = int(argv[0]), Path(argv[-1])

    def kill(count: int) -> None:
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    with before_every_call(folder, kill):
        return command(argv[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
