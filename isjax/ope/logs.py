"""Logs as people have them, as the episodes that estimators take."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from isjax.errors import in_one_line
from isjax.ope.packing import Targets, packed_targets
from isjax.ope.readers import format_of, read_columns
from isjax.ope.readers.reading import Kind
from isjax.ope.roles import Casting, cast, check_roles
from isjax.types import LoggedEpisodes

LONGEST_LINE = 270
"""Of a complaint; a command puts its name before it."""


def read_log(
    path: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    probabilities: bool = False,
    densities: bool = False,
    target: str = "",
    format: str = "",
) -> LoggedEpisodes:
    r"""Reads a log of episodes, a row a step, and checks it.

    Columns play roles: `episode` and `step`, whole numbers, steps counting up from 0 in each episode; `reward`; `pi`
    and `mu`, what the target policy and the one that acted gave to the logged action, by default the logarithms in
    columns `log_pi` and `log_mu`. Optional, and only together: `v`, a model's value of the row's state under the target
    policy, and `q`, that of the row's state and action. The state after an episode's last row counts as terminal, with
    value 0. Optional too: `state` and `action`, whole numbers or names; where there is no `mu`, the policy that acted
    is estimated from them. RLlib's names are known: `eps_id`, `t`, `rewards`, `action_logp`. Others are ignored.

    Rows may come in any order. Without a column `step` they are the steps of their episode in the order of the log;
    without `episode` either, each row is an episode; without `episode` alone, a new one begins with each step 0.

    Args:
      path: a file whose name ends in .csv (with a header), .parquet, .npz (an array a column), .jsonl (an object a row
        or a batch), or .vw, .cb, .cb_adf, .cb_eval or .dsjson (Vowpal Wabbit; costs negated); .gz may follow.
      columns: names of columns by their roles, `{"mu": "propensity_score"}`.
      probabilities: whether `pi` and `mu` are probabilities, by default in columns `pi` and `mu`.
      densities: whether they belong to continuous actions: logarithms may then be positive.
      target: "uniform", or an action: a target policy that no column tells of, or another than the one it tells of.
      format: what the file is, if its name does not tell: csv, parquet, npz, jsonl, vw, cb, cb_adf, cb_eval, dsjson.

    Returns:
      The episodes, in the order of their numbers; in float64 if `jax_enable_x64` is set, else in float32.

    Raises:
      ValueError: the log is not as described, or tells of several targets, in one line that names column and row; rows
        count from 1, and the header of a CSV is none.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "clicks.csv"
    >>> _ = path.write_text("click,propensity,target\n1,0.5,0.9\n0,0.25,0.1\n")
    >>> roles = {"reward": "click", "mu": "propensity", "pi": "target"}
    >>> log = read_log(path, columns=roles, probabilities=True)
    >>> log.r_t.tolist(), log.log_rho_tm1.shape
    ([[1.0, 0.0]], (1, 2))
    """
    options = {"columns": columns, "probabilities": probabilities, "densities": densities, "target": target}
    return _only_one(read_targets(path, **options, format=format), str(path))


def read_targets(
    path: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    probabilities: bool = False,
    densities: bool = False,
    target: str = "",
    format: str = "",
) -> Targets:
    r"""Reads a log of one target policy or several, whose columns are called `log_pi.NAME`.

    Of several loggers, columns `log_mu.NAME` say what each of them would have done, and `logger` which one acted. The
    arguments and errors are those of `read_log`.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "log.csv"
    >>> _ = path.write_text("reward,log_mu,log_pi.a,log_pi.b\n1,-1,-1,-2\n")
    >>> list(read_targets(path).episodes)
    ['a', 'b']
    """
    path = Path(path)
    columns = columns or {}
    check_roles(columns)
    casting = Casting({})

    def choose(names: list[str]) -> dict[str, Kind]:
        nonlocal casting
        casting = cast(names, columns, probabilities=probabilities, target=target)
        return casting.kinds()

    try:
        found = read_columns(path, choose, kind=format_of(path, format))
        try:
            return packed_targets(found, casting, probabilities, densities, target)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    except (OSError, MemoryError) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or error or "out of memory"
        raise ValueError(in_one_line(f"{path} cannot be read: {reason}.", most=LONGEST_LINE)) from error
    except ValueError as error:
        raise ValueError(in_one_line(str(error), most=LONGEST_LINE)) from error


def pack(
    frame: Any,
    *,
    columns: Mapping[str, str] | None = None,
    probabilities: bool = False,
    densities: bool = False,
    target: str = "",
) -> LoggedEpisodes:
    """A table in memory as episodes `[T, N]`; the same checks as `read_log`.

    Args:
      frame: a pandas or Polars `DataFrame`, a pyarrow `Table`, or a dictionary of arrays `[rows]`.
      columns: names of columns by their roles, `{"mu": "propensity_score"}`; see `read_log`.
      probabilities: whether `pi` and `mu` are probabilities, by default in columns `pi` and `mu`.
      densities: whether they belong to continuous actions: logarithms may then be positive.
      target: "uniform", or an action: a target policy that no column tells of, or another than the one it tells of.

    Returns:
      The episodes, in the order of their numbers; in float64 if `jax_enable_x64` is set, else in float32.

    Raises:
      ValueError: a column is missing, or holds what it must not, or there are several targets.
      TypeError: the frame has no columns.

    >>> clicks = {"target": [0.5, 0.2], "propensity_score": [0.25, 0.4], "click": [1.0, 0.0]}
    >>> names = {"pi": "target", "mu": "propensity_score", "reward": "click"}
    >>> jnp.exp(pack(clicks, columns=names, probabilities=True).log_rho_tm1)
    Array([[2. , 0.5]], dtype=float32)
    """
    options = {"columns": columns, "probabilities": probabilities, "densities": densities, "target": target}
    return _only_one(pack_targets(frame, **options), "frame")


def pack_targets(
    frame: Any,
    *,
    columns: Mapping[str, str] | None = None,
    probabilities: bool = False,
    densities: bool = False,
    target: str = "",
) -> Targets:
    """A table in memory as the episodes of one target policy or several; see `read_targets` and `pack`.

    >>> frame = {"reward": [1.0, 2.0], "log_mu": [-1.0, -1.0], "log_pi.a": [-1.0, -2.0], "log_pi.b": [-1.5, -0.5]}
    >>> list(pack_targets(frame).episodes)
    ['a', 'b']
    """
    columns = columns or {}
    check_roles(columns)
    casting = cast(_names(frame), columns, probabilities=probabilities, target=target)
    found = {name: np.asarray(frame[name]) for name in casting.columns.values()}
    return packed_targets(found, casting, probabilities, densities, target)


def _only_one(targets: Targets, place: str) -> LoggedEpisodes:
    if len(targets.episodes) > 1:
        names = ", ".join(targets.episodes)
        raise ValueError(f"{place} must tell of one target policy, but it tells of {names}: read_targets takes them.")
    return next(iter(targets.episodes.values()))


def _names(frame: Any) -> list[str]:
    """The names of all columns."""
    for attribute in ("column_names", "columns", "keys"):
        found: Any = getattr(frame, attribute, None)
        if found is not None:
            names: Any = found() if callable(found) else found
            return [name for name in names if isinstance(name, str)]
    raise TypeError(f"frame must be a table or a dictionary of columns, but it is a {type(frame).__name__}.")
