"""`isjax sweep`: its flags, the settings that they and a file ask for, and the runs of all of them."""

import dataclasses
import functools
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Table

from isjax.commands.flags import parse, peek, present_flags
from isjax.commands.output import print_whole, tell
from isjax.commands.running import Job, options_of, run_job
from isjax.commands.settings_file import File, read_file
from isjax.commands.train import HostFlags, HyperFlags, RunFlags, replaced, starting_point
from isjax.errors import FieldError
from isjax.learner.config import Config, Hyper
from isjax.run.files import LEARNERS, SUMMARY
from isjax.run.names import flag_of

SHOWN = 10
"""Settings that are printed, the best ones."""

_Several = tyro.conf.UseAppendAction[list[str]]


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


def main(argv: list[str]) -> int:
    """Runs `isjax sweep`."""
    argv = present_flags(argv)
    path = peek(argv, "--file")
    file = read_file(path, SweepFlags) if path else File()
    flags = _given(argv, file)
    return run_job("sweep", flags, lambda: _prepare(flags, argv, file))


def _given(argv: list[str], file: File, *names: str, unroll_length: int | None = None) -> SweepFlags:
    """The flags over the defaults of an environment and algorithm."""
    start = starting_point(argv, *names, unroll_length=unroll_length, file=file)
    parts = {name: getattr(start, name) for name in ("run", "hosts", "program", "learning")}
    return parse(SweepFlags, argv, prog="isjax sweep", default=replaced(SweepFlags(**parts), file.flags))


def _prepare(flags: SweepFlags, argv: list[str], file: File) -> Job:
    from isjax.report import write_report
    from isjax.report.sweep import write_sweep_report
    from isjax.run.integrity import is_finished
    from isjax.run.sweep import Sweep, as_json, check_sweep_folder, read_sweep

    folder = Path(flags.run.out or "runs/sweep")
    if flags.run.out or flags.run.resume:
        check_sweep_folder(folder, resume=flags.run.resume)
    saved = read_sweep(folder) if flags.run.resume else None
    settings, groups = saved if saved and not decides(argv, file) else _asked_for(flags, argv, file)
    if saved and as_json(settings, groups) != as_json(*saved):
        rule = f"come with the settings of the sweep in {folder}, or with none"
        raise FieldError("resume", rule, "on", "{field} must {rule}.")
    own = folder if flags.run.out or flags.run.resume else None
    how = {"options": options_of(flags, "sweep", argv), "write_page": write_report}
    run = Sweep(settings, groups, own, resume=flags.run.resume, **how)
    if not flags.run.quiet:
        tell(f"{len(settings):,} settings of {groups[0].plan.per_setting:,} learners, {len(groups)} to compile.")
    folder = own or run.folder
    return Job(folder, run.train, is_finished(folder), write_sweep_report, print_sweep)


def _asked_for(flags: SweepFlags, argv: list[str], file: File) -> tuple[list[dict[str, Any]], list[Any]]:
    """The settings, and the groups that share a program each."""
    from isjax.run.settings import Space, group, joined, read_draws, read_vary

    def base(env: str, algorithm: str, unroll_length: int | None) -> tuple[Config, Hyper]:
        given = _given(argv, file, env, algorithm, unroll_length=unroll_length)
        return dataclasses.replace(given.program, env=env, algorithm=algorithm), Hyper(**vars(given.learning))

    vary = joined("vary", file.vary, read_vary(flags.vary))
    space = Space(vary, joined("draw", file.draw, read_draws(flags.draw)), flags.draws)
    settings = space.settings(flags.run.seed)
    numbers = {name: getattr(flags.run, name) for name in ("learners", "seed", "log_every")}
    return settings, group(settings, functools.cache(base), flags.program, numbers | {"halvings": flags.halvings})


def decides(argv: list[str], file: File) -> bool:
    """Whether any of these flags has a say in the numbers."""
    names = {field.name for flags in (RunFlags, HostFlags) for field in dataclasses.fields(flags)}
    others = {flag_of(name) for name in (names | {"file"}) - {"learners", "seed", "log_every"}}
    given = {token.partition("=")[0].replace("_", "-") for token in argv if token.startswith("--")}
    return bool((given | {flag_of(name) for name in file.flags}) - others or file.vary or file.draw)


def print_sweep(summary: dict[str, Any], folder: Path) -> None:
    """The best settings, and how to go on with the first."""
    from isjax.run.format import interval, number, rate

    ranked = summary["settings"]
    names = list(ranked[0]["values"])
    title = f"{len(ranked):,} settings, {summary['learners']:,} learners"
    table = Table(title=title, title_justify="left")
    for name in ("", *names, "IQM return", "95 % interval", "alive"):
        table.add_column(name, justify="right", overflow="fold")
    for row in ranked[:SHOWN]:
        values = [str(row["values"][name]) for name in names]
        given_up = f"  (to update {row['updates']:,})" if row["given_up"] else ""
        table.add_row(
            str(row["rank"]),
            *values,
            number(row["iqm"]) + given_up,
            interval(row["ci95"]),
            f"{row['alive']} of {row['learners']}",
        )
    print_whole(table)
    if len(ranked) > SHOWN:
        print(f"The first {SHOWN} of {len(ranked):,}; all of them are in {folder / SUMMARY}.")
    print(f"{rate(summary['env_steps_per_s'])} steps/s over all learners; a row a learner: {folder / LEARNERS}")
    print(f"The first one again: {ranked[0]['train']}")
    if len(ranked) > 1:
        print("Being chosen flatters it: for what it is worth, add another --seed.")
