"""compat.rlax in rlax's place: every public name of rlax, its signatures, its own tests."""

import inspect
import json
import os
import subprocess
import sys

import jax.numpy as jnp
import pytest

from isjax.compat import rlax as ours
from tests.peers import rlax

NAMES = [name for name in dir(rlax) if not name.startswith("_")]
MORE = {"VTraceOutput", "importance_corrected_td_errors", "q_lambda_targets", "retrace_targets"}
"""What rlax does not export, or does not have."""
OURS = [name for name in NAMES if getattr(ours, name) is not getattr(rlax, name)]


def test_the_names_are_those_of_the_installed_rlax_and_a_few_more():
    assert len(NAMES) == 127
    assert set(ours.__all__) == {*NAMES, *rlax.__all__, *MORE}
    assert set(dir(ours)) >= set(ours.__all__)
    assert {name for name in ours.__all__ if not hasattr(ours, name)} == set()


def test_what_is_not_written_here_is_the_very_object_of_rlax():
    assert len(OURS) == 24
    assert all(getattr(ours, name).__module__.startswith("isjax.compat.rlax") for name in OURS)
    assert ours.__version__ == rlax.__version__


def test_a_star_import_brings_every_name():
    program = "from isjax.compat.rlax import *; import isjax.compat.rlax as m; assert set(m.__all__) <= set(globals())"
    result = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_name_that_neither_has_is_an_error_that_says_so():
    with pytest.raises(AttributeError, match=r"'isjax.compat.rlax' has no attribute 'vtrce', nor has rlax \d"):
        _ = ours.vtrce
    with pytest.raises(AttributeError, match=r"'isjax.compat.rlax' has no attribute '__wrapped__'$"):
        _ = ours.__wrapped__


@pytest.mark.parametrize("name", OURS)
def test_arguments_their_order_and_defaults_are_those_of_rlax_and_the_rest_comes_by_name_alone(name):
    mine, theirs = (list(inspect.signature(getattr(m, name)).parameters.values()) for m in (ours, rlax))
    kept, more = mine[: len(theirs)], mine[len(theirs) :]
    assert [(p.name, p.default, p.kind) for p in kept] == [(p.name, p.default, p.kind) for p in theirs]
    assert all((p.default, p.kind) == (None, p.KEYWORD_ONLY) for p in more)
    without_time = {"categorical_importance_sampling_ratios", "clipped_surrogate_pg_loss"}
    assert ("same_episode_t" in [p.name for p in more]) == (name not in without_time)


@pytest.mark.parametrize("name", OURS)
def test_each_function_written_here_says_what_it_does(name):
    text = inspect.getdoc(getattr(ours, name))
    assert text != inspect.getdoc(getattr(rlax, name))
    assert ">>> " in text


def own_tests(*modules):
    command = [sys.executable, "-m", "tests.compat.rlax_suite", *modules]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout)


def test_rlaxs_own_tests_of_returns_pass_with_these_functions_in_place():
    summary = own_tests("multistep_test", "rlax_test")
    assert summary["ran"] >= 67
    assert summary["skipped"] == 0
    assert {"lambda_returns", "n_step_bootstrapped_returns", "importance_corrected_td_errors"} <= set(summary["calls"])


@pytest.mark.timeout(1800)
def test_all_of_rlaxs_own_tests_pass_with_these_functions_in_place():
    summary = own_tests()
    assert set(summary["left_out"]) <= {"mpo_ops_test", "pop_art_test"}, "these need haiku"
    assert all("haiku" in reason for reason in summary["left_out"].values())
    assert summary["ran"] >= 700 + 200 * (not summary["left_out"])
    assert summary["skipped"] == 0
    untested = {
        "general_off_policy_returns_from_action_values",
        "general_off_policy_returns_from_q_and_v",
        "leaky_vtrace_td_error_and_advantage",
        "transformed_general_off_policy_returns_from_action_values",
        "transformed_lambda_returns",
        "transformed_n_step_returns",
    }
    assert set(OURS) - set(summary["calls"]) <= untested, "reached through others of ours alone, or by no test of rlax"


def test_a_function_that_is_put_in_place_wrongly_fails_rlaxs_own_tests():
    program = """
import isjax.compat.rlax as ours
right = ours.lambda_returns
ours.lambda_returns = lambda *args, **kwargs: right(*args, **kwargs) + 1e-3
ours.lambda_returns.__module__ = right.__module__
from tests.compat import rlax_suite
print(rlax_suite.run(["multistep_test"], theirs=False)["failed"])
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "LambdaReturnsTest" in result.stdout, result.stderr[-3000:]
    assert "DiscountedReturnsTest" not in result.stdout


def test_rlax_is_imported_only_when_something_of_its_own_is_asked_for():
    program = """
import sys
from isjax.compat import rlax
rlax.vtrace, rlax.lambda_returns, rlax.__name__, hasattr(rlax, "__wrapped__"), dir(rlax)
assert "rlax" not in sys.modules
rlax.l2_loss
assert "rlax" in sys.modules
"""
    result = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("first", ["", "import rlax"])
def test_others_may_import_it_as_rlax(first):
    program = f"""
import sys, warnings
warnings.simplefilter("ignore")
{first}
from isjax.compat import rlax as ours
sys.modules["rlax"] = ours
import rlax
from rlax import l2_loss, transformed_retrace, vtrace
assert rlax is ours is sys.modules["rlax"] and vtrace is ours.vtrace
assert l2_loss.__module__ == "rlax._src.losses" and transformed_retrace.__module__.startswith("isjax")
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


def test_functions_of_both_are_used_side_by_side():
    error = ours.td_lambda(jnp.zeros(2), jnp.ones(2), jnp.ones(2), jnp.zeros(2), 1.0)
    assert jnp.sum(ours.l2_loss(error)) == 2.5
