"""Programs in the site's pages run, and print what the pages say."""

import re

import numpy as np
import pyarrow.parquet as pq
import pytest

from isjax.run.table import rows
from tests.docs.pages import ROOT, printed, programs

NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
ELSEWHERE = ("logs.md", "coming-from.md")
"""Pages whose programs other tests run."""
PAGES = sorted(
    page for page in (ROOT / "docs").rglob("*.md") if page.parent.name != "extending" and page.name not in ELSEWHERE
)
WITH_PROGRAMS = [page for page in PAGES if programs(page.read_text())]


def test_every_lesson_has_a_program_with_its_output():
    lessons = {page.stem for page in PAGES if page.parent.name == "learn" and page.stem != "index"}
    shown = {page.stem for page in WITH_PROGRAMS if any(program.output for program in programs(page.read_text()))}
    assert len(lessons) == 8
    assert lessons <= shown


@pytest.mark.parametrize("page", WITH_PROGRAMS, ids=lambda page: page.stem)
def test_the_programs_of_a_page_print_what_it_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "many").mkdir(parents=True)
    metrics = {"alive": np.array([True, True]), "episode_return": np.array([1.0, 2.0])}
    pq.write_table(rows(1, np.arange(2), metrics), "runs/many/metrics.parquet")
    names = {"__name__": "page"}
    for code, output in programs(page.read_text()):
        found = printed(code, names)
        if output is not None:
            assert NUMBER.sub("#", found) == NUMBER.sub("#", output)
            numbers = [[float(x) for x in NUMBER.findall(text)] for text in (found, output)]
            np.testing.assert_allclose(*numbers, rtol=0.02, atol=0.02)
