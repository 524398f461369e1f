"""Pages about extending hold complete programs, which run as they stand."""

import re
import runpy
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[2] / "docs" / "extending").glob("*.md"))


def test_there_are_pages():
    assert PAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_program_of_a_page_runs(page, tmp_path, monkeypatch):
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1, "a page holds one file"
    program = tmp_path / f"{page.stem}_page.py"
    program.write_text(blocks[0])
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(program), run_name="__main__")
