"""The command line: the list of commands, and what all of them do alike.

A command is imported when it is called; so a command is a file with a `main`, and its line in `COMMANDS`.
Exit codes: 0 done, 1 the run failed, 2 bad arguments or input, 130 interrupted and resumable.
"""

import contextlib
import difflib
import importlib
import importlib.metadata
import io
import os
import sys
import traceback
from typing import Any, NamedTuple, NoReturn

from isjax import __version__
from isjax.commands.output import (
    BAD_ARGUMENTS,
    DONE,
    FAILED,
    INTERRUPTED,
    BadArguments,
    complain,
    drop_output,
    first_line,
    output_fails,
    tell,
)
from isjax.signals import on_stop


class Command(NamedTuple):
    """A command as the list has it."""

    help: str
    """What it does, in one line."""
    module: str
    """Where its `main` is, which takes the arguments behind its name and returns the exit code."""


COMMANDS = {
    "train": Command("train a population of learners, and keep what they did in a folder", "isjax.commands.train"),
    "sweep": Command("train every combination of settings, and rank them", "isjax.commands.sweep"),
    "best": Command("save the best learner of a run alone, evaluate and draw it", "isjax.commands.best"),
    "record": Command("log episodes of a trained learner, or of a mixture with uniform", "isjax.commands.record"),
    "evaluate": Command(
        "estimate the value of a policy from a log of another one's episodes", "isjax.commands.evaluate"
    ),
    "envs": Command("list the environments that there are, by suite", "isjax.commands.envs"),
    "report": Command("write the page of a run or a sweep, or compare runs", "isjax.commands.report"),
    "runs": Command("list the runs and sweeps below a folder, and what each came to", "isjax.commands.runs"),
    "bench": Command("measure how fast it is here, and against other libraries", "isjax.commands.bench"),
}
GROUP = "isjax.commands"
"""Entry points of this group are commands of other packages: a name, and the module that its `main` is in."""

USAGE = """\
usage: isjax COMMAND [OPTIONS]

Importance sampling for reinforcement learning: thousands of learners in one
compiled program.

commands:
{commands}

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
    if argv and argv[0] in COMMANDS:
        # JAX is loaded before interrupts are exceptions: in the middle of an import one could come out as any other.
        importlib.import_module("isjax.commands.flags")
    try:
        with on_stop(_interrupt):
            code = _command(argv)
            sys.stdout.flush()
        return _leave(code)
    except BadArguments as error:
        return _leave(complain(prog, str(error)))
    except KeyboardInterrupt:
        tell("Interrupted before anything was written.")
        return _leave(INTERRUPTED)
    except BrokenPipeError:  # whoever read the output has seen enough
        drop_output()
        return _leave(DONE)
    except Exception as error:
        if output_fails(error):
            return _leave(complain(prog, f"the output cannot be written: {first_line(error)}", FAILED))
        if "--debug" in argv:
            traceback.print_exc()
        return _leave(complain(prog, f"it failed unexpectedly: {first_line(error)}", FAILED))


def known_commands() -> dict[str, Command]:
    """The commands of this package, and those of others that are installed beside it."""
    found = {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}
    others = {name: Command(f"from {entry.value}", entry.value) for name, entry in found.items()}
    return others | COMMANDS


def _command(argv: list[str]) -> int:
    """Runs the command that the arguments begin with."""
    if argv and argv[0] in COMMANDS:
        commands = COMMANDS
    else:
        commands = known_commands()
    if not argv or argv[0] in ("-h", "--help"):
        lines = [f"  {name:<9} {command.help}" for name, command in commands.items()]
        print(USAGE.format(commands="\n".join(lines)), end="")
        return DONE if argv else BAD_ARGUMENTS
    if argv[0] == "--version":
        print(__version__)
        return DONE
    if argv[0] not in commands:
        near = difflib.get_close_matches(argv[0], commands, n=2)
        hint = f"; did you mean {' or '.join(near)}?" if near else "."
        return complain("isjax", f"command must be one of {', '.join(commands)}, but it is {argv[0]!r}{hint}")
    try:
        return importlib.import_module(commands[argv[0]].module).main(argv[1:])
    except SystemExit as stop:  # of --help
        return int(stop.code or 0)


def _leave(code: int) -> int:
    """JAX would have a process that ends early wait for the others, for minutes."""
    jax = sys.modules.get("jax")
    if code and jax and jax.distributed.is_initialized():
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    return code


def _interrupt(number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt
