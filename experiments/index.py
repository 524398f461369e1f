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
    """In Markdown, of the experiments that have a record: a table with thumbnails, then a section each."""
    known = [name for name in names() if (ROOT / name / "result.json").exists()]
    # Images yield to text: only words that cannot be broken keep a column as wide as they are.
    lines = [f"| {'&nbsp;' * 45} | question and answer | minutes |", "| --- | --- | --- |"]
    sections = []
    for name in known:
        result = json.loads((ROOT / name / "result.json").read_text())
        thumbnail = f'<a href="#{name}"><img src="{name}/figure.png" width="200" alt="{name}"></a>'
        said = f"**[{result['question']}](#{name})** {result['answer']}"
        lines.append(f"| {thumbnail} | {said} | {max(result['minutes'], 0.1):g} |")
        sections.append(
            f"## {name}\n\n**{result['question']}** {result['answer']}\n\n"
            f"![{result['question']}]({name}/figure.png)\n\n{result['details']}\n\n"
            f"`python -m experiments.{name}.run`: [run.py]({name}/run.py), [result.json]({name}/result.json).\n"
        )
        if (ROOT / name / "page.html").exists():
            sections.append(f"To play with, in a browser: [page.html]({name}/page.html).\n")
    return "\n".join(lines) + "\n\n" + "\n".join(sections)


def indexed(readme: str) -> str:
    """The README with the index of now between its marks."""
    before, rest = readme.split(BEGIN)
    return before + BEGIN + index() + END + rest.split(END)[1]


def write() -> None:
    """Renews the index in the README."""
    README.write_text(indexed(README.read_text()))
