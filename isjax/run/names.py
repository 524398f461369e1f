"""Names of settings as flags, and numbers as text: what a command line needs before the settings themselves."""

from collections.abc import Sequence
from typing import Any

from isjax._renamed import SETTINGS, present


def present_values(name: str, values: Sequence[Any]) -> tuple[str, list[Any]]:
    """A setting and values of it, by the name and the values that it has now if it was called otherwise before.

    >>> present_values("towers", ["shared", "separate"]), present_values("torso", ["64"])
    (('share_torso', [True, False]), ('torso', ['64']))
    """
    former = name.strip().replace("-", "_")
    if former not in SETTINGS:
        return name, list(values)
    return SETTINGS[former][0], [x for value in values for x in present({former: value}).values()]


def flag_of(name: str) -> str:
    """The flag of a field.

    >>> flag_of("lambda_"), flag_of("num_envs")
    ('--lambda', '--num-envs')
    """
    return "--" + name.rstrip("_").replace("_", "-")


def switch_of(name: str, is_on: bool) -> str:
    """The flag that switches a field on or off."""
    return flag_of(name) if is_on else flag_of(name).replace("--", "--no-", 1)


def read_number(kind: type, text: str) -> Any:
    """A whole number of 64 bits, or a number that is one.

    Raises:
      ValueError: it is not; the message is what it must be.
    """
    rule = "a whole number" if kind is int else "a number"
    try:
        x = kind(text)
    except ValueError:
        raise ValueError(rule) from None
    if isinstance(x, int) and not -(2**63) <= x < 2**63:
        raise ValueError("a whole number of at most 64 bits")
    if x != x:
        raise ValueError(rule)
    return x
