"""What the columns of a log hold: numbers that are what their role means, or one line about the first that is not."""

import numbers
from decimal import Decimal
from typing import Any

import jax.numpy as jnp
import numpy as np

from isjax.ope.readers.reading import Columns
from isjax.ope.roles import ROLES, Casting

ROUNDING = 1e-6
"""How far above 0 the logarithm of a probability may lie, and a probability above 1."""
LARGEST, SMALLEST = 1e38, 1e-30
"""Sizes of rewards between which float32 is exact enough; infinite is also what is larger as a logarithm."""
REWARDS = ("reward", "v", "q")
"""Roles in the unit of the rewards."""


def checked_columns(columns: Columns, casting: Casting, *, probabilities: bool, densities: bool) -> Columns:
    """The columns of a log by their roles: one number a row in each, at least one row, policies as logarithms.

    Raises:
      ValueError: a column is not what it has to be, in one line that names it as the log does, and the row.
    """
    first = next(iter(casting.columns.values()))
    rows = np.asarray(columns[first]).shape[:1] or ("rows",)
    found: Columns = {}
    for part, name in casting.columns.items():
        role = part.partition(".")[0]
        is_label = ROLES[role].kind == "label"
        x = np.asarray(columns[name])
        x = _as_labels(name, x) if is_label else _as_numbers(name, x, is_exact=ROLES[role].kind == "whole")
        if x.shape != rows:
            raise ValueError(f"column {name} must be [{', '.join(map(str, rows))}], but its shape is {list(x.shape)}.")
        if is_label:
            found[part] = x
        elif role in ("pi", "mu"):
            may_be_zero = part != "mu"
            found[part] = _policy(name, x, may_be_zero, probabilities=probabilities, densities=densities)
        elif ROLES[role].kind == "whole":
            found[part] = _whole_numbers(name, role, x)
        else:
            found[part] = _finite_numbers(name, x)
    if rows == (0,):
        raise ValueError("the log holds no rows.")
    if jnp.zeros(()).dtype == np.float32:
        for role in REWARDS:
            if role in found:
                _check_size(casting.columns[role], found[role])
    return found


def _as_labels(name: str, x: np.ndarray) -> np.ndarray:
    """Names of states, actions or loggers: whole numbers if all of them are, else text."""
    if x.dtype.kind in "iub":
        return x.astype(np.int64)
    if x.dtype.kind == "f":
        _refuse(name, x, ~np.isfinite(x) | (x != np.floor(x)), "must hold whole numbers or names")
        return x.astype(np.int64)
    if x.ndim == 1 and (x.dtype.kind in "US" or all(isinstance(cell, str | int) for cell in x.tolist())):
        text = np.char.strip(x.astype(str))
        distinct, place = np.unique(text, return_inverse=True)
        if all(_is_whole(cell) for cell in distinct.tolist()):
            return np.array([int(float(cell)) for cell in distinct.tolist()], np.int64)[place]
        return text
    raise ValueError(f"column {name} must hold whole numbers or names, a single one in each row.")


def _is_whole(text: str) -> bool:
    try:
        return "_" not in text and text.isascii() and float(text) == int(float(text)) and abs(float(text)) < 2**53
    except (ValueError, OverflowError):
        return False


def _policy(name: str, x: np.ndarray, may_be_zero: bool, *, probabilities: bool, densities: bool) -> np.ndarray:
    """Logarithms of what a policy gives to the actions taken, `−inf` where the target policy never acts so."""
    x, given = _real_numbers(name, x), x
    if probabilities:
        return _logarithms(name, x, may_be_zero, densities)
    if not may_be_zero:
        _refuse(name, given, np.isneginf(x), "must be finite: an action of probability 0 cannot have been taken")
    is_bad = np.isinf(x) & ~(np.isneginf(x) & may_be_zero)
    _refuse(name, given, is_bad | (np.isfinite(x) & (np.abs(x) > LARGEST)), "must be finite")
    if not densities:
        rule = "must be at most 0, being the logarithm of a probability (--densities allows more)"
        hint = ": all lie in [0, 1], as probabilities do (--probabilities)" if np.all((x >= 0) & (x <= 1)) else ""
        _refuse(name, x, x > ROUNDING, rule, hint)
    return x


def _logarithms(name: str, x: np.ndarray, may_be_zero: bool, densities: bool) -> np.ndarray:
    """Probabilities, or densities, to their logarithms."""
    hint = ": all are at most 0, as logarithms are (leave --probabilities out)" if np.all(x <= 0) else ""
    if densities:
        _refuse(name, x, (x < 0) | np.isinf(x), "must be at least 0, being a density", hint)
    else:
        rule = "must lie in [0, 1], being a probability"
        hint = hint or (": densities need --densities beside --probabilities" if np.all(x >= 0) else "")
        _refuse(name, x, (x < 0) | (x > 1.0 + ROUNDING), rule, hint)
    if not may_be_zero:
        _refuse(name, x, x == 0, "must be greater than 0: an action of probability 0 cannot have been taken")
    with np.errstate(divide="ignore"):
        return np.log(x)


def _as_numbers(name: str, x: np.ndarray, *, is_exact: bool) -> np.ndarray:
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
            return _from_objects(name, values, is_exact)
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


def _from_objects(name: str, values: list[Any], is_exact: bool) -> np.ndarray:
    """Whole numbers stay exact, whatever type each one has."""
    is_whole = all(isinstance(x, numbers.Integral) or (isinstance(x, Decimal) and x % 1 == 0) for x in values)
    if is_whole and is_exact:
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


def _whole_numbers(name: str, role: str, x: np.ndarray) -> np.ndarray:
    """Whole numbers of which none was rounded."""
    if x.dtype.kind == "f":
        exact = 2.0 ** (np.finfo(x.dtype).nmant + 1)  # From here on floats leave out whole numbers.
        _refuse(name, x, np.isnan(x), "must hold numbers")
        _refuse(name, x, np.isinf(x), "must be finite")
        _refuse(name, x, x != np.floor(x), "must hold whole numbers")
        _refuse(name, x, np.abs(x) >= exact, f"must hold whole numbers below {int(exact)} where they are {x.dtype}")
        x = x.astype(np.int64)
    if role == "step":
        _refuse(name, x, x < 0, "must be at least 0")
        _refuse(name, x, x >= np.uint64(2**62) if x.dtype.kind == "u" else x >= 2**62, "must be below 2^62")
        x = x.astype(np.int64)
    return x


def _real_numbers(name: str, x: np.ndarray) -> np.ndarray:
    """Numbers in float64, possibly infinite."""
    with np.errstate(over="ignore"):
        x, given = x.astype(np.float64), x
    _refuse(name, given, np.isnan(x), "must hold numbers")
    _refuse(name, given, (x == 0) & (given != 0), "must hold numbers that float64 can hold")
    return x


def _finite_numbers(name: str, x: np.ndarray) -> np.ndarray:
    found = _real_numbers(name, x)
    _refuse(name, x, np.isinf(found), "must be finite")
    return found


def _check_size(name: str, x: np.ndarray) -> None:
    """Raises `ValueError` for numbers that float32 cannot hold."""
    rule = f"must lie between {SMALLEST:g} and {LARGEST:g} in size for float32 (jax_enable_x64 allows more)"
    _refuse(name, x, np.abs(x) > LARGEST, rule)
    size = np.abs(x)
    if 0 < size.max() < SMALLEST:
        _refuse(name, x, size == size.max(), rule)


def _refuse(name: str, x: np.ndarray, is_bad: np.ndarray, rule: str, hint: str = "") -> None:
    """Raises `ValueError` for the first row that is bad, if one is."""
    if is_bad.any():
        row = int(is_bad.argmax())
        is_whole = x.dtype.kind == "f" and x[row] == np.floor(x[row])
        found = f"{x[row]:.{17 if is_whole else 9}g}" if x.dtype.kind == "f" else str(x[row])
        raise ValueError(f"column {name} {rule}, but row {row + 1} is {found}{hint}.")
