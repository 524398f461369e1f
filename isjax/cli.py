"""The command line: `isjax train`, `isjax record`, `isjax evaluate` and `isjax report`.

What `--help` and a mistyped flag need is imported here, everything else once the arguments are known to be good.
Exit codes: 0 done, 1 the run failed, 2 bad arguments or input, 130 interrupted and resumable.
"""

import contextlib
import dataclasses
import io
import os
import shlex
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import jax
import tyro

from isjax import __version__
from isjax.learner.config import Config, Hyper
from isjax.run.flags import BadArguments, in_flags, parse, peek

DONE, FAILED, BAD_ARGUMENTS, INTERRUPTED = 0, 1, 2, 130

USAGE = """\
usage: isjax COMMAND [OPTIONS]

Importance sampling for reinforcement learning: thousands of learners in one
compiled program.

commands:
  train     train a population of learners, and keep what they did in a folder
  record    log episodes of a trained learner, or of a mixture with uniform
  evaluate  estimate the value of a policy from a log of another one's episodes
  report    rebuild the page of a run folder

isjax COMMAND --help explains a command; isjax --version names the version.
A first run: isjax train --env CartPole-v1 --learners 64
"""

_On = tyro.conf.FlagCreatePairsOff[bool]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunFlags:
    """How many learners, and what is kept of them."""

    learners: int = 64
    """Learners of the population, all in one compiled program."""
    seed: int = 0
    """Everything random follows from it."""
    out: Annotated[str, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: runs/ENV-ALGORITHM-SEED)")] = ""
    """Run folder: settings, table of metrics, checkpoints, summary, page."""
    resume: Annotated[_On, tyro.conf.arg(help_behavior_hint="")] = False
    """Go on with the run in --out, exactly as if it had not stopped. Settings that are left out are its own."""
    log_every: Annotated[int, tyro.conf.arg(help_behavior_hint="(default: so that there are about 100 rows)")] = 0
    """Updates per row of the table of metrics, and between looks at the clock or at Ctrl-C."""
    checkpoint_every: float = 60.0
    """Seconds between checkpoints; 0 writes one for every row of the table."""
    devices: Annotated[int, tyro.conf.arg(help_behavior_hint="(default: all)")] = 0
    """Devices to spread the learners over; on a CPU, a core each."""
    sink: Literal["none", "tensorboard", "wandb"] = "none"
    """Where curves go besides the run folder."""
    quiet: Annotated[_On, tyro.conf.arg(help_behavior_hint="")] = False
    """Say nothing unless it fails."""
    debug: Annotated[_On, tyro.conf.arg(help_behavior_hint="")] = False
    """Show the traceback of a run that fails."""


# A flag cannot end in an underscore, as the field that would be a keyword does.
HyperFlags = dataclasses.make_dataclass(
    "HyperFlags", [("lambda_", Annotated[float, tyro.conf.arg(name="lambda")])], bases=(Hyper,), frozen=True
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainFlags:
    """Train a population of learners, and keep what they did in a folder.

    Defaults are those of the chosen --env and --algorithm.
    """

    run: RunFlags
    program: Config
    """What is learned and how; fixed when the program is compiled."""
    learning: HyperFlags  # type: ignore[valid-type]
    """Numbers of the learning rule."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportFlags:
    """Rebuild report.html of a run folder, finished or not."""

    folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """The run folder."""


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # γ on a terminal that knows no Greek
    commands = {"train": train, "record": record, "evaluate": evaluate, "report": report}
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return DONE if argv else BAD_ARGUMENTS
    if argv[0] == "--version":
        print(__version__)
        return DONE
    if argv[0] not in commands:
        return _complain("isjax", f"command must be one of {', '.join(commands)}, but it is {argv[0]!r}.")
    try:
        return commands[argv[0]](argv[1:])
    except BadArguments as error:
        return _complain(f"isjax {argv[0]}", str(error))
    except BrokenPipeError:  # whoever read the output has seen enough; nor is anything left to flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except SystemExit as stop:  # of --help
        return int(stop.code or 0)


def train(argv: list[str]) -> int:
    """`isjax train`."""
    flags = parse(TrainFlags, argv, prog="isjax train", default=_starting_point(argv))
    _use_every_core()
    before = signal.signal(signal.SIGTERM, _interrupt)
    from isjax.run.store import Plan, free_folder

    try:
        plan = Plan(
            config=flags.program,
            hyper=Hyper(**vars(flags.learning)),
            **{name: getattr(flags.run, name) for name in ("learners", "seed", "log_every")},
        )
        folder = Path(flags.run.out) if flags.run.out else free_folder(plan)
        return _train(plan, folder, flags.run, _without(argv, "--resume"))
    except ValueError as error:
        raise BadArguments(in_flags(str(error), TrainFlags)) from error
    finally:
        signal.signal(signal.SIGTERM, before)


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
    try:
        run(flags)
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        raise BadArguments(in_flags(str(error), kind)) from error
    except KeyboardInterrupt:
        print("Interrupted before anything was written.", file=sys.stderr)
        return INTERRUPTED
    return DONE


def report(argv: list[str]) -> int:
    """`isjax report`."""
    flags = parse(ReportFlags, argv, prog="isjax report")
    from isjax.run.report import write_report

    try:
        print(write_report(Path(flags.folder)))
    except ValueError as error:
        raise BadArguments(str(error)) from error
    return DONE


def _train(plan: Any, folder: Path, flags: RunFlags, argv: list[str]) -> int:
    """Raises `ValueError` for what is wrong with the arguments; everything later is the run that failed."""
    try:
        from isjax.run.train import Options, Run, is_finished

        options = Options(
            command=shlex.join(["isjax", "train", *argv]),
            **{name: getattr(flags, name) for name in ("checkpoint_every", "devices", "sink", "quiet")},
        )
        run = Run(plan, folder, resume=flags.resume, options=options)
        if flags.resume and is_finished(folder):
            print(f"{folder} is finished: there is nothing to resume.")
            return DONE
    except KeyboardInterrupt:
        return _interrupted(folder)
    except TypeError as error:
        raise ValueError(str(error)) from error
    try:
        return _finish(run.train(), folder, quiet=flags.quiet)
    except KeyboardInterrupt:
        return _interrupted(folder)
    except Exception as error:
        if flags.debug:
            traceback.print_exc()
        return _complain("isjax train", f"the run failed: {_first_line(error)}", FAILED)


def _finish(summary: dict[str, Any], folder: Path, *, quiet: bool) -> int:
    if summary["status"] == "interrupted":
        return _interrupted(folder)
    if not quiet:
        from isjax.run.progress import print_summary

        print_summary(summary, folder)
    if not summary["alive"]:
        return _complain("isjax train", f"every learner died; {folder / 'summary.json'} says when.", FAILED)
    return DONE


def _interrupted(folder: Path) -> int:
    from isjax.run.store import holds_run

    if holds_run(folder):
        again = shlex.join(["isjax", "train", "--resume", "--out", str(folder)])
        print(f"Interrupted. To go on: {again}", file=sys.stderr)
    else:
        print("Interrupted before anything was written.", file=sys.stderr)
    return INTERRUPTED


def _interrupt(number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def _use_every_core() -> None:
    """On a CPU, a virtual device for each core; a number given in XLA_FLAGS stays what it is."""
    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(RuntimeError):  # devices that are in use already stay what they are
        jax.config.update("jax_num_cpu_devices", cores)


def _starting_point(argv: list[str]) -> TrainFlags:
    """Defaults of the environment and algorithm that are asked for, or of the run to resume."""
    from isjax.learner.defaults import defaults

    if "--resume" in argv:
        return _saved_settings(peek(argv, "--out"))
    env, algorithm = peek(argv, "--env") or Config.env, peek(argv, "--algorithm") or Config.algorithm
    try:
        config, hyper = defaults(env, algorithm)
    except ValueError as error:
        raise BadArguments(in_flags(str(error), TrainFlags)) from error
    return TrainFlags(run=RunFlags(), program=config, learning=HyperFlags(**vars(hyper)))


def _saved_settings(out: str | None) -> TrainFlags:
    from isjax.run.store import CONFIG, Plan, read_json

    if not out:
        raise BadArguments("--resume needs --out, the folder of the run.")
    try:
        plan = Plan.from_json(read_json(Path(out) / CONFIG))
    except (ValueError, KeyError) as error:
        raise BadArguments(f"--resume: {error}") from error
    if any(isinstance(x, list) for x in vars(plan.hyper).values()):
        raise BadArguments(f"--resume: the learners of {out} have settings of their own, which flags cannot say.")
    run = RunFlags(learners=plan.learners, seed=plan.seed, log_every=plan.log_every)
    return TrainFlags(run=run, program=plan.config, learning=HyperFlags(**vars(plan.hyper)))


def _without(argv: list[str], flag: str) -> list[str]:
    return [token for token in argv if token != flag]


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def _complain(prog: str, message: str, code: int = BAD_ARGUMENTS) -> int:
    print(f"{prog}: error: {' '.join(message.split())}", file=sys.stderr)
    return code
