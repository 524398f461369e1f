"""Settings of every test: float64 where one asks, rank promotion raises, warnings are errors, quick compiling."""

import os
import tempfile

# Eight virtual devices, so that sharding is rehearsed on any machine; before jax looks for devices.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

# Most of a test's time is the compiler's. Without its last passes it takes half; `OPTIMIZED` says who wants them.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"

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


OPTIMIZED = ("run", "test_population.py", "test_stats")
"""Files and folders that see programs as users have them, since they claim that numbers are equal bit for bit; unless
only the fast tier is asked for."""
FORMULAS = ("compat", "losses", "ope", "ops")
"""Those that see programs as users have them where everything is asked for."""
SLOW = (
    "compat",
    "docs",
    "environments/test_api.py",
    "environments/test_contract.py",
    "environments/test_distributions.py",
    "environments/test_gymnax.py",
    "environments/test_product.py::test_a_learner_of_several_integers_never_takes_a_barred_one_and_learns",
    "environments/test_registry.py::test_a_run_with_an_environment_of_ones_own_is_found_again_by_its_name",
    "environments/test_seaquest.py",
    "environments/test_suites.py",
    "learner/test_action_values.py",
    "learner/test_agent.py",
    "learner/test_algorithms.py",
    "learner/test_evaluation.py",
    "learner/test_learner.py",
    "learner/test_learning.py",
    "learner/test_randomness.py",
    "learner/test_recording.py",
    "learner/test_replay.py",
    "learner/test_resets.py",
    "learner/test_soft_actor_critic.py",
    "learner/test_uses.py",
    "losses/test_products.py",
    "losses/test_trust_region.py",
    "networks",
    "ope/test_estimator.py",
    "ope/test_intervals.py",
    "ope/test_behavior.py",
    "ope/test_distribution.py",
    "ope/test_marginalized.py",
    "ope/test_on_host.py::test_every_estimator_is_what_it_is_when_compiled_and_compiles_nothing",
    "ope/test_shrinkage.py",
    "ops/test_silence.py",
    "report/test_report.py",
    "run/test_films.py",
    "run/test_hosts.py",
    "run/test_integrity.py",
    "run/test_report.py",
    "run/test_train.py",
    "test_architecture.py::test_examples_in_docstrings_give_what_they_say",
    "test_benchmarks.py",
    "test_cli.py",
    "test_cli_commands.py",
    "test_cli_envs.py",
    "test_cli_evaluate.py",
    "test_cli_record.py",
    "test_cli_runs.py",
    "test_cli_sweep.py",
    "test_experiments.py",
    "test_population.py",
    "test_readme.py",
    "test_stats.py",
    "test_renamed.py::test_a_run_that_the_version_before_began",
)
"""Files and folders that train, start processes or compile much: `-m "not slow"` leaves them out."""
LONG = (
    "learner/test_soft_actor_critic.py::test_a_run_is_trained_recorded_evaluated_swept_and_its_best_learner_saved",
    "environments/test_distributions.py::test_an_excluded_action_is_never_drawn_at_any_edge_of_the_cumulative_distribution[10000]",
    "learner/test_action_values.py::test_a_run_is_trained_recorded_evaluated_and_its_best_learner_saved",
    "compat/test_rlax_names.py::test_a_function_that_is_put_in_place_wrongly",
    "compat/test_rlax_names.py::test_all_of_rlaxs_own_tests_pass",
    "losses/test_contract.py::test_losses_of_action_values_are_means_over_streams",
    "losses/test_contract.py::test_losses_of_action_values_compute_bfloat16",
    "losses/test_contract.py::test_padding_is_not_in_the_denominator_of_action_values",
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
    "run/test_hosts.py::test_one_learners_environments_may_be_spread_over_hosts",
    "run/test_hosts.py::test_when_a_host_dies_the_other_stops_with_a_clear_message_and_the_folder_resumes[1]",
    "test_benchmarks.py::test_a_quick_run_measures_and_writes_nothing[floor]",
    "test_cli_sweep.py::test_a_sweep_that_is_killed_again_and_again",
    "test_experiments.py::test_a_quick_run_ends_well_and_writes_nothing[minatar]",
    "test_experiments.py::test_a_quick_run_ends_well_and_writes_nothing[many_seeds]",
    "test_experiments.py::test_a_quick_run_ends_well_and_writes_nothing[policy_lag]",
    "test_experiments.py::test_a_quick_run_ends_well_and_writes_nothing[sample_reuse]",
    "test_experiments.py::test_a_quick_run_ends_well_and_writes_nothing[suites]",
    "test_experiments.py::test_a_quick_run_ends_well_and_writes_nothing[tabular]",
)
"""Tests that are left out unless they are asked for, `-m "slow or not slow"`: each takes a minute or more, and others
see nearly all that they see."""


def place_of(item):
    return item.nodeid.removeprefix("tests/")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Before any fixture of the test, those of its module included."""
    tier = item.config.option.markexpr
    optimized = {"not slow": (), "not long": OPTIMIZED}.get(tier, OPTIMIZED + FORMULAS)
    is_optimized = place_of(item).startswith(optimized)
    jax.config.update("jax_disable_most_optimizations", not is_optimized)


def pytest_collection_modifyitems(items):
    for item in items:
        place = place_of(item)
        if place.startswith(SLOW + LONG):
            item.add_marker("slow")
        if place.startswith(LONG):
            item.add_marker("long")
