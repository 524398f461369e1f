"""What all readers share: the columns they give, and one line for whatever their libraries raise."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

import numpy as np

Columns = dict[str, np.ndarray]
Kind: TypeAlias = Literal["whole", "number", "label"]
"""Whole numbers, which have to stay exact; numbers; or names of any kind, numbers among them."""
Choose = Callable[[list[str]], dict[str, Kind]]
"""From the names of all columns to those that are read, and what each of them holds."""

MOST_CELLS = 2**27
"""The largest T · N that a log is packed into, and hence the most rows: 1 GiB an array of float64."""
MOST_BYTES = 2**31
"""Of one array, or of one line."""


@contextlib.contextmanager
def parsing(kind: str) -> Iterator[None]:
    """Whatever a library raises about a damaged file, as one line."""
    try:
        yield
    except Exception as error:  # RuntimeError, NotImplementedError, zlib.error, TokenError …: any of them
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        raise ValueError(f"it is not {kind} that can be read ({reason}).") from error


def check_rows(rows: int) -> None:
    """Raises `ValueError` for more rows than could ever be packed, before any of them is read."""
    if rows > MOST_CELLS:
        raise ValueError(f"the log must hold at most {MOST_CELLS:,} rows, but it claims to hold {rows:,}.")
