"""Command lines of `tests.faults`: those that need no process of their own, and a few that do."""

import os
import random

import numpy as np
import pytest
from rich.table import Table

from isjax.commands.output import print_whole
from isjax.errors import FieldError
from isjax.run.progress import Lines
from tests.faults import commands


def faults(cases):
    dice = random.Random(0)
    return [found for found in (commands.outcome(case, dice) for case in cases) if found.fault]


@pytest.mark.parametrize("case", commands.FILES, ids=lambda case: case.content.decode().replace("\n", " "))
def test_a_file_says_what_it_says(case):
    assert not faults([case])


@pytest.mark.parametrize("case", commands.BAD_FILES, ids=lambda case: case.content[:40].decode(errors="replace"))
def test_a_file_that_says_anything_else_is_refused_in_one_line(case):
    assert not faults([case])


@pytest.mark.parametrize("case", commands.BAD_FLAGS, ids=lambda case: case.argv)
def test_flags_that_cannot_be_are_refused_in_one_line(case):
    assert not faults([case])


def sample(shell="", **environment):
    return [case for case in commands.PROCESSES if case.shell == shell and case.environment == environment]


def test_platforms_that_are_not_there_are_one_line():
    assert not faults(sample(JAX_PLATFORMS="nonsense"))


def test_a_meant_nan_stops_nobody_who_looks_for_others():
    assert not faults(sample(JAX_DEBUG_NANS="1"))


def test_output_that_cannot_be_written_is_one_line():
    assert not faults(sample("$ISJAX > /dev/full")[:2])


def test_whoever_reads_one_line_gets_one():
    assert not faults(sample("$ISJAX | head -1"))


def test_ctrl_c_while_importing_is_one_line():
    assert not faults(sample("$ISJAX & MOMENT; kill -INT $!; wait $!"))


def test_the_signal_before_a_scheduler_kills_ends_a_run_in_order():
    assert not faults(sample("$ISJAX & WAIT; kill -USR1 $!; wait $!"))


@pytest.mark.parametrize("columns", [20, 80])
def test_no_number_of_a_table_is_cut_however_narrow_the_terminal(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    table = Table("setting", "IQM return", "95 % interval", "alive")
    table.add_row("learning_rate", "-123.4", "-1.23e+10 to -1.11e+09", "1,024 of 1,024")
    print_whole(table)
    words = capsys.readouterr().out.split()
    assert {"learning_rate", "-123.4", "-1.23e+10", "-1.11e+09", "1,024"} <= set(words)


def test_a_run_goes_on_when_nobody_reads_its_progress(monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("builtins.print", fail)
    Lines().note("12 %")


def test_lines_say_how_many_seconds_are_left_as_measured_so_far(monkeypatch, capsys):
    clock = iter([100.0, 105.0, 125.0])
    monkeypatch.setattr("isjax.run.progress.time.monotonic", lambda: next(clock))
    lines, metrics = Lines(), {"alive": np.ones(2, bool), "episode_return": np.ones(2)}
    lines.start(2, 7)  # of which two were made before
    for update in (3, 7):
        lines.show(update, 1e3, metrics)
    first, last = capsys.readouterr().err.splitlines()
    assert first.endswith("  20 s left")
    assert last.endswith("steps/s")


def test_the_last_of_several_values_counts_and_is_told(capsys):
    from isjax.commands.flags import parse
    from isjax.commands.train import TrainFlags, starting_point

    argv = ["--seed", "1", "--seed=2"]
    assert parse(TrainFlags, argv, prog="isjax train", default=starting_point(argv)).run.seed == 2
    assert capsys.readouterr().err == "--seed is given 2 times: the last one counts.\n"


def test_a_field_error_tells_field_rule_and_value():
    error = FieldError("num_envs", "at least 1", "{num_envs}")
    assert (error.field, error.rule, error.value) == ("num_envs", "at least 1", "{num_envs}")
    assert str(error) == "num_envs must be at least 1, but it is {num_envs}."
    assert isinstance(error, ValueError)


def test_files_that_tables_hold_are_where_they_were():
    """`os.dup` fills closed streams only: an open one keeps its number."""
    from isjax.__main__ import _fill_closed_streams

    before = os.fstat(1), os.fstat(2)
    _fill_closed_streams()
    assert before == (os.fstat(1), os.fstat(2))


def test_the_return_of_nobody_is_nan_on_the_host_alone():
    from isjax.learner import metrics

    on_device = {"episodes": np.float32([0, 2]), "episode_return": np.float32([np.nan, 3.0])}
    kept = metrics.without_nan(on_device)
    np.testing.assert_array_equal(kept["episode_return"], [0.0, 3.0])
    back = metrics.with_nan({name: np.asarray(x) for name, x in kept.items()})
    np.testing.assert_array_equal(back["episode_return"], on_device["episode_return"])
    assert back["episode_return"].dtype == np.float32
