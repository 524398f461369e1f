"""What inputs that are wrong on purpose come to."""

from typing import NamedTuple


class Outcome(NamedTuple):
    """What a case came to."""

    name: str
    command: str
    exit_code: int
    output: str
    fault: str | None
