"""The README says what runs: its blocks, its commands, its numbers."""

import json
import re
import shlex
from pathlib import Path

import pytest

from benchmarks import accelerators, readme
from benchmarks import algorithms as algorithms_benchmark
from benchmarks import claim as claim_of_records
from benchmarks import defaults as defaults_benchmark
from benchmarks import population as population_benchmark
from benchmarks import ppo as ppo_benchmark
from benchmarks import time_to_return as race_benchmark
from isjax import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
MEASURED = readme.MEASURED.read_text()


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_every_python_block_runs(block):
    assert "import" in block
    exec(compile(block, "README.md", "exec"), {})


def test_the_table_of_defaults_is_that_of_its_record():
    records = json.loads(defaults_benchmark.RESULTS.read_text())
    assert [r["command"] for r in records] == [f"isjax train {flags}" for flags in defaults_benchmark.RUNS]
    assert readme.with_table(MEASURED, "defaults", defaults_benchmark.table(records)) == MEASURED


def test_the_table_of_populations_is_that_of_its_record():
    result = json.loads(population_benchmark.RESULTS.read_text())
    assert [(r["environment"], r["learners"]) for r in result["records"]] == list(population_benchmark.CASES)
    assert readme.with_table(MEASURED, "population", population_benchmark.table(result)) == MEASURED


def test_the_claim_is_that_of_its_records():
    race, sizes = (json.loads(module.RESULTS.read_text()) for module in (race_benchmark, population_benchmark))
    said = claim_of_records.claim(race, sizes, accelerators.populations())
    assert readme.with_table(README, "claim", said) == README


def test_the_table_of_algorithms_is_that_of_its_record():
    records = json.loads(algorithms_benchmark.RESULTS.read_text())
    measured = [record["command"] for record in records]
    assert measured == [run for flags in algorithms_benchmark.RUNS if (run := f"isjax train {flags}") in measured]
    assert readme.with_table(MEASURED, "algorithms", algorithms_benchmark.table(records)) == MEASURED


def test_the_table_of_ppo_is_that_of_its_record():
    result = json.loads(ppo_benchmark.RESULTS.read_text())
    assert [r["learners"] for r in result["records"]] == list(ppo_benchmark.SIZES)
    assert readme.with_table(MEASURED, "ppo", ppo_benchmark.table(result)) == MEASURED


def test_the_version_is_the_same_everywhere(capsys):
    assert cli.main(["--version"]) == 0
    said = capsys.readouterr().out.strip()
    assert said == re.search(r"^## (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    assert said == re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1]


def test_every_file_that_is_named_exists():
    proofs = (ROOT / "docs" / "reference" / "proofs.md").read_text()
    named = re.findall(r"`((?:tests|benchmarks)/[\w/.]+)`", proofs)
    assert named
    for path in named + re.findall(r"\]\(([\w/.]+)\)", README):
        assert (ROOT / path).exists(), path


def test_the_flags_of_every_command_are_known(capsys):
    commands = re.findall(r"isjax (train|sweep|best|evaluate|record)((?: [\w./=,:-]+)*)", README)
    assert {name for name, _ in commands} == {"train", "sweep", "best", "evaluate", "record"}
    for name, rest in commands:
        assert cli.main([name, "--help"]) == 0
        known = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
        assert {token for token in shlex.split(rest) if token.startswith("--")} <= known
