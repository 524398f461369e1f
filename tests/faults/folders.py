"""Run folders that were damaged, each in one way, and what every command that reads one makes of them."""

import contextlib
import io
import json
import os
import random
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from isjax.cli import main
from isjax.run import train as train_module
from isjax.run.training import Training
from tests.faults.counting import Outcome

SMALL = """
    --env Catch-bsuite --learners 2 --steps 256 --num-envs 2 --unroll-length 4 --torso 8 --evaluation-episodes 2
    --log-every 4 --checkpoint-every 0 --devices 1 --quiet
""".split()  # noqa: SIM905
VARY = ["--vary", "learning_rate=1e-3,3e-2", "--halvings", "1"]
PART, LONGEST, PATIENCE = "0-00000", 300, 120
Damage = Callable[[Path], None]


class Case(NamedTuple):
    """A folder to copy, and what is done to the copy."""

    name: str
    base: str
    """finished, interrupted or sweep."""
    inside: str
    """The run in it that is damaged."""
    damage: Damage


def run(*, quick: bool = False, seed: int = 0) -> list[Outcome]:
    """Every command on every damaged folder."""
    with tempfile.TemporaryDirectory() as place, compiled_once():
        bases = make_bases(Path(place))
        truth = {base: results(Path(place) / "truth", path, base) for base, path in bases.items()}
        chosen = cases(seed)[:: 16 if quick else 1]
        return [outcome for case in chosen for outcome in attempt(case, bases, truth, Path(place))]


@contextlib.contextmanager
def compiled_once() -> Iterator[None]:
    """Programs of a plan are compiled once, and not for every command."""
    made, compile_programs = {}, train_module.compile_programs

    def remembered(plan, learners, devices, devices_per_learner):
        key = plan.digest, learners, len(devices), devices_per_learner
        if key not in made:
            made[key] = compile_programs(plan, learners, devices, devices_per_learner)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "compile_programs", remembered)
        yield


def make_bases(place: Path) -> dict[str, Path]:
    """Folders of a finished run, an interrupted one, and a finished sweep."""
    bases = {name: place / name for name in ("finished", "interrupted", "sweep")}
    assert said(["train", *SMALL, "--out", str(bases["finished"])])[0] == 0
    with interrupted_after(5):
        assert said(["train", *SMALL, "--checkpoints-kept", "3", "--out", str(bases["interrupted"])])[0] == 130
    assert said(["sweep", *SMALL, *VARY, "--out", str(bases["sweep"])])[0] == 0
    return bases


@contextlib.contextmanager
def interrupted_after(chunks: int) -> Iterator[None]:
    """A run is asked to stop while this chunk is recorded."""
    record, count = Training._record, []

    def counted(*args):
        record(*args)
        count.append(None)
        if len(count) == chunks:
            signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "_record", counted)
        yield


def said(argv: list[str]) -> tuple[int, str]:
    """The exit code of a command, and everything that it says."""
    out = io.StringIO()

    def too_long(number: int, frame: object) -> None:
        raise TimeoutError(f"it took more than {PATIENCE} seconds")

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(PATIENCE)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            code = main(argv)
        except BaseException as error:
            return -1, f"{out.getvalue()}Traceback: {type(error).__name__}: {error}"
        finally:
            signal.alarm(0)
    return code, out.getvalue()


def commands(folder: Path, base: str, out: Path) -> dict[str, list[str]]:
    """What is tried on a folder; its results go to `out`."""
    reading = {
        "report": ["report", str(folder), "--out", str(out / "page.html")],
        "best": ["best", str(folder), "--out", str(out / "best"), "--episodes", "2", "--learner", "0"],
        "record": ["record", str(folder), "--out", str(out / "log.csv"), "--episodes", "4", "--truth-episodes", "0"],
    }
    reading["record"] += ["--learner", "0"]
    again = ["--resume", "--out", str(folder), "--devices", "1", "--quiet"]
    if base == "sweep":
        del reading["record"]
        return reading | {"sweep": ["sweep", *again]}
    return reading | {"train": ["train", *again]}


def results(out: Path, folder: Path, base: str) -> dict[str, object]:
    """What the commands come to on a copy of an undamaged folder."""
    copy = out / base
    shutil.copytree(folder, copy)
    found = {}
    for name, argv in commands(copy, base, out).items():
        code, text = said(argv)
        assert code == 0, text
        found[name] = result(name, copy, out)
    return found


def result(name: str, folder: Path, out: Path) -> object:
    """What a command came to, in a form that can be compared."""
    if name == "report":
        return len((out / "page.html").read_text().replace(str(folder), ""))
    if name == "best":
        with np.load(out / "best" / "params.npz") as file:
            return {key: x.tolist() for key, x in file.items()}
    if name == "record":
        return (out / "log.csv").read_text()
    runs = sorted(folder.glob("group-*")) or [folder]
    tables = [pq.read_table(each / "metrics.parquet").to_pydict() for each in runs]
    summaries = [json.loads((each / "summary.json").read_text())["final_return"]["per_learner"] for each in runs]
    learners = pq.read_table(folder / "learners.parquet").to_pydict() if name == "sweep" else None
    return repr((tables, summaries, learners))


def attempt(case: Case, bases: dict[str, Path], truth: dict[str, dict], place: Path) -> list[Outcome]:
    """Each command on a damaged copy of its own."""
    outcomes = []
    for name in commands(place, case.base, place):
        folder, out = place / "damaged" / case.base, place / "out"
        for each in (folder, out):
            shutil.rmtree(each, ignore_errors=True)
        shutil.copytree(bases[case.base], folder)
        out.mkdir()
        case.damage(folder / case.inside)
        argv = commands(folder, case.base, out)[name]
        code, text = said(argv)
        wrong = fault(name, code, text, folder, out, truth[case.base])
        outcomes.append(Outcome(f"{case.base}: {case.name}: {name}", " ".join(argv), code, text, wrong))
    return outcomes


def fault(name: str, code: int, text: str, folder: Path, out: Path, truth: dict) -> str | None:
    """One line about what is wrong with an outcome, if anything is."""
    lines = [line for line in text.splitlines() if line.strip()]
    if "Traceback" in text:
        return f"traceback: {lines[-1][:200]}"
    if any(len(line) > LONGEST for line in lines):
        return f"long line: {max(map(len, lines))} characters"
    if ":absl:" in text or "orbax.checkpoint" in text:
        return "long line: what a library says of itself"
    if code not in (0, 2) or (code == 2 and len(lines) != 1):
        return f"wrong exit code: {code} and {len(lines)} lines"
    if code == 0 and name != "report":
        try:
            is_right = result(name, folder, out) == truth[name]
        except (OSError, ValueError, KeyError):
            is_right = False
        return None if is_right else f"silent wrong value: {name} came to something else"
    return None


def cases(seed: int = 0) -> list[Case]:
    """All damages, for every folder that they can be done to."""
    dice = random.Random(seed)
    found = []
    for base, inside in (("finished", "."), ("interrupted", "."), ("sweep", "group-0")):
        damages = {**of_json("config.json", dice), **of_json("summary.json", dice), **of_fields(), **of_outcomes(dice)}
        damages |= of_checkpoints(dice) | of_files()
        damages |= of_parts(dice) if base == "interrupted" else of_table(dice)
        found += [
            Case(name, base, inside, damage)
            for name, damage in damages.items()
            if base != "interrupted" or "outcome" not in name
        ]
    found += [Case(name, "sweep", ".", damage) for name, damage in (of_json("sweep.json", dice) | of_sweep()).items()]
    found += [Case(f"sweep's {name}", "sweep", ".", damage) for name, damage in of_json("summary.json", dice).items()]
    return found


def of_json(name: str, dice: random.Random) -> dict[str, Damage]:
    """A JSON file that is something else."""
    contents = {
        "empty": b"",
        "a list": b"[1]",
        "a string": b'"x"',
        "an empty object": b"{}",
        "not UTF-8": b"\xff\xfe{}",
    }
    contents |= {"deeply nested": b"[" * 50_000, "a number": b"NaN"}
    found: dict[str, Damage] = {
        f"{name} is {kind}": lambda run, content=content: (run / name).write_bytes(content)
        for kind, content in contents.items()
    }
    found |= {f"{name} is {kind}": lambda run, make=make: make(run / name) for kind, make in OTHERS.items()}
    found[f"{name} is cut"] = lambda run: cut(run / name)
    for _ in range(3):
        place, value = dice.random(), dice.choice([None, "x", [], {}, -1, 1e300, True, "é" * 400])
        found[f"{name} has {str(value)[:9]} at {place:.3f}"] = lambda run, place=place, value=value: another(
            run / name, place, value
        )
    return found


def another(path: Path, place: float, value: object) -> None:
    """One field is another."""
    content = json.loads(path.read_text())
    fields = [(content, key) for key in content if key not in ("checksums", "command", "id", "versions")]
    fields += [(x, key) for x in content.values() if isinstance(x, dict) for key in x]
    inside, key = fields[int(place * len(fields))]
    inside[key] = value
    path.write_text(json.dumps(content))


def of_fields() -> dict[str, Damage]:
    """Settings that were edited."""

    def edit(change: Callable[[dict], None], *, sealed: bool) -> Damage:
        def damage(run: Path) -> None:
            content = json.loads((run / "config.json").read_text())
            change(content)
            if not sealed:
                content.pop("checksums", None)
            (run / "config.json").write_text(json.dumps(content))

        return damage

    changes: dict[str, Callable[[dict], None]] = {
        "learners": lambda x: x.update(learners=4 if x["learners"] == 2 else 2),
        "seed": lambda x: x.update(seed=5),
        "steps": lambda x: x["config"].update(steps=512),
        "discount": lambda x: x["hyper"].update(discount=0.5),
        "grouping": lambda x: x["grouping"].update(most=1),
    }
    return {
        f"{name} was edited{'' if sealed else ' and the seal broken'}": edit(change, sealed=sealed)
        for name, change in changes.items()
        for sealed in (True, False)
    }


def of_outcomes(dice: random.Random) -> dict[str, Damage]:
    """What a part came to."""
    path = f"outcomes/{PART}.npz"
    found = of_bytes("outcome", path, dice)
    found["outcome of one learner"] = lambda run: resave(run / path, lambda name, x: x[:1] if x.ndim else x)
    found["outcome with other returns"] = lambda run: resave(
        run / path, lambda name, x: x + 1 if name == "returns" else x
    )
    return found


def of_checkpoints(dice: random.Random) -> dict[str, Damage]:
    """The newest checkpoint, or all."""
    rows, progress = "state/rows.npz", "progress/metadata"

    def newest(run: Path) -> Path:
        parts = run / "checkpoints"
        last = max(path.name for path in parts.iterdir())
        return parts / last / str(max(int(path.name) for path in (parts / last).iterdir()))

    def at(name: str, damage: Damage) -> Damage:
        return lambda run: damage(newest(run) / name)

    found = {f"checkpoint: {name}": at(rows, damage) for name, damage in byte_damages(dice).items()}
    found |= {f"progress: {name}": at(progress, damage) for name, damage in byte_damages(dice).items()}
    found["checkpoint of one learner"] = at(rows, lambda path: resave(path, lambda name, x: x[:1]))
    found["checkpoint with another number"] = at(rows, lambda path: resave(path, lambda name, x: x + x.dtype.type(1)))
    found["progress: {}"] = at(progress, lambda path: path.write_text("{}"))
    found["progress: []"] = at(progress, lambda path: path.write_text("[]"))
    found["checkpoint under another number"] = at(
        ".", lambda path: path.rename(path.with_name(f"{int(path.name) + 4}"))
    )
    found["checkpoint that is a file"] = at(".", as_file)
    found["no checkpoints"] = lambda run: shutil.rmtree(run / "checkpoints")
    found["checkpoints that are a file"] = lambda run: as_file(run / "checkpoints")
    found["checkpoints of a part that are a file"] = lambda run: as_file(run / "checkpoints" / PART)
    found["an empty checkpoint"] = lambda run: (newest(run).parent / "9999").mkdir()
    found["files between checkpoints"] = lambda run: (newest(run).parent / "notes.txt").write_text("x")
    return found


def of_parts(dice: random.Random) -> dict[str, Damage]:
    """The rows of a part, file by file."""

    def at(place: int, damage: Damage) -> Damage:
        return lambda run: damage(sorted((run / "metrics" / PART).iterdir())[place])

    found = {f"rows {i}: {name}": at(i, damage) for i in (0, 2, -1) for name, damage in byte_damages(dice).items()}
    found |= {f"rows: {name}": at(1, damage) for name, damage in table_damages().items()}
    found["rows swapped"] = lambda run: swap(*sorted((run / "metrics" / PART).iterdir())[:2])
    found["no rows of a part"] = lambda run: shutil.rmtree(run / "metrics" / PART)
    found["no rows"] = lambda run: shutil.rmtree(run / "metrics")
    found["rows that are a file"] = lambda run: as_file(run / "metrics")
    return found


def of_table(dice: random.Random) -> dict[str, Damage]:
    """The one table of a finished run."""
    found = of_bytes("table", "metrics.parquet", dice)
    return found | {
        f"table: {name}": lambda run, d=d: d(run / "metrics.parquet") for name, d in table_damages().items()
    }


def of_files() -> dict[str, Damage]:
    """What does not belong there."""
    return {
        "a lock that is a FIFO": lambda run: fifo(run / ".lock"),
        "a page that is a folder": lambda run: folder(run / "report.html"),
        "a FIFO": lambda run: fifo(run / "fifo"),
        "names that are not UTF-8": lambda run: (run / os.fsdecode(b"\xff\xfe.json")).write_text("x"),
        "hosts that are a file": lambda run: as_file(run / "hosts"),
    }


def of_sweep() -> dict[str, Damage]:
    """What a sweep adds."""
    return {
        "no group": lambda sweep: shutil.rmtree(sweep / "group-0"),
        "a group that is a file": lambda sweep: as_file(sweep / "group-0"),
        "no learners": lambda sweep: (sweep / "learners.parquet").unlink(),
        "no summary": lambda sweep: (sweep / "summary.json").unlink(),
    }


def of_bytes(name: str, path: str, dice: random.Random) -> dict[str, Damage]:
    """A file with other bytes, or of another kind."""
    return {f"{name}: {kind}": lambda run, d=d: d(run / path) for kind, d in byte_damages(dice).items()}


def byte_damages(dice: random.Random) -> dict[str, Damage]:
    """Of any file."""
    place = dice.random()
    return {
        "empty": lambda path: path.write_bytes(b""),
        "cut": cut,
        f"bit {place:.3f}": lambda path: flip(path, place),
        **OTHERS,
    }


def table_damages() -> dict[str, Damage]:
    """Of a file of rows that can be read."""

    def rewrite(change: Callable[[pa.Table], pa.Table]) -> Damage:
        return lambda path: pq.write_table(change(pq.read_table(path)), path)

    return {
        "a row is missing": rewrite(lambda table: table.slice(1)),
        "no row is left": rewrite(lambda table: table.slice(0, 0)),
        "a row is there twice": rewrite(lambda table: pa.concat_tables([table, table.slice(0, 1)])),
        "a column is missing": rewrite(lambda table: table.drop_columns(["update"])),
        "learners are others": rewrite(lambda table: table.set_column(0, "learner", pa.array(np.full(len(table), 77)))),
        "updates are words": rewrite(lambda table: table.set_column(1, "update", pa.array(["x"] * len(table)))),
    }


def resave(path: Path, change: Callable[[str, np.ndarray], np.ndarray]) -> None:
    """Other arrays in a file that is as whole as before."""
    with np.load(path) as file:
        arrays = {
            name: change(name, x) if x.dtype.kind not in "U" and name != "checksum" else x for name, x in file.items()
        }
    np.savez(path, **arrays)


def cut(path: Path) -> None:
    """Half of it."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path, place: float) -> None:
    """One bit."""
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 4
    path.write_bytes(content)


def remove(path: Path) -> None:
    """Nothing is there."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def folder(path: Path) -> None:
    """A folder in its place."""
    remove(path)
    path.mkdir()


def fifo(path: Path) -> None:
    """A FIFO in its place."""
    remove(path)
    os.mkfifo(path)


def dangling(path: Path) -> None:
    """A link in its place that leads nowhere."""
    remove(path)
    path.symlink_to("nowhere")


def as_file(path: Path) -> None:
    """A file in its place."""
    remove(path)
    path.write_text("x")


def swap(one: Path, other: Path) -> None:
    """Each under the other's name."""
    between = one.with_name("between")
    one.rename(between)
    other.rename(one)
    between.rename(other)


OTHERS: dict[str, Damage] = {"removed": remove, "a folder": folder, "a FIFO": fifo, "a link to nowhere": dangling}
