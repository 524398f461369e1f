"""Reading and checking a log of episodes: Parquet, CSV or NPZ."""

import difflib
import numbers
from decimal import Decimal
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from isjax.errors import in_one_line
from isjax.ope.readers import read_columns
from isjax.ope.readers.reading import MOST_CELLS, WHOLE, Columns
from isjax.types import LoggedEpisodes

COLUMNS = ("episode", "step", "reward", "log_pi", "log_mu")
MODEL_COLUMNS = ("v", "q")
REWARDS = ("reward", *MODEL_COLUMNS)
"""Columns in the unit of the rewards."""
ROUNDING = 1e-6
"""How far above 0 the logarithm of a probability may lie."""
LARGEST, SMALLEST = 1e38, 1e-30
"""Sizes of rewards between which float32 is exact enough; infinite is also what is larger as a logarithm."""
LONGEST_LINE = 270
"""Of a complaint; a command puts its name before it."""


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
      The episodes, in the order of their numbers; in float64 if `jax_enable_x64` is set, else in float32.

    Raises:
      ValueError: the log is not as described, in one line that names column and row; rows count from 1, and
        the header of a CSV is none.
    """
    path = Path(path)
    try:
        columns = read_columns(path, wanted_columns)
        try:
            return pack(columns, densities=densities)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    except (OSError, MemoryError) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or error or "out of memory"
        raise ValueError(in_one_line(f"{path} cannot be read: {reason}.", most=LONGEST_LINE)) from error
    except ValueError as error:
        raise ValueError(in_one_line(str(error), most=LONGEST_LINE)) from error


def pack(columns: Columns, *, densities: bool = False) -> LoggedEpisodes:
    """The columns of a log, `[rows]` each, as episodes `[T, N]`; the same checks as `read_log`.

    >>> columns = {name: np.zeros(3) for name in ("reward", "log_pi", "log_mu")}
    >>> pack(columns | {"episode": np.array([7, 7, 9]), "step": np.array([1, 0, 0])}).is_valid_t.T
    Array([[ True,  True],
           [ True, False]], dtype=bool)
    """
    named = wanted_columns(list(columns))
    columns = _checked({name: np.asarray(columns[name]) for name in named}, densities)
    order = np.lexsort((columns["step"], columns["episode"]))
    sorted_columns = {name: x[order] for name, x in columns.items()}
    episode = sorted_columns["episode"]
    is_first = np.append(True, episode[1:] != episode[:-1])
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
            others = {other.strip().casefold(): other for other in names if other not in COLUMNS}
            near = difflib.get_close_matches(name, others, n=1, cutoff=0.8)
            meant = f"; is {others[near[0]]!r} meant?" if near else "."
            raise ValueError(f"column {name} is missing; there are {', '.join(names) or 'none'}{meant}")
    model = [name for name in MODEL_COLUMNS if name in names]
    if len(model) == 1:
        missing = "q" if model == ["v"] else "v"
        raise ValueError(f"columns q and v must be given together, but column {missing} is missing.")
    return (*COLUMNS, *model)


def _checked(columns: Columns, densities: bool) -> Columns:
    """One number a row in each column, at least one row, and numbers that are what their column means."""
    rows = columns["episode"].shape[:1] or ("rows",)
    for name, x in columns.items():
        x = _as_numbers(name, x)
        if x.shape != rows:
            raise ValueError(f"column {name} must be [{', '.join(map(str, rows))}], but its shape is {list(x.shape)}.")
        columns[name] = _whole_numbers(name, x) if name in WHOLE else _real_numbers(name, x)
    if rows == (0,):
        raise ValueError("the log holds no rows.")
    for name in ("log_pi", "log_mu"):
        _check_logarithms(name, columns[name], densities)
    if jnp.zeros(()).dtype == np.float32:
        for name in REWARDS:
            if name in columns:
                _check_size(name, columns[name])
    return columns


def _as_numbers(name: str, x: np.ndarray) -> np.ndarray:
    """The column if it holds numbers, one by one if it holds them as objects."""
    if x.dtype.kind in "iuf":
        return x
    if x.dtype == object and x.ndim == 1:
        values = x.tolist()
        for row, value in enumerate(values):
            is_number = isinstance(value, numbers.Real | Decimal) and not isinstance(value, bool)
            if not is_number and (not isinstance(value, str) or _is_no_number(value)):
                raise ValueError(f"column {name} must hold numbers, but row {row + 1} is {value!r}.")
        if not any(isinstance(value, str) for value in values):
            return _from_objects(name, values)
    if x.dtype.kind in "US" and x.ndim == 1:
        for row, value in enumerate(x.tolist()):
            if _is_no_number(value):
                raise ValueError(f"column {name} must hold numbers, but row {row + 1} is {value!r}.")
    kinds = {"b": "booleans", "c": "complex numbers", "M": "dates", "m": "durations", "V": "records", "O": "objects"}
    found = "text" if x.dtype.kind == "O" and x.ndim == 1 else kinds.get(x.dtype.kind, "text")
    raise ValueError(f"column {name} must hold numbers, but it holds {found}.")


def _is_no_number(text: Any) -> bool:
    """Python would take "1_000" and digits of other scripts."""
    try:
        float(text)
    except ValueError:
        return True
    return isinstance(text, str) and ("_" in text or not text.isascii())


def _from_objects(name: str, values: list[Any]) -> np.ndarray:
    """Whole numbers stay exact, whatever type each one has."""
    is_whole = all(isinstance(x, numbers.Integral) or (isinstance(x, Decimal) and x % 1 == 0) for x in values)
    if is_whole and name in WHOLE:
        for kind in (np.int64, np.uint64):
            try:
                return np.array([int(x) for x in values], kind)
            except OverflowError:
                continue
        raise ValueError(f"column {name} must hold whole numbers of 64 bits, but some are larger.")
    return np.array([_as_float(x) for x in values], np.float64)


def _as_float(x: Any) -> float:
    try:
        return float(x)
    except OverflowError:  # a whole number beyond the largest float
        return np.inf if x > 0 else -np.inf


def _whole_numbers(name: str, x: np.ndarray) -> np.ndarray:
    """Whole numbers of which none was rounded."""
    if x.dtype.kind == "f":
        exact = 2.0 ** (np.finfo(x.dtype).nmant + 1)  # From here on floats leave out whole numbers.
        _refuse(name, x, np.isnan(x), "must hold numbers")
        _refuse(name, x, np.isinf(x), "must be finite")
        _refuse(name, x, x != np.floor(x), "must hold whole numbers")
        _refuse(name, x, np.abs(x) >= exact, f"must hold whole numbers below {int(exact)} where they are {x.dtype}")
        x = x.astype(np.int64)
    if name == "step":
        _refuse(name, x, x < 0, "must be at least 0")
        _refuse(name, x, x >= np.uint64(2**62) if x.dtype.kind == "u" else x >= 2**62, "must be below 2^62")
        x = x.astype(np.int64)
    return x


def _real_numbers(name: str, x: np.ndarray) -> np.ndarray:
    """Finite numbers in float64; the logarithm of a target's probability may be `−inf`."""
    with np.errstate(over="ignore"):
        x, given = x.astype(np.float64), x
    _refuse(name, given, np.isnan(x), "must hold numbers")
    _refuse(name, given, (x == 0) & (given != 0), "must hold numbers that float64 can hold")
    if name == "log_mu":
        _refuse(name, given, np.isneginf(x), "must be finite: an action of probability 0 cannot have been taken")
    is_bad = np.isinf(x) & ~(np.isneginf(x) & (name == "log_pi"))
    if name in ("log_pi", "log_mu"):
        is_bad |= np.isfinite(x) & (np.abs(x) > LARGEST)
    _refuse(name, given, is_bad, "must be finite")
    return x


def _check_logarithms(name: str, x: np.ndarray, densities: bool) -> None:
    if not densities:
        hint = "must be at most 0, being the logarithm of a probability (--densities allows more)"
        _refuse(name, x, x > ROUNDING, hint)


def _check_size(name: str, x: np.ndarray) -> None:
    """Raises `ValueError` for numbers that float32 cannot hold."""
    rule = f"must lie between {SMALLEST:g} and {LARGEST:g} in size for float32 (jax_enable_x64 allows more)"
    _refuse(name, x, np.abs(x) > LARGEST, rule)
    size = np.abs(x)
    if 0 < size.max() < SMALLEST:
        _refuse(name, x, size == size.max(), rule)


def _refuse(name: str, x: np.ndarray, is_bad: np.ndarray, rule: str) -> None:
    """Raises `ValueError` for the first row that is bad, if one is."""
    if is_bad.any():
        row = int(is_bad.argmax())
        found = f"{x[row]:.{17 if name in WHOLE else 9}g}" if x.dtype.kind == "f" else str(x[row])
        raise ValueError(f"column {name} {rule}, but row {row + 1} is {found}.")


def _check_steps(columns: Columns, row: np.ndarray, order: np.ndarray) -> None:
    """Raises `ValueError` unless the steps of each episode, sorted, count up from 0."""
    step = columns["step"]
    is_bad = step != row
    if not is_bad.any():
        return
    i = int(is_bad.argmax())
    episode, here = f"episode {columns['episode'][i]}", order[i] + 1
    if step[i] == row[i] - 1:
        raise ValueError(f"column step: {episode} has step {step[i]} twice, in rows {order[i - 1] + 1} and {here}.")
    raise ValueError(f"column step: {episode} lacks step {row[i]}; row {here} is step {step[i]}.")
