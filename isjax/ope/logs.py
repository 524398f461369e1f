"""Logs as people have them, as the episodes that estimators take."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from isjax.errors import in_one_line
from isjax.ope.columns import ROUNDING, checked_columns
from isjax.ope.readers import format_of, read_columns
from isjax.ope.readers.reading import MOST_CELLS, Columns, Kind
from isjax.ope.roles import Casting, cast, check_roles
from isjax.types import LoggedEpisodes

LONGEST_LINE = 270
"""Of a complaint; a command puts its name before it."""


class Targets(NamedTuple):
    """What a log holds about one target policy or several."""

    episodes: dict[str, LoggedEpisodes]
    """By the name of the target: what follows `log_pi.` in the name of its column; "" for the only one."""
    notes: tuple[str, ...]
    """In a sentence each: what was assumed about the log, and what is odd about it."""


def read_log(
    path: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    probabilities: bool = False,
    densities: bool = False,
    target: str = "",
    format: str = "",
) -> LoggedEpisodes:
    """Reads a log of episodes, a row a step, and checks it.

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
    """Reads a log of one target policy or several, whose columns are called `log_pi.NAME`.

    Of several loggers, columns `log_mu.NAME` say what each of them would have done, and `logger` which one acted. The
    arguments and errors are those of `read_log`.
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
            return _packed_targets(found, casting, probabilities, densities, target)
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
    return _packed_targets(found, casting, probabilities, densities, target)


def _only_one(targets: Targets, place: str) -> LoggedEpisodes:
    if len(targets.episodes) > 1:
        names = ", ".join(targets.episodes)
        raise ValueError(f"{place} must tell of one target policy, but it tells of {names}: read_targets takes them.")
    return next(iter(targets.episodes.values()))


def _names(frame: Any) -> list[str]:
    """The names of all columns."""
    for attribute in ("column_names", "columns", "keys"):
        found = getattr(frame, attribute, None)
        if found is not None:
            return [name for name in (found() if callable(found) else found) if isinstance(name, str)]
    raise TypeError(f"frame must be a table or a dictionary of columns, but it is a {type(frame).__name__}.")


def _packed_targets(found: Columns, casting: Casting, probabilities: bool, densities: bool, target: str) -> Targets:
    columns = checked_columns(found, casting, probabilities=probabilities, densities=densities)
    notes = []
    order, row, column = _places(columns, notes)
    shape = (int(row.max()) + 1, int(column[-1]) + 1)
    if shape[0] * shape[1] > MOST_CELLS:
        raise ValueError(
            f"{shape[1]:,} episodes, the longest of {shape[0]:,} steps, make an array of {shape[0] * shape[1]:,} "
            f"cells, but at most {MOST_CELLS:,} fit: split the log or cut its longest episodes."
        )
    is_whole = len(row) == shape[0] * shape[1]

    def series(x: np.ndarray, dtype: Any = np.float64) -> np.ndarray:
        if order is not None:
            x = x[order]
        if shape[0] == 1 and is_whole:
            return x.astype(dtype, copy=False)[None]
        packed = np.zeros(shape, dtype)
        packed[row, column] = x
        return packed

    is_valid = series(np.ones(len(row), bool), bool)
    states, actions = (_coded(columns[role]) if role in columns else None for role in ("state", "action"))
    if target:
        columns["pi"] = _target(target, columns, notes)
    if "mu" in columns:
        log_mu = series(columns["mu"])
        _note_odd(columns, densities, notes)
    elif several := casting.several("mu"):
        log_mu = _balanced(columns, several, series, is_valid, notes)
    else:
        log_mu = _estimated(series(states[1], np.int32), series(actions[1], np.int32), is_valid, states, actions, notes)
    shared = {role: series(columns[role]) for role in ("v", "q") if role in columns}
    reward = jnp.asarray(series(columns["reward"]))
    state = None if states is None else jnp.asarray(series(states[1], np.int32), jnp.int32)
    episodes = {}
    for name in casting.several("pi") if "pi" not in columns else [""]:
        log_rho = series(columns[f"pi.{name}" if name else "pi"]) - log_mu
        episodes[name] = LoggedEpisodes(
            jnp.asarray(log_rho),
            reward,
            jnp.asarray(is_valid),
            *(jnp.asarray(shared[role]) if role in shared else None for role in ("v", "q")),
            state_tm1=state,
        )
    return Targets(episodes, tuple(notes))


def _places(columns: Columns, notes: list[str]) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """The order of the rows by episode and step (`None` if they come so), and the step and episode of each."""
    rows = len(columns["reward"])
    if "episode" not in columns and "step" not in columns:
        notes.append("The log has no column episode: each row counts as an episode.")
        return None, np.zeros(rows, np.int64), np.arange(rows)
    if "episode" not in columns:
        columns["episode"] = np.cumsum(columns["step"] == 0)
        notes.append("The log has no column episode: a new one begins with each step 0.")
    episode = columns["episode"]
    step = columns.get("step")
    later = episode[1:] == episode[:-1]
    is_sorted = np.all(episode[1:] >= episode[:-1]) and (step is None or np.all(~later | (step[1:] > step[:-1])))
    order = None
    if not is_sorted:
        order = np.argsort(episode, kind="stable") if step is None else np.lexsort((step, episode))
        episode, step = episode[order], None if step is None else step[order]
    is_first = np.append(True, episode[1:] != episode[:-1])
    column = np.cumsum(is_first) - 1
    row = np.arange(rows) - np.flatnonzero(is_first)[column]
    if step is None and row.any():
        notes.append("The log has no column step: the rows of an episode count as its steps, in their order.")
    elif step is not None:
        _check_steps(episode, step, row, np.arange(rows) if order is None else order)
    return order, row, column


def _check_steps(episodes: np.ndarray, step: np.ndarray, row: np.ndarray, order: np.ndarray) -> None:
    """Raises `ValueError` unless the steps of each episode, sorted, count up from 0."""
    is_bad = step != row
    if not is_bad.any():
        return
    i = int(is_bad.argmax())
    episode, here = f"episode {episodes[i]}", order[i] + 1
    if step[i] == row[i] - 1:
        raise ValueError(f"column step: {episode} has step {step[i]} twice, in rows {order[i - 1] + 1} and {here}.")
    raise ValueError(f"column step: {episode} lacks step {row[i]}; row {here} is step {step[i]}.")


def _coded(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct labels in their order, and the place of each row's among them."""
    distinct, place = np.unique(labels, return_inverse=True)
    return distinct, place.astype(np.int32)


def _target(target: str, columns: Columns, notes: list[str]) -> np.ndarray:
    """Log-probabilities of the actions taken under a policy that needs no column."""
    if target == "uniform" and "num_actions" in columns:
        number = columns["num_actions"]
        if np.any(number < 1):
            raise ValueError(f"column num_actions must be at least 1, but row {int((number < 1).argmax()) + 1} is not.")
        return -np.log(number.astype(np.float64))
    action = columns["action"]
    distinct = np.unique(action)
    if target == "uniform":
        notes.append(f"The target policy is uniform over the {len(distinct):,} actions that the log holds.")
        return np.full(len(action), -np.log(len(distinct)))
    is_same = action.astype(str) == target
    if not is_same.any():
        known = ", ".join(str(x) for x in distinct[:10]) + (", …" if len(distinct) > 10 else "")
        raise ValueError(f"target must be uniform or an action of the log ({known}), but it is {target!r}.")
    return np.where(is_same, 0.0, -np.inf)


def _estimated(
    state: np.ndarray, action: np.ndarray, is_valid: np.ndarray, states: Any, actions: Any, notes: list[str]
) -> np.ndarray:
    """What the policy that acted gave to the actions taken, as often as it took them in each state."""
    num_states, num_actions = len(states[0]), len(actions[0])
    notes.append(
        f"The log has no column log_mu: the policy that acted was estimated from how often it took each of "
        f"{num_actions:,} actions in each of {num_states:,} states."
    )
    pair = state.astype(np.int64) * num_actions + action
    taken = np.bincount(pair[is_valid], minlength=1)
    visits = np.bincount(state[is_valid], minlength=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(is_valid, np.log(taken[np.where(is_valid, pair, pair[0, 0])] / visits[state]), 0.0)


def _balanced(columns: Columns, names: list[str], series: Any, is_valid: np.ndarray, notes: list[str]) -> np.ndarray:
    """`log Σ_k α_k μ_k` of the actions so far, as what each step adds to it: Agarwal et al. 2017.

    Of one step it is the balanced denominator of https://arxiv.org/abs/1703.06180; of more the mixture of whole
    episodes, which acted as if one logger was drawn for each of them.
    """
    logger = columns["logger"].astype(str)
    for name in np.unique(logger):
        if name not in names:
            row = int((logger == name).argmax()) + 1
            raise ValueError(f"column logger must be among {', '.join(names)}, but row {row} is {str(name)!r}.")
    of_row = series(np.searchsorted(sorted(names), logger), np.int32)
    if np.any(is_valid & (of_row != of_row[:1])):
        episode = int(np.any(is_valid & (of_row != of_row[:1]), 0).argmax())
        raise ValueError(f"column logger must be the same in all rows of an episode, but the {episode + 1}. has two.")
    share = np.bincount(of_row[0], minlength=len(names)) / of_row.shape[1]
    logarithms = [np.where(is_valid, series(columns[f"mu.{name}"]), 0.0) for name in sorted(names)]
    log_products = np.stack([np.cumsum(x, 0) for x in logarithms])
    with np.errstate(divide="ignore"):
        mixed = log_products + np.log(share)[:, None, None]
    log_mixture = np.logaddexp.reduce(mixed, 0)
    if not np.all(np.isfinite(log_mixture)):
        episode = int((~np.isfinite(log_mixture)).any(0).argmax())
        raise ValueError(f"some logger must have taken each action, but none can have in the {episode + 1}. episode.")
    shares = ", ".join(f"{name} {100 * x:.3g} %" for name, x in zip(sorted(names), share, strict=True))
    notes.append(f"Weights are balanced over the loggers, by their shares of the episodes: {shares}.")
    return np.where(is_valid, np.diff(log_mixture, axis=0, prepend=0.0), 0.0)


def _note_odd(columns: Columns, densities: bool, notes: list[str]) -> None:
    """What no rule forbids and is hardly ever meant."""
    log_mu = columns["mu"]
    policies = [x for role, x in columns.items() if role == "pi" or role.startswith("pi.")]
    if np.all(np.abs(log_mu) <= ROUNDING) and any(np.any(x < -ROUNDING) for x in policies):
        notes.append("Every action has probability 1 under the policy that acted: were its probabilities recorded?")
    if densities and all(np.all((x >= 0) & (x <= 1)) for x in [log_mu, *policies]) and np.any(log_mu > 0):
        notes.append("All log-densities lie in [0, 1]: if they are probabilities, give --probabilities instead.")
