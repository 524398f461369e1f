"""The parts of a page as HTML: sections, cards, tables."""

import base64
import html
import importlib.resources
import string
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from plotly.offline import get_plotlyjs

from isjax.errors import FieldError
from isjax.run.files import replacing


def write_page(path: Path, *, title: str, subtitle: str, cards: str, sections: Sequence[str]) -> Path:
    """Writes a whole page, plotly and all; returns its path. Titles are text, the rest is HTML.

    Raises:
      ValueError: the path is a folder, or lies in none.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise FieldError("out", "a file in a folder that exists", path)
    template = string.Template(importlib.resources.files("isjax.report").joinpath("page.html").read_text("utf-8"))
    text = template.substitute(
        title=html.escape(title),
        subtitle=html.escape(subtitle),
        plotly=get_plotlyjs(),
        cards=cards,
        sections="\n".join(sections),
    )
    with replacing(path) as file:
        file.write(text.encode())
    return path


def section(title: str, caption: str, body: str = "") -> str:
    """A heading, a sentence below it, and what is shown."""
    return f'<section><h2>{html.escape(title)}</h2><p class="soft">{html.escape(caption)}</p>{body}</section>'


def grid(figures: Sequence[str]) -> str:
    """Figures side by side where there is room."""
    return f'<div class="figures">{"".join(figures)}</div>' if figures else ""


def cards(entries: Iterable[tuple[str, str]]) -> str:
    """`(name, text)` each; what follows three spaces in the text is set small."""
    made = []
    for name, text in entries:
        big, _, small = text.partition("   ")
        made.append(
            f'<div class="card"><span>{html.escape(name)}</span><b>{html.escape(big)}</b>'
            f"<span>{html.escape(small)}</span></div>"
        )
    return f'<div class="cards">{"".join(made)}</div>'


def table(rows: Iterable[Sequence[Any]], head: Sequence[Any] = (), *, kind: str = "") -> str:
    """A table that scrolls on its own where it is wider than the page. Cells are text, or HTML in an `Html`."""
    top = "<thead><tr>" + "".join(_cell(x, "th") for x in head) + "</tr></thead>" if head else ""
    body = "".join("<tr>" + "".join(_cell(x) for x in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table class="{kind}">{top}<tbody>{body}</tbody></table></div>'


class Html:
    """A cell that is HTML already, with a class of its own."""

    def __init__(self, text: str, kind: str = "") -> None:
        self.text, self.kind = text, kind

    @classmethod
    def dotted(cls, name: str, color: str) -> "Html":
        """A name behind a dot of the color that figures give it."""
        return cls(f'<span class="dot" style="background: {color}"></span>{html.escape(name)}')


def bullets(texts: Iterable[str]) -> str:
    """A list of short entries, in as many columns as there is room for."""
    return f'<ul class="columns">{"".join(f"<li>{html.escape(text)}</li>" for text in texts)}</ul>'


def command(text: str) -> str:
    """A command line to copy."""
    return f"<pre>{html.escape(text)}</pre>"


def film(path: Path, title: str) -> str:
    """A moving picture, part of the page, below its title."""
    kind = path.suffix.removeprefix(".")
    if kind == "html":
        shown = f'<iframe srcdoc="{html.escape(path.read_text())}" width="100%" height="480"></iframe>'
    else:
        data = base64.b64encode(path.read_bytes()).decode()
        shown = f'<img src="data:image/{kind.replace("svg", "svg+xml")};base64,{data}" alt="{html.escape(title)}">'
    return f'<div class="figure"><h3>{html.escape(title)}</h3>{shown}</div>'


def details(summary: str, body: str) -> str:
    """What is shown at a click."""
    return f"<details><summary>{html.escape(summary)}</summary>{body}</details>"


def value(x: Any) -> str:
    """A setting: of learners that differ in it, the range."""
    if isinstance(x, list) and len(x) > 1 and all(isinstance(each, float) for each in x):
        different = np.unique(np.asarray(x, float))
        if len(different) == 1:
            return str(x[0])
        return f"{different[0]:g} to {different[-1]:g}, {len(different):,} values"
    if isinstance(x, list):
        return ", ".join(str(each) for each in x) or "none"
    return str(x)


def _cell(x: Any, tag: str = "td") -> str:
    if isinstance(x, Html):
        return f'<{tag} class="{x.kind}">{x.text}</{tag}>' if x.kind else f"<{tag}>{x.text}</{tag}>"
    return f"<{tag}>{html.escape(str(x))}</{tag}>"
