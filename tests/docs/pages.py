"""Programs in the site's pages, and what they print: a `text` block behind a `python` block is its output.

`python -m tests.docs.pages PAGE…` writes what they print into the pages.
"""

import contextlib
import io
import re
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```\n)?", re.DOTALL | re.MULTILINE)


class Program(NamedTuple):
    """A block of a page."""

    code: str
    output: str | None
    """What the page says that it prints; `None` if it says nothing."""


def programs(text: str) -> list[Program]:
    """The programs of a page, in order; later ones may use the names of earlier ones."""
    return [Program(found["code"], found["output"]) for found in BLOCK.finditer(text)]


def printed(code: str, names: dict) -> str:
    """What a program prints."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(code, "<page>", "exec"), names)
    return "".join(f"{line.rstrip()}\n" for line in output.getvalue().splitlines())


def with_outputs(text: str) -> str:
    """The page with what its programs print now."""
    names: dict = {"__name__": "page"}

    def renewed(found: re.Match[str]) -> str:
        output = printed(found["code"], names)
        block = f"```python\n{found['code']}```\n"
        return f"{block}\n```text\n{output}```\n" if output else block

    return BLOCK.sub(renewed, text)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(with_outputs(path.read_text()))
