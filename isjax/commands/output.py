"""What a command prints, where nobody may be there to read it, and the code that it ends with.

Imported before arguments are known to be good: it loads nothing that takes long.
"""

import contextlib
import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from isjax.errors import FieldError, in_one_line

if TYPE_CHECKING:
    from rich.table import Table

DONE, FAILED, BAD_ARGUMENTS, INTERRUPTED = 0, 1, 2, 130
"""Exit codes."""
LONGEST_WORD = 30
"""In a table, what is longer, such as a path, may go on in the next line."""


class BadArguments(Exception):
    """One line about what the user gave, and what is allowed."""


def output_fails(error: Exception) -> bool:
    """Whether an error is that of stdout, which has no room or is no longer there; if so the output is dropped."""
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EIO, errno.EBADF):
        return False
    try:
        os.write(sys.stdout.fileno(), b"\n")
    except OSError:
        drop_output()
        return True
    return False


def drop_output() -> None:
    """Nothing more reaches stdout, nor is anything left that Python would try to write as it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.stdout.flush()


def tell(line: str) -> None:
    """A line on stderr, if there is anyone to read it."""
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


def complain(prog: str, message: str, code: int = BAD_ARGUMENTS) -> int:
    """Says on one line what is wrong; returns the exit code."""
    tell(in_one_line(f"{prog}: error: {message}"))
    return code


def first_line(error: Exception) -> str:
    """What an error says; of an error that is not our own, the type too."""
    if type(error).__module__.startswith("isjax"):
        return str(error)
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def check_own(field: str, out: Path, folder: Path) -> None:
    """Raises `ValueError` where an output would take the place of a file that a run or sweep consists of."""
    from isjax.run.files import CONFIG, LEARNERS, METRICS, SUMMARY, SWEEP

    if out.name in (CONFIG, METRICS, SUMMARY, SWEEP, LEARNERS) and out.resolve().parent == folder.resolve():
        raise FieldError(field, f"another file than those of {folder}", out)


def print_whole(table: "Table") -> None:
    """Prints a table, wider than the terminal where a number or a word would have to be cut otherwise."""
    from rich.console import Console

    for column in table.columns:
        cells = [str(cell) for cell in (column.header, *column.cells)]
        words = cells if column.no_wrap else [word for cell in cells for word in cell.split()]
        column.min_width = min(LONGEST_WORD, max(map(len, words), default=0))
    console = Console()
    console.width = max(console.width, sum((column.min_width or 0) + 3 for column in table.columns) + 1)
    console.print(table, highlight=False, markup=False)
