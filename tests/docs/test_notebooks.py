"""Notebooks run from the first cell to the last, and hold no output."""

import json

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
