"""`isjax train`: its flags, the settings that they start from, and the run that they ask for."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro
from rich.table import Table

from isjax.commands.flags import BadArguments, in_flags, parse, peek, present_flags
from isjax.commands.output import print_whole
from isjax.commands.running import Job, options_of, run_job
from isjax.commands.settings_file import File
from isjax.learner.config import Config, Hyper

T = TypeVar("T")

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
    checkpoints_kept: int = 2
    """The newest ones; older ones are removed."""
    film: Annotated[int, tyro.conf.arg(metavar="EVERY", help_behavior_hint="(default: none)")] = 0
    """Environment steps of a learner between films of an episode of the best one of the moment, in the page and in
    films/. Training waits for each."""
    learners_per_group: Annotated[int, tyro.conf.arg(help_behavior_hint="(default: as memory allows)")] = 0
    """Learners that train at once on one host; groups train one after the other."""
    devices: Annotated[int, tyro.conf.arg(help_behavior_hint="(default: all)")] = 0
    """Devices to spread the learners over; on a CPU, a core each."""
    devices_per_learner: int = 1
    """Devices that share each learner's environments, and reduce its gradient."""
    compilation_cache: Annotated[str, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: none)")] = ""
    """Keep compiled programs here: a run like an earlier one starts without compiling."""
    sink: Literal["none", "tensorboard", "wandb"] = "none"
    """Where curves go besides the run folder."""
    quiet: Annotated[_On, tyro.conf.arg(help_behavior_hint="")] = False
    """Say nothing unless it fails."""
    debug: Annotated[_On, tyro.conf.arg(help_behavior_hint="")] = False
    """Show the traceback of a run that fails."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HostFlags:
    """Several hosts at one run; --out is a folder that all of them see."""

    distributed: Annotated[_On, tyro.conf.arg(help_behavior_hint="")] = False
    """Join the other processes. SLURM, Open MPI, Kubernetes and TPUs say where they are; elsewhere give the next
    three."""
    coordinator: Annotated[str, tyro.conf.arg(metavar="HOST:PORT", help_behavior_hint="")] = ""
    """Where the first process listens."""
    processes: Annotated[int, tyro.conf.arg(help_behavior_hint="")] = 0
    """How many there are."""
    process: Annotated[int, tyro.conf.arg(help_behavior_hint="")] = -1
    """Which one this is, from 0."""
    host_timeout: float = 60.0
    """Seconds of silence after which another host counts as lost, and this one stops."""


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
    hosts: HostFlags
    program: Config
    """What is learned and how; fixed when the program is compiled."""
    learning: HyperFlags  # type: ignore[valid-type]
    """Numbers of the learning rule."""


def main(argv: list[str]) -> int:
    """Runs `isjax train`."""
    argv = present_flags(argv)
    start = saved_settings(argv) if "--resume" in argv else starting_point(argv)
    flags = parse(TrainFlags, argv, prog="isjax train", default=start)

    def prepare() -> Job:
        from isjax.report import write_report
        from isjax.run.integrity import is_finished
        from isjax.run.plan import Plan
        from isjax.run.train import Run

        numbers = {name: getattr(flags.run, name) for name in ("learners", "seed", "log_every")}
        plan = Plan(config=flags.program, hyper=Hyper(**vars(flags.learning)), **numbers)
        folder = Path(flags.run.out) if flags.run.out else None
        how = {"options": options_of(flags, "train", argv), "write_page": write_report}
        run = Run(plan, folder, resume=flags.run.resume, **how)
        return Job(run.folder, run.train, is_finished(run.folder), write_report, print_summary)

    return run_job("train", flags, prepare)


def starting_point(
    argv: list[str],
    env: str | None = None,
    algorithm: str | None = None,
    unroll_length: int | None = None,
    *,
    file: File | None = None,
) -> TrainFlags:
    """Defaults of the environment, algorithm and length of unrolls, and what a file says in place of them."""
    from isjax.learner.defaults import defaults, with_unroll_length

    given = file.flags if file else {}
    env = env or peek(argv, "--env") or str(given.get("env", Config.env))
    algorithm = algorithm or peek(argv, "--algorithm") or str(given.get("algorithm", Config.algorithm))
    try:
        config, hyper = defaults(env, algorithm)
        length = str(unroll_length or peek(argv, "--unroll-length") or given.get("unroll_length"))
        if length.isascii() and length.isdigit() and int(length):
            config = with_unroll_length(config, int(length))
        parts = {"run": RunFlags(), "hosts": HostFlags(), "program": config, "learning": HyperFlags(**vars(hyper))}
        return TrainFlags(**{name: replaced(part, given) for name, part in parts.items()})
    except ValueError as error:
        raise BadArguments(in_flags(error, TrainFlags)) from error


def replaced(part: T, values: Mapping[str, Any]) -> T:
    """The same with those of the values that are fields of it."""
    own = {field.name for field in dataclasses.fields(part) if field.name not in ("env", "algorithm")}  # type: ignore[arg-type]
    return dataclasses.replace(part, **{name: x for name, x in values.items() if name in own})  # type: ignore[type-var]


def saved_settings(argv: list[str]) -> TrainFlags:
    """Those of the run to resume."""
    from isjax.run.files import CONFIG, read_json
    from isjax.run.plan import Plan

    out = peek(argv, "--out")
    if not out:
        raise BadArguments("--resume needs --out, the folder of the run.")
    try:
        plan = Plan.from_json(read_json(Path(out) / CONFIG))
    except (ValueError, KeyError) as error:
        raise BadArguments(f"--resume: {error}") from error
    if plan.replicas:
        raise BadArguments(f"--resume: {out} is part of a sweep: isjax sweep --resume goes on with that.")
    run = RunFlags(learners=plan.learners, seed=plan.seed, log_every=plan.log_every)
    return TrainFlags(run=run, hosts=HostFlags(), program=plan.config, learning=HyperFlags(**vars(plan.hyper)))


def print_summary(summary: dict[str, Any], folder: Path) -> None:
    """The table at the end, on stdout."""
    from isjax.run.format import headline

    title = f"{summary['algorithm']} on {summary['environment']}, {summary['env_steps_per_learner']:,} steps a learner"
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for row in headline(summary):
        table.add_row(*row)
    table.add_row("Run folder", str(folder))
    print_whole(table)
