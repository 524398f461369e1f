"""Files of logs as columns, one module a family of formats; whatever is wrong with a file is one line."""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from isjax.ope.readers.npz import read_npz
from isjax.ope.readers.reading import Choose, Columns
from isjax.ope.readers.table import read_csv, read_parquet

READERS: dict[str, Callable[[IO[bytes], Choose], Columns]] = {
    ".parquet": read_parquet,
    ".csv": read_csv,
    ".npz": read_npz,
}
"""By the end of a file's name."""
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_columns(path: Path, choose: Choose) -> Columns:
    """The columns of a file, each as long as the file has rows; what they hold is not checked.

    Args:
      path: a file whose name ends in one of `READERS`.
      choose: from the names of all columns to those that are read.

    Raises:
      ValueError: there is no such file, or it cannot be read.
      OSError: the system refuses.
    """
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise ValueError(f"{path} must end in {', '.join(READERS)} to be read as a log.")
    with _opened(path) as file:
        try:
            return READERS[suffix](file, choose)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """An ordinary file: to open a pipe would wait for whoever writes into it."""
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except FileNotFoundError:
        found = "a link to what is not there" if os.path.islink(path) else "missing"
        raise ValueError(f"{path} is {found}.") from None
    except ValueError as error:
        raise ValueError(f"{path} cannot be the name of a file: {error}.") from error
    if kind != stat.S_IFREG:
        raise ValueError(f"{path} is {_KINDS.get(kind, 'no file')}, not a log.")
    with open(path, "rb") as file:
        yield file
