"""Reading and checking a log of episodes: Parquet, CSV or NPZ."""

import csv
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from isjax.types import LoggedEpisodes

COLUMNS = ("episode", "step", "reward", "log_pi", "log_mu")
MODEL_COLUMNS = ("v", "q")
MOST_CELLS = 2**27
"""The largest T · N that a log is packed into: 512 MiB an array."""
ROUNDING = 1e-6
"""How far above 0 the logarithm of a probability may lie."""
LARGEST = 1e38
"""What is larger counts as infinite: differences have to fit into float32."""

Columns = dict[str, np.ndarray]


def read_log(path: str | Path, *, densities: bool = False) -> LoggedEpisodes:
    """Reads a log of episodes, a row a step, and checks it.

    Columns: `episode` and `step`, whole numbers, steps counting up from 0 in each episode; `reward`; `log_pi`
    and `log_mu`, log-probabilities of the logged action under the target policy and under the one that acted.
    Optional, and only together: `v`, a model's value of the row's state under the target policy, and `q`, that
    of the row's state and action. The state after an episode's last row counts as terminal, with value 0.
    Rows may come in any order, and other columns are ignored.

    Args:
      path: a file whose name ends in .parquet, .csv (with a header) or .npz (an array a column).
      densities: whether `log_pi` and `log_mu` are log-densities of continuous actions, which may be positive.

    Returns:
      The episodes, in the order of their numbers.

    Raises:
      ValueError: the log is not as described, in one line that names column and row; rows count from 1, and
        the header of a CSV is none.
    """
    path = Path(path)
    if path.suffix.lower() not in _READERS:
        raise ValueError(f"{path} must end in {', '.join(_READERS)} to be read as a log.")
    if not path.is_file():
        raise ValueError(f"{path} is {'a folder, not a log' if path.is_dir() else 'missing'}.")
    try:
        return pack(_READERS[path.suffix.lower()](path), densities=densities)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def pack(columns: Columns, *, densities: bool = False) -> LoggedEpisodes:
    """The columns of a log, `[rows]` each, as episodes `[T, N]`; the same checks as `read_log`.

    >>> columns = {name: np.zeros(3) for name in ("reward", "log_pi", "log_mu")}
    >>> pack(columns | {"episode": np.array([7, 7, 9]), "step": np.array([1, 0, 0])}).is_valid_t.T
    Array([[ True,  True],
           [ True, False]], dtype=bool)
    """
    named = wanted_columns(list(columns))
    columns = {name: np.asarray(columns[name]) for name in named}
    _check_rows(columns)
    _check_values(columns, densities)
    order = np.lexsort((columns["step"], columns["episode"]))
    sorted_columns = {name: x[order] for name, x in columns.items()}
    is_first = np.diff(sorted_columns["episode"], prepend=np.nan) != 0
    column = np.cumsum(is_first) - 1
    row = np.arange(len(order)) - np.flatnonzero(is_first)[column]
    _check_steps(sorted_columns, row, order)
    shape = (int(row.max()) + 1, int(column[-1]) + 1)
    if shape[0] * shape[1] > MOST_CELLS:
        raise ValueError(
            f"{shape[1]:,} episodes, the longest of {shape[0]:,} steps, make an array of {shape[0] * shape[1]:,} "
            f"cells, but at most {MOST_CELLS:,} fit: split the log or cut its longest episodes."
        )

    def packed(x: np.ndarray, dtype: Any = np.float64) -> Any:
        series = np.zeros(shape, dtype)
        series[row, column] = x
        return jnp.asarray(series)

    return LoggedEpisodes(
        packed(sorted_columns["log_pi"] - sorted_columns["log_mu"]),
        packed(sorted_columns["reward"]),
        packed(np.ones(len(row)), bool),
        *(packed(sorted_columns[name]) for name in MODEL_COLUMNS if name in named),
    )


def wanted_columns(names: list[str]) -> tuple[str, ...]:
    """The columns of a log that are used.

    Raises:
      ValueError: one is missing or there twice, or `q` and `v` are not given together.
    """
    for name in (*COLUMNS, *MODEL_COLUMNS):
        if names.count(name) > 1:
            raise ValueError(f"column {name} is there {names.count(name)} times.")
        if name in COLUMNS and name not in names:
            raise ValueError(f"column {name} is missing; there are {', '.join(names) or 'none'}.")
    model = [name for name in MODEL_COLUMNS if name in names]
    if len(model) == 1:
        missing = "q" if model == ["v"] else "v"
        raise ValueError(f"columns q and v must be given together, but column {missing} is missing.")
    return (*COLUMNS, *model)


def _check_rows(columns: Columns) -> None:
    """One number a row in each column, and at least one row."""
    rows = columns["episode"].shape[:1]
    for name, x in columns.items():
        if x.dtype.kind not in "iuf":
            raise ValueError(f"column {name} must hold numbers, but {_first_that_is_none(x)}.")
        if x.ndim != 1 or x.shape != rows:
            raise ValueError(f"column {name} must be [{', '.join(map(str, rows))}], but its shape is {list(x.shape)}.")
        columns[name] = x.astype(np.float64)
    if rows == (0,):
        raise ValueError("the log holds no rows.")


def _first_that_is_none(x: np.ndarray) -> str:
    if x.dtype.kind in "OUS" and x.ndim == 1:
        for row, value in enumerate(x.tolist()):
            try:
                float(value)
            except (TypeError, ValueError):
                return f"row {row + 1} is {value!r}"
    kinds = {"b": "booleans", "c": "complex numbers", "M": "dates", "m": "durations"}
    return f"it holds {kinds.get(x.dtype.kind, 'text')}"


def _check_values(columns: Columns, densities: bool) -> None:
    """Numbers that are what their column means."""
    for name, x in columns.items():
        _refuse(name, x, np.isnan(x), "must hold numbers")
        if name == "log_mu":
            _refuse(name, x, np.isneginf(x), "must be finite: an action of probability 0 cannot have been taken")
        is_allowed = np.abs(x) <= LARGEST
        _refuse(name, x, ~(is_allowed | np.isneginf(x)) if name == "log_pi" else ~is_allowed, "must be finite")
        if name in ("episode", "step"):
            _refuse(name, x, x != np.floor(x), "must hold whole numbers")
            _refuse(name, x, np.abs(x) > 2**53, "must hold whole numbers up to 2^53")
        if name in ("log_pi", "log_mu") and not densities:
            hint = "must be at most 0, being the logarithm of a probability (--densities allows more)"
            _refuse(name, x, x > ROUNDING, hint)


def _refuse(name: str, x: np.ndarray, is_bad: np.ndarray, rule: str) -> None:
    """Raises `ValueError` for the first row that is bad, if one is."""
    if is_bad.any():
        row = int(is_bad.argmax())
        raise ValueError(f"column {name} {rule}, but row {row + 1} is {x[row]:.9g}.")


def _check_steps(columns: Columns, row: np.ndarray, order: np.ndarray) -> None:
    """Raises `ValueError` unless the steps of each episode, sorted, count up from 0."""
    step = columns["step"]
    is_bad = step != row
    if not is_bad.any():
        return
    i = int(is_bad.argmax())
    episode, here = f"episode {columns['episode'][i]:.0f}", order[i] + 1
    if step[i] < 0:
        raise ValueError(f"column step must be at least 0, but row {here} is {step[i]:.0f}.")
    if step[i] == row[i] - 1:
        raise ValueError(f"column step: {episode} has step {step[i]:.0f} twice, in rows {order[i - 1] + 1} and {here}.")
    raise ValueError(f"column step: {episode} lacks step {row[i]}; row {here} is step {step[i]:.0f}.")


def _from_parquet(path: Path) -> Columns:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = wanted_columns(pq.read_schema(path).names)
        return _as_arrays(pq.read_table(path, columns=list(names)))
    except pa.ArrowException as error:
        raise ValueError(f"it is not a Parquet file that can be read ({_first_line(error)}).") from error


def _from_csv(path: Path) -> Columns:
    import pyarrow as pa
    from pyarrow.csv import ConvertOptions, read_csv

    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            names = wanted_columns(next(csv.reader(file), []))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"it is not a CSV file that can be read ({_first_line(error)}).") from error

    def read(kind: Any) -> Columns:
        kinds = dict.fromkeys(names, kind)
        options = ConvertOptions(column_types=kinds, include_columns=list(names))
        return _as_arrays(read_csv(path, convert_options=options))

    try:
        try:
            return read(pa.float64())
        except pa.ArrowInvalid:
            return {name: _numbers_or_text(x) for name, x in read(pa.string()).items()}
    except pa.ArrowException as error:
        raise ValueError(f"it is not a CSV file that can be read ({_first_line(error)}).") from error


def _from_npz(path: Path) -> Columns:
    if not zipfile.is_zipfile(path):
        raise ValueError("it is not an NPZ file.")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in wanted_columns(list(arrays))}
    except (zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"it is not an NPZ file that can be read ({_first_line(error)}).") from error


def _numbers_or_text(x: np.ndarray) -> np.ndarray:
    """A column of text that cannot be read as numbers stays as it is: the checks find the row."""
    try:
        return x.astype(np.float64)
    except (TypeError, ValueError):
        return x


def _as_arrays(table: Any) -> Columns:
    return {name: table[name].to_numpy() for name in table.column_names}


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".")


_READERS: dict[str, Callable[[Path], Columns]] = {".parquet": _from_parquet, ".csv": _from_csv, ".npz": _from_npz}
