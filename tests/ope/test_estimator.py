"""What estimators declare, and that everything said about an estimate follows from it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import ope
from isjax.ope.estimator import ESTIMATORS
from isjax.ope.trajectory import WEIGHTED_IS
from isjax.types import LoggedEpisodes


@pytest.fixture
def registry(monkeypatch):
    """The registry, put back afterwards."""
    before = dict(ESTIMATORS)
    yield ESTIMATORS
    ESTIMATORS.clear()
    ESTIMATORS.update(before)


def log():
    rng = np.random.default_rng(0)
    arrays = jnp.asarray(rng.normal(size=(2, 3, 60)), jnp.float32)
    return LoggedEpisodes(0.3 * arrays[0], arrays[1], jnp.ones((3, 60), bool))


def judged(*names):
    return ope.evaluate_log(log(), 0.9, key=jax.random.key(0), estimators=names, resamples=50).estimates


def test_an_estimator_under_a_second_name_is_judged_alike(registry):
    ope.register(dataclasses.replace(WEIGHTED_IS, name="mine"))
    of = judged("weighted_is", "mine")
    assert of["mine"] == of["weighted_is"]


def test_an_estimator_of_ones_own_is_evaluated_with_all_others(registry):
    def first_rewards(log_rho_tm1, r_t, discount, is_valid_t=None):
        """The mean of `ρ_0 r_1`."""
        return ope.ordinary_is(log_rho_tm1[:1], r_t[:1], discount, is_valid_t[:1])

    family = ope.Family(log_weights=lambda log, discount: log.log_product_t[0], is_per_step=False)
    own = ope.Estimator(function=first_rewards, family=family, title="first rewards", resampling=None)
    assert ope.register(own) is own
    of = judged()
    assert list(of)[-1] == "first_rewards"
    ratios = np.exp(np.asarray(log().log_rho_tm1[0], np.float64))
    np.testing.assert_allclose(of["first_rewards"].value, np.mean(ratios * np.asarray(log().r_t[0])), rtol=1e-12)
    np.testing.assert_allclose(of["first_rewards"].mean_weight, np.mean(ratios), rtol=1e-12)
    assert of["first_rewards"].interval == "Student"


@pytest.mark.parametrize("family", [None, "whole"])
def test_an_estimator_without_a_family_is_an_error(family):
    with pytest.raises(TypeError, match="family must be a Family, but it is"):
        ope.Estimator(function=ope.weighted_is, family=family, title="mine", resampling=None)


def test_names_are_taken_once(registry):
    with pytest.raises(ValueError, match="name must not be that of another estimator, but it is 'weighted_is'"):
        ope.register(dataclasses.replace(WEIGHTED_IS, title="mine"))


def test_every_estimator_says_what_people_call_it():
    titles = [of.title for of in ESTIMATORS.values()]
    assert len(set(titles)) == len(titles) == len(ESTIMATORS)
    assert ESTIMATORS["weighted_per_decision_is"].title == "weighted per decision"


def test_a_log_that_holds_no_number_where_one_counts_is_refused():
    bad = log()._replace(r_t=log().r_t.at[1, 7].set(jnp.nan))
    with pytest.raises(ValueError, match="log must hold finite numbers, but in r_t step 1 of episode 7 is nan"):
        ope.evaluate_log(bad, 0.9, key=jax.random.key(0))


def test_arrays_of_a_log_that_differ_in_shape_are_named():
    bad = log()._replace(r_t=jnp.zeros((3, 59)))
    with pytest.raises(ValueError, match=r"log_rho_tm1 \[3, 60\], r_t \[3, 59\], is_valid_t \[3, 60\]"):
        ope.evaluate_log(bad, 0.9, key=jax.random.key(0))
