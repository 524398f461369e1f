"""Notebooks run from the first cell to the last, and hold no output."""

import json
import runpy

import matplotlib
import pytest

from tests.docs.pages import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_its_first_cell_to_its_last(notebook, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    names = {"__name__": "notebook"}
    for cell in cells:
        assert not cell["outputs"]
        exec(compile("".join(cell["source"]), notebook.name, "exec"), names)
    assert capsys.readouterr().out


def test_every_notebook_is_listed_and_opens_in_colab_where_the_repository_is_known():
    pytest.importorskip("latex2mathml")  # of the extra `docs`, as mkdocs is
    hooks = runpy.run_path(str(ROOT / "docs" / "hooks.py"))
    for name in (path.name for path in NOTEBOOKS):
        assert f"(notebooks/{name})" in hooks["_notebooks"](None)
        place = f"https://colab.research.google.com/github/me/isjax/blob/main/docs/notebooks/{name}"
        assert f"[Open in Colab]({place})" in hooks["_notebooks"]("https://github.com/me/isjax/")
    assert "colab" not in hooks["_notebooks"](None)
