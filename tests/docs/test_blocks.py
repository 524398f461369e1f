"""Every block of code of the README and the site is run or read by some test; commands are, here, in a quick form."""

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from isjax import cli
from isjax.environments.registry import is_installed
from isjax.learner.metrics import METRICS
from tests.docs.pages import ROOT, programs

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
QUICK = ["--learners", "2", "--steps", "640", "--num-envs", "2", "--unroll-length", "4", "--torso", "8", "--quiet"]
"""What is put behind a training's own flags; of a flag that is given twice the last value counts."""
FRESH = {"train": [*QUICK, "--evaluation-episodes", "2"], "sweep": [*QUICK, "--evaluation-episodes", "2"]}
FRESH |= {"record": ["--episodes", "4"], "best": ["--episodes", "2"]}
ELSEWHERE = ("--distributed", "--coordinator", "PYTHONPATH")
"""Commands of several hosts, and of a file that a page shows: tests of hosts and of these pages run them."""
NOT_CODE = {"architecture": 1}
"""Blocks of plain text that are no program's output, by page: a drawing."""


class Block(NamedTuple):
    """A block of a document."""

    document: Path
    language: str
    text: str


BLOCKS = [Block(path, *found) for path in DOCUMENTS for found in FENCE.findall(path.read_text())]
WITH_COMMANDS = [path for path in DOCUMENTS if any(b.document == path and b.language == "bash" for b in BLOCKS)]


def of(language):
    return [block for block in BLOCKS if block.language == language]


def commands(block):
    """The lines of a block that call isjax, without comments."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [shlex.split(line.split(" #")[0]) for line in lines if re.match(r"(?:[A-Z_]+=\S+ )*isjax ", line)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what commands find: runs, and logs."""
    place = tmp_path_factory.mktemp("place")
    many = place / "runs" / "many"
    assert cli.main(["train", *FRESH["train"], "--out", str(many)]) == 0
    for name in ("a", "b", "first"):
        shutil.copytree(many, place / "runs" / name)
    rng = np.random.default_rng(0)
    clicks = {"propensity_score": np.full(99, 0.5), "target": np.full(99, 0.4), "click": rng.integers(2, size=99)}
    pd.DataFrame(clicks).to_csv(place / "clicks.csv", index=False)
    logs = {"reward": rng.normal(size=99), "log_pi": np.full(99, -0.7), "log_mu": np.full(99, -0.6)}
    pd.DataFrame(logs).to_parquet(place / "log.parquet")
    event = {"_label_cost": -1, "_label_probability": 0.5, "_labelIndex": 0, "a": [1, 2], "p": [0.5, 0.5]}
    (place / "events.dsjson").write_text(f"{json.dumps(event)}\n" * 40)
    return place


@pytest.mark.parametrize("document", WITH_COMMANDS, ids=lambda path: path.stem)
def test_the_commands_of_a_page_run(document, place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(shutil.copytree(place, tmp_path / "place"))
    for block in BLOCKS:
        if block.document != document or block.language != "bash":
            continue
        subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
        for words in commands(block):
            argv = words[words.index("isjax") + 1 :]
            if set(ELSEWHERE) & set(argv):
                continue
            suite, slash, _ = argv[argv.index("--env") + 1].partition("/") if "--env" in argv else ("", "", "")
            if slash and not is_installed(suite):
                assert cli.main(argv) == 2
                assert f"pip install 'isjax[{suite}]'" in capsys.readouterr().err
                continue
            if argv[0] in ("train", "sweep") and "--resume" not in argv and "--out" in argv:
                shutil.rmtree(argv[argv.index("--out") + 1], ignore_errors=True)
            assert cli.main([*argv, *([] if "--resume" in argv else FRESH.get(argv[0], []))]) == 0, words


def test_the_files_and_numbers_of_a_run_are_those_that_the_reference_names(place):
    named = set(re.findall(r"`([\w./]+)`", (ROOT / "docs" / "reference" / "_run_folder.md").read_text()))
    run = place / "runs" / "many"
    assert {path.name + "/" * path.is_dir() for path in run.glob("[!.]*")} <= named
    assert set(json.loads((run / "summary.json").read_text())["final_return"]) <= named
    assert set(pq.read_schema(run / "metrics.parquet").names) <= {"learner", "update", *METRICS}


def test_blocks_are_counted_and_every_one_is_run_or_read():
    """Python: each is one of the programs that other tests of this folder run, and a text behind it is its output."""
    assert {block.language for block in BLOCKS} == {"bash", "console", "python", "text", "toml", "yaml"}
    found = [program for path in DOCUMENTS for program in programs(path.read_text())]
    assert len(found) == len(of("python"))
    drawings = sum(NOT_CODE.get(block.document.stem, 0) for block in of("text"))
    assert sum(program.output is not None for program in found) == len(of("text")) - drawings
    for block in of("toml"):
        assert tomllib.loads(block.text)
    for block in of("yaml"):
        assert list(yaml.safe_load_all(block.text))
    for block in of("console"):
        assert all(line.startswith("$ PYTHONPATH=. isjax ") for line in block.text.splitlines())


def test_the_file_of_a_sweep_is_one(tmp_path, monkeypatch, capsys):
    [block] = [block for block in of("toml") if block.document.stem == "sweeps"]
    monkeypatch.chdir(tmp_path)
    Path("sweep.toml").write_text(block.text)
    assert cli.main(["sweep", "--file", "sweep.toml", *FRESH["sweep"], "--out", "sweep"]) == 0
