"""What the site takes from elsewhere in the repository; and formulas as MathML, which takes no script."""

import html
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {
    "evidence/experiments.md": "experiments/README.md",
    "evidence/benchmarks.md": "benchmarks/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
"""Pages of the site, and the documents that they are."""
FIGURES = ("experiments/*/*.png", "experiments/*/page.html", "benchmarks/results/*.png")
"""Files that these pages show."""
FOLDER = "evidence"
"""Where they are on the site."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages and figures that are kept elsewhere, and those that are generated."""
    for place, source in PAGES.items():
        text = (ROOT / source).read_text()
        files.append(File.generated(config, place, content=_links(text, source, place)))
    for path in [path for pattern in FIGURES for path in ROOT.glob(pattern)]:
        files.append(File.generated(config, f"{FOLDER}/{path.relative_to(ROOT)}", abs_src_path=str(path)))
    sys.path.insert(0, str(ROOT))
    for name, write in {"command_line": _command_line, "algorithms": _algorithms, "run_folder": _run_folder}.items():
        files.append(File.generated(config, f"reference/{name}.md", content=write()))
    files.append(File.generated(config, "notebooks.md", content=_notebooks(config.repo_url)))
    return files


def on_page_content(content: str, **_: object) -> str:
    """Formulas as MathML, which browsers show by themselves."""
    pattern = r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>'

    def formula(found: re.Match[str]) -> str:
        return convert(html.unescape(found[2]), display="block" if found[1] == "div" else "inline")

    return re.sub(pattern, formula, content, flags=re.DOTALL)


def _links(text: str, source: str, place: str) -> str:
    """A document with its relative links as they are from its place on the site; what is not on it is only named."""
    figures = {str(path.relative_to(ROOT)) for pattern in FIGURES for path in ROOT.glob(pattern)}
    pages = {document: page for page, document in PAGES.items()}

    def goal(link: str) -> str | None:
        path, _, anchor = link.partition("#")
        if not path or "://" in link:
            return link
        full = os.path.normpath(Path(source).parent / path)
        if full in figures:
            there = f"{FOLDER}/{full}"
        elif full in pages:
            there = pages[full]
        elif full.startswith("docs/") and (ROOT / full).is_file():
            there = full.removeprefix("docs/")
        else:
            return None
        return os.path.relpath(there, Path(place).parent) + (f"#{anchor}" if anchor else "")

    def image(found: re.Match[str]) -> str:
        return f"![{found[1]}]({goal(found[2])})"

    def link(found: re.Match[str]) -> str:
        there = goal(found[2])
        return f"[{found[1]}]({there})" if there else found[1]

    text = re.sub(r'<img src="([^"]+)" width="(\d+)" alt="([^"]+)">', r'![\3](\1){ width="\2" }', text)
    text = re.sub(r"!\[([^\]]*)\]\(([^)\s]+)\)", image, text)
    return re.sub(r"(?<!!)\[([^\]\[]*)\]\(([^)\s]+)\)", link, text)


def _notebooks(repository: str | None) -> str:
    """The notebooks, each as it introduces itself, and what opens it in Colab where the repository is known."""
    parts = ["# Notebooks", "Sizes are small, so that they run from the first cell to the last on two cores."]
    name = (repository or "").rstrip("/").partition("github.com/")[2]
    if name:
        parts.append(f"In Colab, run `%pip install git+{repository}` first.")
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        title, introduction = "".join(json.loads(path.read_text())["cells"][0]["source"]).split("\n", 1)
        buttons = [f"[Download](notebooks/{path.name}){{ .md-button }}"]
        if name:
            place = f"https://colab.research.google.com/github/{name}/blob/main/{path.relative_to(ROOT)}"
            buttons.append(f"[Open in Colab]({place}){{ .md-button }}")
        parts += [f"#{title}", introduction.strip(), " ".join(buttons)]
    return "\n\n".join(parts) + "\n"


def _command_line() -> str:
    """Every command with what its `--help` says."""
    from isjax.cli import COMMANDS

    def said(arguments: list[str]) -> str:
        environment = os.environ | {"COLUMNS": "100", "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-m", "isjax", *arguments, "--help"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    with ThreadPoolExecutor(2) as pool:
        helps = list(pool.map(said, [[], *([name] for name in COMMANDS)]))
    parts = ["# Command line", _block(helps[0])]
    for (name, command), text in zip(COMMANDS.items(), helps[1:], strict=True):
        parts += [f"## isjax {name}", f"{command.help[0].upper()}{command.help[1:]}.", _block(text)]
    return "\n\n".join(parts) + "\n"


def _algorithms() -> str:
    """The table of algorithms with the settings that each uses."""
    from isjax.learner import defaults
    from isjax.learner.algorithms.base import PARTICULAR, algorithms

    rows = ["| `--algorithm` | what it is | settings of its own |", "| --- | --- | --- |"]
    for name in algorithms.names:
        algorithm = algorithms.get(name)(defaults("CartPole-v1", name)[0])
        uses = PARTICULAR if algorithm.uses is None else algorithm.uses
        settings = ", ".join(f"`--{field.strip('_').replace('_', '-')}`" for field in uses)
        rows.append(f"| `{name}` | {(algorithm.__doc__ or '').strip().splitlines()[0]} | {settings} |")
    return (
        "# Algorithms\n\nA setting that an algorithm does not use is refused where it is given.\n\n"
        + "\n".join(rows)
        + "\n"
    )


def _run_folder() -> str:
    """The files of a run, and the columns of its table."""
    from isjax.learner.metrics import METRICS

    rows = ["| column | what it is | over updates | axis |", "| --- | --- | --- | --- |"]
    rows += [f"| `{m.name}` | {m.title} | {m.reduction} | {m.unit} |" for m in METRICS.values()]
    return (Path(__file__).parent / "reference" / "_run_folder.md").read_text() + "\n".join(rows) + "\n"


def _block(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```"
