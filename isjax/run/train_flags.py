"""The flags of `isjax train` and `isjax sweep`, and the settings that they start from."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from isjax.learner.config import Config, Hyper
from isjax.run.file import File
from isjax.run.flags import BadArguments, flag_of, in_flags, peek

T = TypeVar("T")

_On = tyro.conf.FlagCreatePairsOff[bool]
_Several = tyro.conf.UseAppendAction[list[str]]


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepFlags:
    """Train every combination of settings, each with the same learners, and rank them.

    Numbers of the learning rule share one compiled program; every other field makes a program a value. All other
    flags are those of isjax train, and hold for every setting.
    """

    vary: Annotated[_Several, tyro.conf.arg(metavar="NAME=VALUE,VALUE,...", help_behavior_hint="(repeatable)")] = (
        dataclasses.field(default_factory=list)
    )
    """Values of a field; of several fields, the grid is trained."""
    draw: Annotated[_Several, tyro.conf.arg(metavar="NAME=SCALE:LOW:HIGH", help_behavior_hint="(repeatable)")] = (
        dataclasses.field(default_factory=list)
    )
    """Random values of a field, SCALE being uniform or log."""
    draws: int = 1
    """How often they are drawn; each time for the whole grid."""
    halvings: int = 0
    """How often, on the way, the weaker half of a program's settings is given up: with 2, after 1/4 and 1/2."""
    file: Annotated[str, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = ""
    """TOML: flags at the top by their names with underscores, lists in [vary], {scale, low, high} in [draw]. The
    command line has the last word."""
    run: RunFlags
    hosts: HostFlags
    program: Config
    """What is learned and how; fixed when the program is compiled."""
    learning: HyperFlags  # type: ignore[valid-type]
    """Numbers of the learning rule."""


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
    from isjax.run.files import read_json
    from isjax.run.plan import CONFIG, Plan

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


def decides(argv: list[str], file: File) -> bool:
    """Whether any of these flags has a say in the numbers."""
    names = {field.name for flags in (RunFlags, HostFlags) for field in dataclasses.fields(flags)}
    others = {flag_of(name) for name in (names | {"file"}) - {"learners", "seed", "log_every"}}
    given = {token.partition("=")[0].replace("_", "-") for token in argv if token.startswith("--")}
    return bool((given | {flag_of(name) for name in file.flags}) - others or file.vary or file.draw)
