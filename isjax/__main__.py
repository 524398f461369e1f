"""The command `isjax`, also as `python -m isjax`."""

import contextlib
import os
import sys
from typing import Any

from isjax.signals import on_stop

INTERRUPTED = 130


def main() -> int:
    """Loads the command line, which takes a second or two, and runs it; whoever interrupts the loading ends it."""
    with on_stop(_leave):
        _fill_closed_streams()
        from isjax.cli import main as command

        return command()


def _leave(number: int, frame: Any) -> None:
    """Ends at once: an exception in the middle of imports could come out as any other, or not at all."""
    with contextlib.suppress(OSError):
        os.write(2, b"Interrupted before anything was written.\n")
    os._exit(INTERRUPTED)


def _fill_closed_streams() -> None:
    """Puts /dev/null where a standard stream is closed, so that no file takes its number."""
    number = os.open(os.devnull, os.O_RDWR)
    while number <= 2:
        number = os.dup(number)
    os.close(number)
    for name, mode in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(mode, "w", closefd=False))  # noqa: SIM115


if __name__ == "__main__":
    sys.exit(main())
