"""`isjax runs`: one table of what lies below a folder."""

import json
import shutil

import pytest

from isjax import cli

SMALL = ("--env", "Catch-bsuite", "--steps", "640", "--num-envs", "8", "--unroll-length", "8", "--torso", "8")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A finished run, one that was begun, one that is damaged, and a sweep in a folder below."""
    place = tmp_path_factory.mktemp("place")
    assert cli.main(["train", *SMALL, "--learners", "2", "--out", str(place / "done"), "--quiet"]) == 0
    sweep = [
        "sweep",
        *SMALL,
        "--learners",
        "2",
        "--vary",
        "entropy_cost=0,0.1",
        "--out",
        str(place / "deeper" / "sweep"),
    ]
    assert cli.main([*sweep, "--quiet"]) == 0
    (place / "begun").mkdir()
    shutil.copy(place / "done" / "config.json", place / "begun")
    (place / "begun" / "metrics" / "0-1").mkdir(parents=True)
    (place / "begun" / "metrics" / "0-1" / "000000000005.parquet").touch()
    (place / "begun" / "metrics.parquet").touch()  # as a run leaves it that was interrupted
    (place / "broken").mkdir()
    (place / "broken" / "config.json").write_text("{")
    (place / "neither").mkdir()
    return place


def test_every_run_and_sweep_is_listed_with_its_state(place, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    assert cli.main(["runs", str(place)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if str(place) in line]
    begun, broken, sweep, done = lines
    assert "50%, to be resumed" in begun
    assert "damaged" in broken
    assert "sweep of 2, impala on Catch-bsuite" in sweep
    assert "(best)" in sweep
    assert "impala on Catch-bsuite" in done
    assert "finished" in done
    assert f"{json.loads((place / 'done' / 'summary.json').read_text())['final_return']['iqm']:.3g}" in done


def test_a_folder_without_runs_says_how_to_make_one(place, capsys):
    assert cli.main(["runs", str(place / "neither")]) == 0
    assert "isjax train --out" in capsys.readouterr().out


def test_what_is_no_folder_is_named(place, capsys):
    assert cli.main(["runs", str(place / "nowhere")]) == 2
    assert "DIR must be a folder, but" in capsys.readouterr().err
