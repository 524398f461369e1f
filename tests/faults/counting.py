"""What a case came to, and how many came to what."""

from typing import NamedTuple


class Outcome(NamedTuple):
    """What a case came to."""

    name: str
    command: str
    exit_code: int
    output: str
    fault: str | None


def kind(outcome: Outcome) -> str:
    """The fault without its particulars; empty where there is none."""
    return (outcome.fault or "").partition(":")[0]


def count(outcomes: list[Outcome]) -> dict[str, int]:
    """How many outcomes each kind of fault has."""
    kinds = [kind(outcome) for outcome in outcomes if outcome.fault]
    return {name: kinds.count(name) for name in sorted(set(kinds))}
