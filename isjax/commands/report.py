"""`isjax report`: the page of a run or a sweep, or one that compares several runs."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from isjax.commands.flags import BadArguments, in_flags, parse
from isjax.commands.output import DONE, check_own


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportFlags:
    """Write the page of a run, finished or not, or of a sweep; or one that compares several runs."""

    folders: Annotated[list[str], tyro.conf.Positional, tyro.conf.arg(metavar="DIR [DIR ...]", help_behavior_hint="")]
    """The folder of a run or of a sweep; several folders of runs to compare them."""
    out: Annotated[
        str,
        tyro.conf.arg(
            metavar="FILE",
            help_behavior_hint="(default: report.html in the folder, or comparison.html here for several)",
        ),
    ] = ""
    """The page."""


def main(argv: list[str]) -> int:
    """Runs `isjax report`."""
    flags = parse(ReportFlags, argv, prog="isjax report")
    if not flags.folders:
        raise BadArguments("DIR is missing.")
    try:
        print(_write([Path(folder) for folder in flags.folders], Path(flags.out) if flags.out else None))
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        raise BadArguments(in_flags(error, ReportFlags)) from error
    return DONE


def _write(folders: list[Path], out: Path | None) -> Path:
    """Writes the page that the folders ask for; returns its path."""
    from isjax.report import write_report
    from isjax.report.comparison import write_comparison
    from isjax.report.sweep import write_sweep_report
    from isjax.run.sweep import holds_sweep

    for folder in folders:
        check_own("out", out or folder, folder)
    sweeps = [folder for folder in folders if holds_sweep(folder)]
    if len(folders) > 1 and sweeps:
        raise ValueError(f"Runs can be compared, but {sweeps[0]} is a sweep: it has a page of its own.")
    if len(folders) > 1:
        return write_comparison(folders, out)
    return (write_sweep_report if sweeps else write_report)(folders[0], out)
