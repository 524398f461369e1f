"""Vowpal Wabbit's logs of contextual bandits: `cb`, `cb_adf`, `cb_eval`, and its JSON, `dsjson`.

Each event is an episode of one step. Costs become rewards, with the opposite sign. Actions count from 1, in `cb_adf`
and `dsjson` by their place among the event's actions.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple

import numpy as np

from isjax.ope.readers.json_lines import objects
from isjax.ope.readers.reading import Choose, Columns, check_rows

NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
LABEL = re.compile(rf"([0-9]+|shared):({NUMBER})(?::({NUMBER}))?")
LONGEST_LINE = 2**24
"""Bytes of a line, at most."""


class Event(NamedTuple):
    """One decision."""

    action: int
    """The one that was taken, counted from 1."""
    reward: float
    """The negated cost."""
    mu: float
    """The probability that it was taken with."""
    actions: int
    """How many there were to choose from; 0 if the log does not say."""
    chosen: int
    """The action of the policy to evaluate; 0 if the log does not say."""


def read_vowpal_wabbit(file: IO[bytes], choose: Choose) -> Columns:
    """Events in one of the text formats, told apart by their lines.

    A log whose lines begin with an action alone is `cb_eval`, one with blank lines or `shared` ones `cb_adf`.
    """
    lines = [line for _, line in itertools.islice(_lines(file), 100)]
    file.seek(0)
    if any(line.startswith("shared") or not line for line in lines):
        return read_cb_adf(file, choose)
    labels = [_label_part(line).split() for line in lines]
    if labels and all(len(words) > 1 and words[0].isdecimal() for words in labels):
        return read_cb_eval(file, choose)
    if any(not words for words in labels):
        return read_cb_adf(file, choose)
    return read_cb(file, choose)


def read_cb(file: IO[bytes], choose: Choose) -> Columns:
    """`action:cost:probability | features`, an event a line."""
    return _columns((_labeled(line, f"line {n}") for n, line in _lines(file) if line), choose)


def read_cb_eval(file: IO[bytes], choose: Choose) -> Columns:
    """`policy_action action:cost:probability | features`, an event a line."""

    def event(number: int, line: str) -> Event:
        words = _label_part(line).split()
        if not words or not words[0].isdecimal() or int(words[0]) < 1:
            found = words[0] if words else line[:60]
            raise ValueError(f"line {number} must begin with an action of the policy, from 1, but it is {found!r}.")
        return _labeled(line, f"line {number}")._replace(chosen=int(words[0]))

    return _columns((event(n, line) for n, line in _lines(file) if line), choose)


def read_cb_adf(file: IO[bytes], choose: Choose) -> Columns:
    """A line an action, the chosen one with a label, an optional `shared` line first; a blank line ends the event."""

    def events() -> Iterator[Event]:
        event: list[tuple[int, str]] = []
        for number, line in itertools.chain(_lines(file), [(0, "")]):
            if line:
                event.append((number, line))
            elif event:
                yield _of_several_lines(event)
                event = []

    return _columns(events(), choose)


def read_dsjson(file: IO[bytes], choose: Choose) -> Columns:
    """An event a line: `_label_cost`, `_label_probability`, `_labelIndex` or `_label_Action`, `a` and `p`."""

    def events() -> Iterator[Event]:
        for number, found in objects(file):
            if "_label_cost" in found or "_label_probability" in found:
                yield _of_json(found, number)

    return _columns(events(), choose)


def _lines(file: IO[bytes]) -> Iterator[tuple[int, str]]:
    """Lines without their ends, with their numbers from 1."""
    for number in itertools.count(1):
        line = file.readline(LONGEST_LINE)
        if not line:
            return
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError:
            raise ValueError(f"it must be in UTF-8, but line {number} is not.") from None


def _label_part(line: str) -> str:
    """What stands before the features; a tag, which begins with a quote or touches the bar, may too."""
    return line.partition("|")[0]


def is_dsjson(file: IO[bytes]) -> bool:
    """Whether the first line is an event of Vowpal Wabbit's; the file is then as it was before."""
    start = file.read(LONGEST_LINE)
    file.seek(0)
    return b'"_label_cost"' in start.partition(b"\n")[0]


def _labeled(line: str, place: str) -> Event:
    """The event of a label; the first one that has a cost counts."""
    for word in _label_part(line).split():
        if ":" not in word:
            continue
        found = LABEL.fullmatch(word)
        if not found or found[1] == "shared":
            raise ValueError(f"{place} must hold action:cost:probability, but there is {word[:60]!r}.")
        if found[3] is None:
            raise ValueError(f"{place} must hold action:cost:probability, but {word[:60]!r} has no probability.")
        return Event(int(found[1]), -float(found[2]), _probability(float(found[3]), place), 0, 0)
    raise ValueError(f"{place} must hold action:cost:probability before a bar, but it is {line[:60]!r}.")


def _probability(p: float, place: str) -> float:
    if not 0.0 < p <= 1.0:
        raise ValueError(f"the probability of {place} must lie in (0, 1], but it is {p:.9g}.")
    return p


def _of_several_lines(lines: list[tuple[int, str]]) -> Event:
    if lines[0][1].startswith("shared"):
        lines = lines[1:]
    labeled = [(i, n, line) for i, (n, line) in enumerate(lines, 1) if ":" in _label_part(line)]
    if len(labeled) != 1:
        first = lines[0][0] if lines else 0
        raise ValueError(
            f"each event must have one line with action:cost:probability, but the one from line {first} on has "
            f"{len(labeled)}."
        )
    place, number, line = labeled[0]
    return _labeled(line, f"line {number}")._replace(action=place, actions=len(lines))


def _of_json(found: dict[str, Any], number: int) -> Event:
    place = f"line {number}"

    def number_of(name: str) -> float:
        x = found.get(name)
        if isinstance(x, bool) or not isinstance(x, int | float):
            raise ValueError(f"{name} of {place} must be a number, but it is {str(x)[:60]!r}.")
        return float(x)

    label = "_labelIndex" if "_labelIndex" in found else "_label_Action"
    action = number_of(label) + (label == "_labelIndex")
    actions = found.get("a") or found.get("p") or []
    if action != int(action) or action < 1 or (actions and action > len(actions)):
        raise ValueError(f"{label} of {place} must be one of its {len(actions)} actions, but it is {found[label]}.")
    mu = _probability(number_of("_label_probability"), place)
    return Event(int(action), -number_of("_label_cost"), mu, len(actions), 0)


def _columns(events: Iterator[Event], choose: Choose) -> Columns:
    """Columns of all events; probabilities are there as they are, and as logarithms."""
    rows = list(events)
    check_rows(len(rows))
    action, reward, mu, actions, chosen = (np.array(x) for x in zip(*rows, strict=True)) if rows else [np.zeros(0)] * 5
    columns = {"action": action, "reward": reward, "mu": mu, "log_mu": np.log(mu)}
    if np.any(chosen):
        is_same = action == chosen
        columns |= {"pi": np.where(is_same, 1.0, 0.0), "log_pi": np.where(is_same, 0.0, -np.inf)}
    if len(rows) and np.all(actions):
        columns["num_actions"] = actions
    return {name: columns[name] for name in choose(list(columns))}


Reader = Callable[[IO[bytes], Choose], Columns]
VOWPAL_WABBIT: dict[str, Reader] = {
    "vw": read_vowpal_wabbit,
    "cb": read_cb,
    "cb_adf": read_cb_adf,
    "cb_eval": read_cb_eval,
    "dsjson": read_dsjson,
}
"""By the name of a format."""
