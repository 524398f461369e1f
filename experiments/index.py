"""The index of experiments, written from their records."""

import json
from pathlib import Path

ROOT = Path(__file__).parent
README = ROOT / "README.md"
BEGIN, END = "<!-- index: generated from result.json of each folder -->\n", "<!-- /index -->"


def names() -> list[str]:
    """Of all experiments: the folders that hold a `run.py`."""
    return sorted(path.parent.name for path in ROOT.glob("*/run.py"))


def index() -> str:
    """Table and figures, in Markdown, of the experiments that have a record."""
    known = [name for name in names() if (ROOT / name / "result.json").exists()]
    lines = ["| question | answer | run it |", "| --- | --- | --- |"]
    figures = []
    for name in known:
        result = json.loads((ROOT / name / "result.json").read_text())
        link, cost = f"[{result['question']}]({name}/run.py)", f"{max(result['minutes'], 0.1):g} minutes"
        lines.append(f"| {link} | {result['answer']} | `python -m experiments.{name}.run` ({cost}) |")
        figures.append(f"## {name}\n\n![{result['question']}]({name}/figure.png)\n")
        if (ROOT / name / "page.html").exists():
            figures.append(f"To play with, in a browser: [page.html]({name}/page.html).\n")
    return "\n".join(lines) + "\n\n" + "\n".join(figures)


def indexed(readme: str) -> str:
    """The README with the index of now between its marks."""
    before, rest = readme.split(BEGIN)
    return before + BEGIN + index() + END + rest.split(END)[1]


def write() -> None:
    """Renews the index in the README."""
    README.write_text(indexed(README.read_text()))
