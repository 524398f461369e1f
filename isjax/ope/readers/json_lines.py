"""JSON lines: an object a row, or an object a batch whose fields are lists, as RLlib writes them."""

import json
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from isjax.ope.readers.reading import MOST_BYTES, Choose, Columns

JSON = "a file of JSON lines"


def read_json_lines(file: IO[bytes], choose: Choose) -> Columns:
    """The fields of the objects of a file, one a line; or of one array of objects that is the whole file.

    Fields that are lists are columns of a batch, all of one length.

    Raises:
      ValueError: a line is no JSON object, or lacks a field that others have.
    """
    kinds: dict[str, Any] | None = None
    cells: dict[str, list[Any]] = {}
    for line, found in objects(file):
        if kinds is None:
            kinds = dict(choose(list(found)))
            cells = {name: [] for name in kinds}
        _append(cells, found, line)
    if kinds is None:
        choose([])
    return {name: _array(x) for name, x in cells.items()}


def objects(file: IO[bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each object with the number of its line, counted from 1.

    Raises:
      ValueError: a line is no JSON object.
    """
    first = file.read(1)
    while first.isspace():
        first = file.read(1)
    file.seek(0)
    if first == b"[":
        found = _parsed(file.read(MOST_BYTES), "the array")
        for number, each in enumerate(found, 1):
            yield number, _object(each, f"entry {number}")
        return
    number = 0
    while line := file.readline(MOST_BYTES):
        number += 1
        if line.strip():
            yield number, _object(_parsed(line, f"line {number}"), f"line {number}")


def _parsed(text: bytes, place: str) -> Any:
    try:
        return json.loads(text.decode("utf-8-sig"), parse_int=_whole)
    except UnicodeDecodeError:
        raise ValueError(f"it must be in UTF-8, but {place} is not.") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not {JSON} that can be read ({place}: {str(error) or 'too deep'}).") from error


def _whole(text: str) -> int | float:
    return int(text) if len(text) < 40 else float(text)


def _object(found: Any, place: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ValueError(f"each line must be a JSON object, but {place} is {json.dumps(found)[:60]}.")
    return found


def _append(cells: dict[str, list[Any]], found: dict[str, Any], line: int) -> None:
    """The rows of one object, after those before."""
    values = {}
    for name in cells:
        if name not in found:
            raise ValueError(f"column {name} is missing in line {line}, which has {', '.join(found) or 'none'}.")
        values[name] = found[name]
    lengths = {name: len(x) for name, x in values.items() if isinstance(x, list)}
    if not lengths:
        for name, x in values.items():
            cells[name].append(x)
        return
    if len(lengths) < len(values) or len(set(lengths.values())) > 1:
        found_lengths = ", ".join(f"{name} {lengths.get(name, 'a single value')}" for name in values)
        raise ValueError(f"the lists of line {line} must be equally long, but there are {found_lengths}.")
    for name, x in values.items():
        cells[name].extend(x)


def _array(cells: list[Any]) -> np.ndarray:
    """Numbers as numbers; whole ones stay exact. `null` is no number."""
    if all(type(x) is float for x in cells):
        return np.array(cells, np.float64)
    if all(type(x) is int and -(2**63) <= x < 2**63 for x in cells):
        return np.array(cells, np.int64)
    found = np.empty(len(cells), object)
    found[:] = [np.nan if x is None else x for x in cells]
    return found
