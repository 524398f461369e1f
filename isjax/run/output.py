"""What a command prints, where nobody may be there to read it."""

import contextlib
import errno
import os
import sys
from pathlib import Path

from isjax.errors import FieldError
from isjax.run.plan import CONFIG, LEARNERS, METRICS, SUMMARY, SWEEP

KEPT = (CONFIG, METRICS, SUMMARY, SWEEP, LEARNERS)


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


def check_own(field: str, out: Path, folder: Path) -> None:
    """Raises `ValueError` where an output would take the place of a file that a run or sweep consists of."""
    if out.name in KEPT and out.resolve().parent == folder.resolve():
        raise FieldError(field, f"another file than those of {folder}", out)
