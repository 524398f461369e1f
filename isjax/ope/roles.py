"""Which column of a log plays which role, whatever it is called."""

import difflib
from collections.abc import Mapping
from typing import NamedTuple

from isjax.errors import MUST, FieldError
from isjax.ope.readers.reading import Kind


class Role(NamedTuple):
    """What a column is for."""

    kind: Kind
    names: tuple[str, ...]
    """What such a column is called unless something else is said; the first one that is there counts. RLlib's names
    are among them."""


LOGARITHMS = {"pi": ("log_pi",), "mu": ("log_mu", "action_logp")}
PROBABILITIES = {"pi": ("pi", "log_pi"), "mu": ("mu", "log_mu", "action_prob")}
ROLES = {
    "episode": Role("whole", ("episode", "eps_id")),
    "step": Role("whole", ("step", "t")),
    "reward": Role("number", ("reward", "rewards")),
    "pi": Role("number", LOGARITHMS["pi"]),
    "mu": Role("number", LOGARITHMS["mu"]),
    "v": Role("number", ("v",)),
    "q": Role("number", ("q",)),
    "state": Role("label", ("state",)),
    "action": Role("label", ("action", "actions")),
    "logger": Role("label", ("logger",)),
    "num_actions": Role("whole", ("num_actions",)),
}
NEEDED = ("reward", "pi", "mu")
POLICIES = ("pi", "mu")
"""Roles that several columns may play: `log_pi.a`, `log_pi.b`."""


class Casting(NamedTuple):
    """The columns of a log by their roles; of several targets or loggers by `pi.NAME` and `mu.NAME`."""

    columns: dict[str, str]

    def kinds(self) -> dict[str, Kind]:
        """What each column holds."""
        return {name: ROLES[role.partition(".")[0]].kind for role, name in self.columns.items()}

    def several(self, role: str) -> list[str]:
        """The names of several targets or loggers; empty if there is one column or none."""
        return [of.partition(".")[2] for of in self.columns if of.startswith(f"{role}.")]


def check_roles(columns: Mapping[str, str]) -> None:
    """Raises `ValueError` for a role that there is not, or two roles of one column."""
    for role, name in columns.items():
        if role not in ROLES:
            rule = f"name a role among {', '.join(ROLES)}"
            raise FieldError("column", rule, repr(role), MUST)
        if not name:
            raise FieldError("column", f"name the column of {role}", repr(name), MUST)


def cast(names: list[str], columns: Mapping[str, str], *, probabilities: bool, target: str = "") -> Casting:
    """Finds the column of each role.

    Args:
      names: of all columns, in their order.
      columns: names of columns by their roles, where they are not the usual ones.
      probabilities: whether `pi` and `mu` are probabilities; the usual names follow from it.
      target: what the target policy is, "uniform" or an action, if no column says so.

    Raises:
      ValueError: a column is missing or there twice, or `q` and `v` are not given together.
    """
    found: dict[str, str] = {}
    for role in [role for role in ROLES if not (target and role == "pi")]:
        usual = (PROBABILITIES if probabilities else LOGARITHMS).get(role, ROLES[role].names)
        candidates = (columns[role],) if role in columns else usual
        chosen = next(filter(None, (_named(names, role, name) for name in candidates)), {})
        if not chosen and (role in columns or role in (*NEEDED, "episode", "step")):
            can_be_estimated = role == "mu" and {"state", "action"} <= _present(names, columns)
            _refuse_missing(names, role, candidates, is_named=role in columns, optional=can_be_estimated)
        found |= chosen
    if target != "uniform":
        found.pop("num_actions", None)
    if target and "action" not in found and not (target == "uniform" and "num_actions" in found):
        raise ValueError(f"column action is missing, which target needs; there are {', '.join(names) or 'none'}.")
    model = [role for role in ("v", "q") if role in found]
    if len(model) == 1:
        missing = "q" if model == ["v"] else "v"
        raise ValueError(f"columns q and v must be given together, but column {missing} is missing.")
    if len(found.keys() & {"mu"}) == 0 and any(of.startswith("mu.") for of in found) and "logger" not in found:
        several = ", ".join(name for of, name in found.items() if of.startswith("mu."))
        raise ValueError(f"column logger is missing: which of the policies of {several} acted in each row.")
    return Casting(found)


def _present(names: list[str], columns: Mapping[str, str]) -> set[str]:
    """Roles of labels that some column plays."""
    return {
        role
        for role in ("state", "action")
        if any(name in names for name in ((columns[role],) if role in columns else ROLES[role].names))
    }


def _named(names: list[str], role: str, name: str) -> dict[str, str]:
    """The column of this name, or those of several policies whose names begin with it and a dot."""
    if names.count(name) > 1:
        raise ValueError(f"column {name} is there {names.count(name)} times.")
    if name in names:
        return {role: name}
    if role not in POLICIES:
        return {}
    several = [other for other in names if other.startswith(f"{name}.") and len(other) > len(name) + 1]
    for other in several:
        if names.count(other) > 1:
            raise ValueError(f"column {other} is there {names.count(other)} times.")
    return {f"{role}.{other[len(name) + 1 :]}": other for other in several}


def _refuse_missing(
    names: list[str], role: str, candidates: tuple[str, ...], *, is_named: bool, optional: bool
) -> None:
    """Raises `ValueError` for a column that has to be there, or that seems to be there by another name."""
    name = candidates[0]
    known = {usual for each in ROLES.values() for usual in each.names}
    others = {other.strip().casefold(): other for other in names if other not in known}
    near = difflib.get_close_matches(name, others, n=1, cutoff=0.8)
    if not near and not is_named and (optional or role not in NEEDED):
        return
    meant = f"; is {others[near[0]]!r} meant?" if near else "."
    if not near and not is_named and role in POLICIES:
        meant = f"; name it with --column {role}=NAME{' or give --target' if role == 'pi' else ''}."
    what = f"{name}, which is to be {role}," if is_named else name
    raise ValueError(f"column {what} is missing; there are {', '.join(names) or 'none'}{meant}")
