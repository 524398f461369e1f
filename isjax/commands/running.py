"""How a command runs: first comes whatever can be wrong with its arguments, then its work; either has its exit code."""

import dataclasses
import shlex
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax

from isjax.commands.devices import find_devices, set_up, use_every_core
from isjax.commands.flags import BadArguments, in_flags, parse
from isjax.commands.output import DONE, FAILED, INTERRUPTED, complain, first_line, output_fails, tell
from isjax.commands.pages import with_page
from isjax.errors import FieldError
from isjax.run.files import CONFIG, REPORT, SUMMARY, SWEEP, Damaged
from isjax.run.options import Options
from isjax.run.store import tidy

Flags = TypeVar("Flags")


def run_checked(
    work: Callable[[Flags], object], kind: type[Flags], argv: list[str], *, prog: str, computes: bool = True
) -> int:
    """Runs a command that checks everything first, and writes once everything is known.

    Args:
      work: what it does; a `ValueError` or `OSError` is about what the user gave.
      kind: the dataclass of its flags.
      argv: the arguments behind the name of the command.
      prog: the command as people type it.
      computes: whether it needs devices.
    """
    flags = parse(kind, argv, prog=prog)
    if computes:
        find_devices()
    try:
        work(flags)
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        if output_fails(error):
            return complain(prog, f"the output cannot be written: {first_line(error)}", FAILED)
        said = in_flags(error, kind)
        raise BadArguments(said if isinstance(error, FieldError) else with_page(said, prog)) from error
    return DONE


class Job(NamedTuple):
    """Something that trains in a folder."""

    folder: Path
    train: Callable[[], dict[str, Any]]
    """Trains to the end, or until it is told to stop; returns the summary."""
    is_finished: bool
    write_page: Callable[[Path], object]
    show: Callable[[dict[str, Any], Path], None]
    """Prints the summary of what has come to its end."""


def run_job(command: str, flags: Any, prepare: Callable[[], Job]) -> int:
    """Trains in a folder. What is wrong with the arguments comes to light in `prepare`; later errors are the run's."""
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
            _add_page(job)
            print(f"{folder} is finished: there is nothing to resume.")
            return DONE
        return _end(command, job, job.train(), quiet=flags.run.quiet)
    except KeyboardInterrupt:
        return _interrupted(command, folder)
    except BrokenPipeError:
        raise
    except Exception as error:
        return _failed(command, folder, error, debug=flags.run.debug)


def options_of(flags: Any, command: str, argv: list[str]) -> Options:
    """What the flags say of a run besides its numbers, and the command line that repeats it."""
    names = {field.name for field in dataclasses.fields(Options)}
    given = {name: x for part in (flags.run, flags.hosts) for name, x in vars(part).items() if name in names}
    again = [token for token in argv if token != "--resume"]
    return Options(command=shlex.join(["isjax", command, *again]), **given)


def _end(command: str, job: Job, summary: dict[str, Any], *, quiet: bool) -> int:
    if summary["status"] == "interrupted":
        return _interrupted(command, job.folder)
    _add_page(job)
    if not quiet and jax.process_index() == 0:
        job.show(summary, job.folder)
    if not summary["alive"]:
        return complain(f"isjax {command}", f"every learner died; {job.folder / SUMMARY} says when.", FAILED)
    return DONE


def _add_page(job: Job) -> None:
    """Writes the page of a job that is finished, if it is not there: a run may have been stopped just before."""
    if jax.process_index():
        return
    tidy(job.folder)
    if not (job.folder / REPORT).exists():
        job.write_page(job.folder)


def _failed(command: str, folder: Path, error: Exception, *, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    if output_fails(error):
        return complain(f"isjax {command}", f"the output cannot be written: {first_line(error)}", FAILED)
    if isinstance(error, Damaged):  # what a folder holds is input, which was bad
        return complain(f"isjax {command}", str(error))
    reason = f"the run failed: {first_line(error)}"
    if _holds_something(folder):
        reason = f"{reason.rstrip('.')}. {_again(command, folder)}"
    return complain(f"isjax {command}", reason, FAILED)


def _interrupted(command: str, folder: Path) -> int:
    if _holds_something(folder):
        tell(f"Interrupted. {_again(command, folder)}")
    else:
        tell("Interrupted before anything was written.")
    return INTERRUPTED


def _holds_something(folder: Path) -> bool:
    return (folder / CONFIG).exists() or (folder / SWEEP).exists()


def _again(command: str, folder: Path) -> str:
    return "To go on: " + shlex.join(["isjax", command, "--resume", "--out", str(folder)])
