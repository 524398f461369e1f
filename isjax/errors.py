"""The one error about a setting: which field, what it must be, and what it is."""

import re
from collections.abc import Callable

MUST_BE = "{field} must be {rule}, but it is {value}."
MUST = "{field} must {rule}, but it is {value}."


class FieldError(ValueError):
    """A field that breaks a rule.

    Whoever knows fields by other names, as the command line does, says so in `described`; nothing else of the
    message is touched, whatever words it holds.

    Args:
      field: the name.
      rule: what it must be; other fields in braces.
      value: what it is.
      sentence: how these are put, where the usual words do not fit; other fields in braces here too.

    >>> error = FieldError("burn_in", "less than {unroll_length}, which is 16", 20)
    >>> str(error)
    'burn_in must be less than unroll_length, which is 16, but it is 20.'
    >>> error.described(lambda name: "--" + name.replace("_", "-"))
    '--burn-in must be less than --unroll-length, which is 16, but it is 20.'
    """

    def __init__(self, field: str, rule: str, value: object, sentence: str = MUST_BE) -> None:
        super().__init__(field, rule, value, sentence)
        self.field, self.rule, self.value, self.sentence = field, rule, value, sentence

    def __str__(self) -> str:
        return self.described(str)

    def described(self, named: Callable[[str], str]) -> str:
        """The message, every field called what `named` makes of its name."""

        def fill(text: str, known: dict[str, str]) -> str:
            return re.sub(r"\{(\w+)\}", lambda found: known[found[1]] if found[1] in known else named(found[1]), text)

        known = {"field": named(self.field), "rule": fill(self.rule, {}), "value": str(self.value)}
        return fill(self.sentence, known)


def in_one_line(text: str, *, most: int = 300) -> str:
    """The text on one line: its beginning and its end if it is longer than `most`, and control codes spelled out.

    >>> in_one_line("a path that is long and what is wrong with it", most=24)
    'a path tha … ong with it'
    """
    text = "".join(x if x.isprintable() else x.encode("unicode_escape").decode() for x in " ".join(text.split()))
    if len(text) <= most:
        return text
    begin = (most - 3) // 2
    return f"{text[:begin].rstrip()} … {text[len(text) - (most - 3 - begin) :].lstrip()}"
