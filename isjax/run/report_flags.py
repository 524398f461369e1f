"""What `isjax report` can be asked for."""

import dataclasses
from typing import Annotated

import tyro


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
