"""Files of logs as columns, one module a family of formats; whatever is wrong with a file is one line."""

import contextlib
import gzip
import os
import stat
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from isjax.ope.readers.json_lines import read_json_lines
from isjax.ope.readers.npz import read_npz
from isjax.ope.readers.reading import Choose, Columns
from isjax.ope.readers.table import read_csv, read_parquet
from isjax.ope.readers.vowpal_wabbit import VOWPAL_WABBIT, is_dsjson, read_dsjson


def _read_json(file: IO[bytes], choose: Choose) -> Columns:
    return read_dsjson(file, choose) if is_dsjson(file) else read_json_lines(file, choose)


READERS: dict[str, Callable[[IO[bytes], Choose], Columns]] = {
    "parquet": read_parquet,
    "csv": read_csv,
    "npz": read_npz,
    "jsonl": _read_json,
    **VOWPAL_WABBIT,
}
"""By the name of a format."""
FORMATS = {f".{name}": name for name in READERS} | {".json": "jsonl", ".ndjson": "jsonl", ".dat": "vw"}
"""By the end of a file's name; `.gz` may follow."""
MOST_UNPACKED = 2**36
"""Bytes that a compressed file may unpack to."""
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def format_of(path: Path, name: str = "") -> str:
    """The format that a file is to be read as: the one asked for, or the one that its name ends in.

    Raises:
      ValueError: the name tells nothing.
    """
    if name:
        return name
    suffixes = [suffix.lower() for suffix in path.suffixes]
    suffix = suffixes[-2] if len(suffixes) > 1 and suffixes[-1] == ".gz" else (suffixes or [""])[-1]
    if suffix not in FORMATS:
        raise ValueError(f"{path} must end in {', '.join(FORMATS)} to be read as a log; .gz may follow.")
    return FORMATS[suffix]


def read_columns(path: Path, choose: Choose, *, kind: str) -> Columns:
    """The columns of a file, each as long as the file has rows; what they hold is not checked.

    Args:
      path: a file, compressed by gzip if its name ends in .gz.
      choose: from the names of all columns to those that are read.
      kind: one of `READERS`.

    Raises:
      ValueError: there is no such file, or it cannot be read.
      OSError: the system refuses.
    """
    with _opened(path) as file:
        try:
            return READERS[kind](file, choose)
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
        if path.suffix.lower() != ".gz":
            yield file
            return
        with tempfile.TemporaryFile() as unpacked:
            _unpack(path, file, unpacked)
            yield unpacked


def _unpack(path: Path, packed: IO[bytes], unpacked: IO[bytes]) -> None:
    """Raises `ValueError` for what gzip did not write, and for more than anyone has room for."""
    try:
        with gzip.GzipFile(fileobj=packed) as content:
            while block := content.read(2**22):
                if unpacked.tell() > MOST_UNPACKED:
                    raise ValueError(f"{path} must unpack to at most {MOST_UNPACKED:,} bytes.")
                unpacked.write(block)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: it is not a gzip file that can be read ({error}).") from error
    unpacked.seek(0)
