"""The page for users of other libraries: its code runs, and the names in its tables exist."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import isjax
from isjax import losses, ops
from isjax.compat import rlax as ours
from isjax.learner import Config, Hyper

from tests.peers import rlax  # isort: skip  # before the benchmark imports it, since it warns

from benchmarks import compat
from benchmarks.readme import with_table

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "coming-from.md"
TEXT = PAGE.read_text()
PLACES = {
    "ops": set(ops.__all__),
    "losses": set(losses.__all__),
    "Config": {field.name for field in dataclasses.fields(Config)},
    "Hyper": {field.name for field in dataclasses.fields(Hyper)},
}


def test_the_code_runs_as_it_stands(tmp_path):
    program = tmp_path / "coming_from.py"
    program.write_text("\n".join(re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    result = subprocess.run([sys.executable, program], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("place", PLACES)
def test_names_of_ours_exist(place):
    named = set(re.findall(rf"`{place}\.(\w+)", TEXT))
    assert named
    assert named <= PLACES[place], named - PLACES[place]


def test_the_table_of_rlax_names_every_function_that_is_written_here():
    table = TEXT.split("| rlax | what is more")[1].split("\n\n")[0]
    names = {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    here = {name for name in dir(rlax) if not name.startswith("_") and getattr(ours, name) is not getattr(rlax, name)}
    assert names == here | {"policy_gradient_loss", "entropy_loss"}


def test_the_table_of_times_is_that_of_its_record():
    record = json.loads((ROOT / "benchmarks" / "results" / "compat.json").read_text())
    assert with_table(TEXT, "compat", compat.table(record)) == TEXT


def test_links_lead_to_files():
    links = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert links
    assert [link for link in links if not (PAGE.parent / link).exists()] == []
    callers = {path.name for path in (PAGE.parent / "callers").glob("*.py")}
    assert callers == {Path(link).name for link in links if link.endswith(".py")}


def test_the_package_that_the_page_speaks_of_is_this_one():
    assert Path(isjax.__file__).parents[1] == ROOT
