"""Settings of every test: float64 where a test asks for it, rank promotion raises, warnings are errors."""

import os
import tempfile

# Eight virtual devices, so that sharding is rehearsed on any machine; before jax looks for devices.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

# What is compiled once need not be compiled again, by another test, another worker or a process that a test starts.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    CACHE = tempfile.TemporaryDirectory(prefix="isjax-tests-")
    os.environ |= {
        "JAX_COMPILATION_CACHE_DIR": CACHE.name,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
    }

import jax
import pytest
from jax import experimental

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def x64():
    """float64 for the length of one test, for comparisons with oracles in NumPy."""
    switch = jax.enable_x64 if hasattr(jax, "enable_x64") else experimental.enable_x64  # before jax 0.8
    with switch(True):
        yield


SLOW = (
    "compat",
    "docs",
    "environments/test_gymnax.py",
    "learner/test_agent.py",
    "learner/test_algorithms.py",
    "learner/test_learner.py",
    "learner/test_randomness.py",
    "learner/test_replay.py",
    "learner/test_uses.py",
    "networks",
    "ope/test_behavior.py",
    "ope/test_distribution.py",
    "ope/test_marginalized.py",
    "ope/test_shrinkage.py",
    "ops/test_silence.py",
    "run/test_hosts.py",
    "run/test_integrity.py",
    "run/test_report.py",
    "run/test_train.py",
    "test_benchmarks.py",
    "test_cli.py",
    "test_cli_commands.py",
    "test_cli_evaluate.py",
    "test_cli_record.py",
    "test_cli_sweep.py",
    "test_experiments.py",
    "test_population.py",
    "test_readme.py",
)
"""Files and folders that train, start processes or compile much: `-m "not slow"` leaves them out."""
LONG = (
    "ope/test_distribution.py::test_cvar_of_everything_is_the_weighted_mean",
    "ope/test_distribution.py::test_quantiles_and_their_intervals_follow_from_the_band",
    "ope/test_distribution.py::test_the_band_holds_the_true_function_as_a_whole_in_most_logs",
    "ope/test_marginalized.py::test_a_log_with_states_is_evaluated_by_state_too",
    "ope/test_marginalized.py::test_its_error_is_smaller_than_that_of_products",
    "ope/test_marginalized.py::test_standard_error_is_the_spread_of_the_estimate[True]",
    "ope/test_marginalized.py::test_where_every_state_has_a_single_path_it_is_per_decision",
    "ope/test_shrinkage.py::test_a_horizon_is_chosen_from_per_decision_down_to_one_ratio_or_the_model",
    "ope/test_shrinkage.py::test_a_parameter_chosen_by_slope_beats_none_where_weights_have_heavy_tails[clip]",
    "ope/test_shrinkage.py::test_incremental_weights_drop_ratios_that_do_not_matter",
    "ope/test_stationary.py",
    "test_benchmarks.py::test_a_quick_run_measures_and_writes_nothing[floor]",
    "test_cli_sweep.py::test_a_sweep_that_is_killed_again_and_again",
    "test_experiments.py::test_a_quick_run_ends_well_and_writes_nothing[minatar]",
    "test_experiments.py::test_a_quick_run_ends_well_and_writes_nothing[many_seeds]",
)
"""Tests that are left out unless they are asked for, `-m "slow or not slow"`: each takes a minute or more, and others
see nearly all that they see."""


def pytest_collection_modifyitems(items):
    for item in items:
        place = item.nodeid.removeprefix("tests/")
        if place.startswith(SLOW):
            item.add_marker("slow")
        if place.startswith(LONG):
            item.add_marker("long")
