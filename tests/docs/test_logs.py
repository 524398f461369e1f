"""The page about logs holds programs, which run as they stand, and commands that the command line knows."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from isjax.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "logs.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = re.findall(r"^```bash\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_each_program_of_the_page_runs(number, capsys):
    names = {}
    exec(compile(PROGRAMS[number], f"docs/logs.md, program {number}", "exec"), names)
    assert "ope" in names
    assert "nan" not in capsys.readouterr().out


def test_each_command_of_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    clicks = {"propensity_score": np.full(99, 0.5), "target": np.full(99, 0.4), "click": rng.integers(2, size=99)}
    pd.DataFrame(clicks).to_csv("clicks.csv", index=False)
    event = '{"_label_cost": -1, "_label_probability": 0.5, "_labelIndex": 0, "a": [1, 2], "p": [0.5, 0.5]}\n'
    Path("events.dsjson").write_text(event * 40)
    assert len(COMMANDS) == 2
    for command in COMMANDS:
        program, *argv = command.replace("\\\n", " ").split()
        assert program == "isjax"
        assert main(argv) == 0
        assert "Better than what ran" in capsys.readouterr().out
