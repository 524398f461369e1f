"""Errors of the command line end with the page of the docs that helps."""

from pathlib import Path

import pytest

from isjax.cli import COMMANDS, main
from isjax.commands.evaluate import EvaluateFlags
from isjax.commands.flags import kinds_of
from isjax.commands.pages import PAGES, SITE
from isjax.commands.sweep import SweepFlags
from isjax.commands.train import TrainFlags


def test_the_pages_exist_and_are_of_fields_and_commands():
    root = Path(__file__).parents[1]
    assert [page for page in PAGES.values() if not (root / f"{SITE}{page}.md").exists()] == []
    fields = {name for flags in (EvaluateFlags, SweepFlags, TrainFlags) for name in kinds_of(flags)}
    assert set(PAGES) <= fields | {f"isjax {name}" for name in COMMANDS}


@pytest.mark.parametrize(
    ("argv", "page"),
    [
        ("train --env Cartpole", "environments"),
        ("train --network cnv", "extending/network"),
        ("train --processes 2", "guides/clusters"),
        ("evaluate LOG.csv --discount 1 --column foo", "logs"),
        ("evaluate LOG.csv --discount 1", "logs"),
        ("train --seed -1", None),
    ],
)
def test_an_error_ends_with_the_page_that_helps(argv, page, tmp_path, capsys):
    log = tmp_path / "log.csv"
    log.write_text("reward,log_pi,log_mu\n1,-1,x\n")
    assert main([str(log) if token == "LOG.csv" else token for token in argv.split()]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.endswith(f" See docs/{page}.md.\n") if page else "See docs" not in said
