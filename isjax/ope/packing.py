"""Checked columns as episodes: rows in their places, policies that no column tells of, odd things noted."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from isjax.errors import in_one_line
from isjax.ope.behavior import check_propensities, estimate_behavior
from isjax.ope.columns import ROUNDING, checked_columns
from isjax.ope.readers.reading import MOST_CELLS, Columns
from isjax.ope.roles import Casting
from isjax.types import LoggedEpisodes


class Targets(NamedTuple):
    """What a log holds about one target policy or several."""

    episodes: dict[str, LoggedEpisodes]
    """By the name of the target: what follows `log_pi.` in the name of its column; "" for the only one."""
    notes: tuple[str, ...]
    """In a sentence each: what was assumed about the log, and what is odd about it."""
    states: tuple[str, ...] = ()
    """What the log calls its states 0, 1, …; empty if it has no column `state`."""


class _Packing(NamedTuple):
    """Where each row of a log goes."""

    order: np.ndarray | None
    """Of the rows, by episode and step; `None` if they come so."""
    row: np.ndarray
    column: np.ndarray
    shape: tuple[int, int]

    def series(self, x: np.ndarray, dtype: Any = np.float64) -> np.ndarray:
        """A column as `[T, N]`, with zeros for padding."""
        if self.order is not None:
            x = x[self.order]
        if self.shape == (1, len(x)):
            return x.astype(dtype, copy=False)[None]
        packed = np.zeros(self.shape, dtype)
        packed[self.row, self.column] = x
        return packed


def packed_targets(found: Columns, casting: Casting, probabilities: bool, densities: bool, target: str) -> Targets:
    """The episodes of each target policy of a log, from its columns as they were read.

    Raises:
      ValueError: a column holds what it must not, or the episodes are too unequal to fit into an array.
    """
    columns = checked_columns(found, casting, probabilities=probabilities, densities=densities)
    notes: list[str] = []
    order, row, column = _places(columns, notes)
    shape = (int(row.max()) + 1, int(column[-1]) + 1)
    if shape[0] * shape[1] > MOST_CELLS:
        raise ValueError(
            f"{shape[1]:,} episodes, the longest of {shape[0]:,} steps, make an array of {shape[0] * shape[1]:,} "
            f"cells, but at most {MOST_CELLS:,} fit: split the log or cut its longest episodes."
        )
    packing = _Packing(order, row, column, shape)
    is_valid = packing.series(np.ones(len(row), bool), bool)
    if target:
        columns["pi"] = _target(target, columns, notes)
    log_mu = _log_mu(columns, casting, packing, is_valid, densities, notes)
    names = casting.several("pi") if "pi" not in columns else [""]
    shared: dict[str, Any] = {
        "r_t": jnp.asarray(packing.series(columns["reward"])),
        "is_valid_t": jnp.asarray(is_valid),
        **{f"{role}_tm1": jnp.asarray(packing.series(columns[role])) for role in ("v", "q") if role in columns},
    }
    if "state" in columns:
        shared["state_tm1"] = jnp.asarray(packing.series(_coded(columns["state"]), np.int32))
    episodes = {}
    for name in names:
        log_pi = packing.series(columns[f"pi.{name}" if name else "pi"])
        episodes[name] = LoggedEpisodes(log_rho_tm1=jnp.asarray(log_pi - log_mu), **shared)
    states = tuple(str(x) for x in np.unique(columns["state"])) if "state" in columns else ()
    return Targets(episodes, tuple(notes), states)


def _log_mu(
    columns: Columns, casting: Casting, packing: _Packing, is_valid: np.ndarray, densities: bool, notes: list[str]
) -> np.ndarray:
    """`[T, N]`, what the policy that acted gave to its actions: as the log says, balanced, or estimated."""
    if several := casting.several("mu"):
        return _balanced(columns, several, packing, is_valid, notes)
    labels = [packing.series(_coded(columns[role]), np.int32) for role in ("state", "action") if role in columns]
    if "mu" not in columns:
        num_states, num_actions = (len(np.unique(columns[role])) for role in ("state", "action"))
        notes.append(
            f"The log has no column log_mu: the policy that acted was estimated from how often it took each of "
            f"{num_actions:,} actions in each of {num_states:,} states."
        )
        state, action, valid = (jnp.asarray(x) for x in (*labels, is_valid))
        return np.asarray(estimate_behavior(state, action, valid), np.float64)
    log_mu = packing.series(columns["mu"])
    if len(labels) < 2:
        _note_odd(columns, densities, notes)
    else:  # How often each action was taken says more.
        policy = packing.series(next(x for role, x in columns.items() if role.partition(".")[0] == "pi"))
        log_pi, given, valid, state, action = (jnp.asarray(x) for x in (policy, log_mu, is_valid, *labels))
        check = check_propensities(log_pi, given, valid, state_tm1=state, action_tm1=action, densities=densities)
        notes += [f"Of the probabilities: {in_one_line(complaint)}." for complaint in check.complaints]
    return log_mu


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


def _coded(labels: np.ndarray) -> np.ndarray:
    """The place of each label among the distinct ones, in their order."""
    return np.unique(labels, return_inverse=True)[1].astype(np.int32)


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


def _balanced(
    columns: Columns, names: list[str], packing: _Packing, is_valid: np.ndarray, notes: list[str]
) -> np.ndarray:
    """`log Σ_k α_k μ_k` of the actions so far, as what each step adds to it: Agarwal et al. 2017.

    Of one step it is the balanced denominator of https://arxiv.org/abs/1703.06180; of more the mixture of whole
    episodes, which acted as if one logger was drawn for each of them.
    """
    logger = columns["logger"].astype(str)
    for name in np.unique(logger):
        if name not in names:
            row = int((logger == name).argmax()) + 1
            raise ValueError(f"column logger must be among {', '.join(names)}, but row {row} is {str(name)!r}.")
    of_row = packing.series(np.searchsorted(sorted(names), logger), np.int32)
    if np.any(is_valid & (of_row != of_row[:1])):
        episode = int(np.any(is_valid & (of_row != of_row[:1]), 0).argmax())
        raise ValueError(f"column logger must be the same in all rows of an episode, but the {episode + 1}. has two.")
    share = np.bincount(of_row[0], minlength=len(names)) / of_row.shape[1]
    logarithms = [np.where(is_valid, packing.series(columns[f"mu.{name}"]), 0.0) for name in sorted(names)]
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
