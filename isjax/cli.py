"""The command line: `isjax train`, `sweep`, `best`, `record`, `evaluate` and `report`.

What `--help` and a mistyped flag need is imported here, everything else once the arguments are known to be good.
Exit codes: 0 done, 1 the run failed, 2 bad arguments or input, 130 interrupted and resumable.
"""

import contextlib
import dataclasses
import difflib
import functools
import io
import os
import shlex
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax

from isjax import __version__
from isjax._checks import in_one_line
from isjax.errors import FieldError
from isjax.learner.config import Config, Hyper
from isjax.run.devices import find_devices, set_up, use_every_core
from isjax.run.file import File, read_file
from isjax.run.flags import BadArguments, in_flags, parse, peek
from isjax.run.output import check_own, drop_output, output_fails, tell
from isjax.run.report_flags import ReportFlags
from isjax.run.train_flags import (
    SweepFlags,
    TrainFlags,
    decides,
    replaced,
    saved_settings,
    starting_point,
)
from isjax.signals import on_stop

DONE, FAILED, BAD_ARGUMENTS, INTERRUPTED = 0, 1, 2, 130

USAGE = """\
usage: isjax COMMAND [OPTIONS]

Importance sampling for reinforcement learning: thousands of learners in one
compiled program.

commands:
  train     train a population of learners, and keep what they did in a folder
  sweep     train every combination of settings, and rank them
  best      save the best learner of a run alone, evaluate and draw it
  record    log episodes of a trained learner, or of a mixture with uniform
  evaluate  estimate the value of a policy from a log of another one's episodes
  report    write the page of a run or a sweep, or compare runs
  bench     measure how fast it is here, and against other libraries

isjax COMMAND --help explains a command; isjax --version names the version.
A first run: isjax train --env CartPole-v1 --learners 64
"""


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # γ on a terminal that knows no Greek
    prog = f"isjax {argv[0]}" if argv else "isjax"
    try:
        with on_stop(_interrupt):
            code = _command(argv)
            sys.stdout.flush()
        return _leave(code)
    except BadArguments as error:
        return _leave(_complain(prog, str(error)))
    except KeyboardInterrupt:
        tell("Interrupted before anything was written.")
        return _leave(INTERRUPTED)
    except BrokenPipeError:  # whoever read the output has seen enough
        drop_output()
        return _leave(DONE)
    except Exception as error:
        if output_fails(error):
            return _leave(_complain(prog, f"the output cannot be written: {_first_line(error)}", FAILED))
        if "--debug" in argv:
            traceback.print_exc()
        return _leave(_complain(prog, f"it failed unexpectedly: {_first_line(error)}", FAILED))


def _command(argv: list[str]) -> int:
    """Runs the command that the arguments begin with."""
    commands = {
        "train": train,
        "sweep": sweep,
        "best": best,
        "record": record,
        "evaluate": evaluate,
        "report": report,
        "bench": bench,
    }
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return DONE if argv else BAD_ARGUMENTS
    if argv[0] == "--version":
        print(__version__)
        return DONE
    if argv[0] not in commands:
        near = difflib.get_close_matches(argv[0], commands, n=2)
        hint = f"; did you mean {' or '.join(near)}?" if near else "."
        return _complain("isjax", f"command must be one of {', '.join(commands)}, but it is {argv[0]!r}{hint}")
    try:
        return commands[argv[0]](argv[1:])
    except SystemExit as stop:  # of --help
        return int(stop.code or 0)


def _leave(code: int) -> int:
    """JAX would have a process that ends early wait for the others, for minutes."""
    if code != DONE and jax.distributed.is_initialized():
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    return code


def train(argv: list[str]) -> int:
    """`isjax train`."""
    start = saved_settings(argv) if "--resume" in argv else starting_point(argv)
    flags = parse(TrainFlags, argv, prog="isjax train", default=start)

    def prepare() -> Job:
        from isjax.run.integrity import is_finished
        from isjax.run.plan import Plan
        from isjax.run.report import write_report
        from isjax.run.train import Run

        plan = Plan(
            config=flags.program,
            hyper=Hyper(**vars(flags.learning)),
            **{name: getattr(flags.run, name) for name in ("learners", "seed", "log_every")},
        )
        folder = Path(flags.run.out) if flags.run.out else None
        how = {"options": _options(flags, "train", argv), "write_page": write_report}
        run = Run(plan, folder, resume=flags.run.resume, **how)
        return Job(run.folder, run.train, is_finished(run.folder))

    return _in_a_folder("train", flags, prepare)


def sweep(argv: list[str]) -> int:
    """`isjax sweep`."""
    path = peek(argv, "--file")
    file = read_file(path, SweepFlags) if path else File()

    def given_for(*names: str, unroll_length: int | None = None) -> SweepFlags:
        """The flags over the defaults of an environment and algorithm."""
        start = starting_point(argv, *names, unroll_length=unroll_length, file=file)
        parts = {name: getattr(start, name) for name in ("run", "hosts", "program", "learning")}
        default = replaced(SweepFlags(**parts), file.flags)
        return parse(SweepFlags, argv, prog="isjax sweep", default=default)

    def base(env: str, algorithm: str, unroll_length: int | None) -> tuple[Config, Hyper]:
        flags = given_for(env, algorithm, unroll_length=unroll_length)
        program = dataclasses.replace(flags.program, env=env, algorithm=algorithm)
        return program, Hyper(**vars(flags.learning))

    flags = given_for()

    def prepare() -> Job:
        from isjax.run.integrity import is_finished
        from isjax.run.report import write_report
        from isjax.run.settings import Space, group, joined, read_draws, read_vary
        from isjax.run.sweep import Sweep, as_json, check_sweep_folder, read_sweep

        folder = Path(flags.run.out or "runs/sweep")
        if flags.run.out or flags.run.resume:
            check_sweep_folder(folder, resume=flags.run.resume)
        saved = read_sweep(folder) if flags.run.resume else None
        if saved and not decides(argv, file):
            settings, groups = saved
        else:
            vary = joined("vary", file.vary, read_vary(flags.vary))
            space = Space(vary, joined("draw", file.draw, read_draws(flags.draw)), flags.draws)
            settings = space.settings(flags.run.seed)
            numbers = {name: getattr(flags.run, name) for name in ("learners", "seed", "log_every")}
            groups = group(settings, functools.cache(base), flags.program, numbers | {"halvings": flags.halvings})
        if saved and as_json(settings, groups) != as_json(*saved):
            rule = f"come with the settings of the sweep in {folder}, or with none"
            raise FieldError("resume", rule, "on", "{field} must {rule}.")
        own = folder if flags.run.out or flags.run.resume else None
        how = {"options": _options(flags, "sweep", argv), "write_page": write_report}
        run = Sweep(settings, groups, own, resume=flags.run.resume, **how)
        if not flags.run.quiet:
            learners = groups[0].plan.per_setting
            tell(f"{len(settings):,} settings of {learners:,} learners, {len(groups)} to compile.")
        folder = own or run.folder
        return Job(folder, run.train, is_finished(folder))

    return _in_a_folder("sweep", flags, prepare)


def best(argv: list[str]) -> int:
    """`isjax best`."""
    from isjax.run.best import BestFlags
    from isjax.run.best import best as run

    return _write_at_the_end(run, BestFlags, argv, prog="isjax best")


def record(argv: list[str]) -> int:
    """`isjax record`."""
    from isjax.run.record import RecordFlags
    from isjax.run.record import record as run

    return _write_at_the_end(run, RecordFlags, argv, prog="isjax record")


def evaluate(argv: list[str]) -> int:
    """`isjax evaluate`."""
    from isjax.run.evaluate import EvaluateFlags
    from isjax.run.evaluate import evaluate as run

    return _write_at_the_end(run, EvaluateFlags, argv, prog="isjax evaluate")


def _write_at_the_end(run: Any, kind: Any, argv: list[str], *, prog: str) -> int:
    """A command that checks everything first, and writes once everything is known."""
    flags = parse(kind, argv, prog=prog)
    find_devices()
    try:
        run(flags)
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        if output_fails(error):
            return _complain(prog, f"the output cannot be written: {_first_line(error)}", FAILED)
        raise BadArguments(in_flags(error, kind)) from error
    return DONE


def report(argv: list[str]) -> int:
    """`isjax report`."""
    flags = parse(ReportFlags, argv, prog="isjax report")
    if not flags.folders:
        raise BadArguments("DIR is missing.")
    from isjax.run.report import write_report
    from isjax.run.report.comparison import write_comparison
    from isjax.run.report.sweep import write_sweep_report
    from isjax.run.sweep import holds_sweep

    folders, out = [Path(folder) for folder in flags.folders], Path(flags.out) if flags.out else None
    try:
        for folder in folders:
            check_own("out", out or folder, folder)
        sweeps = [folder for folder in folders if holds_sweep(folder)]
        if len(folders) > 1 and sweeps:
            raise ValueError(f"Runs can be compared, but {sweeps[0]} is a sweep: it has a page of its own.")
        if len(folders) > 1:
            print(write_comparison(folders, out))
        else:
            print((write_sweep_report if sweeps else write_report)(folders[0], out))
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        raise BadArguments(in_flags(error, ReportFlags)) from error
    return DONE


def bench(argv: list[str]) -> int:
    """`isjax bench`: what `python -m benchmarks` does, wherever one stands."""
    repository = Path(__file__).parents[1]
    if not (repository / "benchmarks" / "__main__.py").exists():
        raise BadArguments("the benchmarks are in the repository: clone it, and install it with pip install -e .")
    return subprocess.run([sys.executable, "-m", "benchmarks", *argv], cwd=repository, check=False).returncode


class Job(NamedTuple):
    """Something that trains in a folder."""

    folder: Path
    run: Callable[[], dict[str, Any]]
    is_finished: bool


def _in_a_folder(command: str, flags: Any, prepare: Callable[[], Job]) -> int:
    """What is wrong with the arguments comes to light in `prepare`; everything later is the run that failed."""
    use_every_core()
    folder = Path(flags.run.out)
    try:
        set_up(flags)
        find_devices()
        job = prepare()
        folder = job.folder
    except KeyboardInterrupt:
        return _interrupted(command, folder)
    except (ValueError, TypeError, OSError) as error:
        raise BadArguments(in_flags(error, type(flags))) from error
    try:
        if flags.run.resume and job.is_finished:
            _add_page(command, folder)
            print(f"{folder} is finished: there is nothing to resume.")
            return DONE
        return _finish(command, job.run(), folder, quiet=flags.run.quiet)
    except KeyboardInterrupt:
        return _interrupted(command, folder)
    except BrokenPipeError:
        raise
    except Exception as error:
        if flags.run.debug:
            traceback.print_exc()
        if output_fails(error):
            return _complain(f"isjax {command}", f"the output cannot be written: {_first_line(error)}", FAILED)
        reason = f"the run failed: {_first_line(error)}"
        if _is_damaged(error):
            return _complain(f"isjax {command}", str(error))
        if _holds_something(folder):
            reason = f"{reason.rstrip('.')}. {_again(command, folder)}"
        return _complain(f"isjax {command}", reason, FAILED)


def _is_damaged(error: Exception) -> bool:
    """Whether it is about what a folder holds: that is input, which was bad."""
    from isjax.run.files import Damaged

    return isinstance(error, Damaged)


def _options(flags: Any, command: str, argv: list[str]) -> Any:
    from isjax.run.options import Options

    names = {field.name for field in dataclasses.fields(Options)}
    given = {name: x for part in (flags.run, flags.hosts) for name, x in vars(part).items() if name in names}
    return Options(command=shlex.join(["isjax", command, *_without(argv, "--resume")]), **given)


def _finish(command: str, summary: dict[str, Any], folder: Path, *, quiet: bool) -> int:
    if summary["status"] == "interrupted":
        return _interrupted(command, folder)
    _add_page(command, folder)
    if not quiet and jax.process_index() == 0:
        if command == "sweep":
            from isjax.run.sweep import print_sweep

            print_sweep(summary, folder)
        else:
            from isjax.run.progress import print_summary

            print_summary(summary, folder)
    if not summary["alive"]:
        return _complain(f"isjax {command}", f"every learner died; {folder / 'summary.json'} says when.", FAILED)
    return DONE


def _add_page(command: str, folder: Path) -> None:
    """Writes the page of a job that is finished, if it is not there: a run may have been stopped just before."""
    from isjax.run.report import write_report
    from isjax.run.report.sweep import write_sweep_report
    from isjax.run.store import tidy

    if jax.process_index():
        return
    tidy(folder)
    if (folder / "report.html").exists():
        return
    (write_sweep_report if command == "sweep" else write_report)(folder)


def _interrupted(command: str, folder: Path) -> int:
    if _holds_something(folder):
        tell(f"Interrupted. {_again(command, folder)}")
    else:
        tell("Interrupted before anything was written.")
    return INTERRUPTED


def _holds_something(folder: Path) -> bool:
    return (folder / "config.json").exists() or (folder / "sweep.json").exists()


def _again(command: str, folder: Path) -> str:
    return "To go on: " + shlex.join(["isjax", command, "--resume", "--out", str(folder)])


def _interrupt(number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def _without(argv: list[str], flag: str) -> list[str]:
    return [token for token in argv if token != flag]


def _first_line(error: Exception) -> str:
    if type(error).__module__.startswith("isjax"):
        return str(error)
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def _complain(prog: str, message: str, code: int = BAD_ARGUMENTS) -> int:
    tell(in_one_line(f"{prog}: error: {message}"))
    return code
