"""Coverage of the intervals by simulation, and the quantiles behind them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from isjax import ope, stats
from isjax.ope.intervals import student_quantile
from tests import oracles_ope as oracle

TRIALS = 1000


def coverage(interval_of, log_rho, r, value):
    """The share of `[trials, 1, N]` logs whose interval holds the value."""
    low, high = jax.jit(jax.vmap(interval_of))(log_rho, r)
    return float(np.mean((low <= value) & (value <= high)))


@functools.cache
def bandit_logs():
    """Rewards 0 or 1 of a policy that acts the better way in 0.8 of all cases, logged by one that does in 0.5."""
    rng = np.random.default_rng(0)
    is_better = rng.random((TRIALS, 1, 40)) < 0.5
    r = (rng.random(is_better.shape) < np.where(is_better, 0.7, 0.3)).astype(np.float32)
    return jnp.asarray(np.log(np.where(is_better, 1.6, 0.4)), jnp.float32), jnp.asarray(r), 0.8 * 0.7 + 0.2 * 0.3


@pytest.mark.parametrize("interval", [ope.normal_interval, ope.student_interval])
@pytest.mark.parametrize("estimator", [ope.ordinary_is, ope.weighted_is])
def test_normal_and_student_intervals_cover_as_often_as_they_say(interval, estimator):
    share = coverage(lambda log_rho, r: interval(estimator(log_rho, r, 1.0), level=0.9), *bandit_logs())
    assert 0.86 < share < 0.93


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_bootstrap_intervals_cover_as_often_as_they_say(method):
    log_rho, r, value = (x if np.ndim(x) == 0 else x[:200] for x in bandit_logs())
    keys = jax.random.split(jax.random.key(0), len(r))
    low, high = jax.jit(
        jax.vmap(
            lambda key, log_rho, r: ope.bootstrap_interval(
                key, ope.weighted_is, log_rho, r, 1.0, resamples=200, level=0.9, method=method
            )
        )
    )(keys, log_rho, r)
    assert 0.82 < float(np.mean((low <= value) & (value <= high))) < 0.95


def test_empirical_bernstein_covers_more_often_than_it_says():
    share = coverage(
        lambda log_rho, r: ope.empirical_bernstein_interval(
            ope.ordinary_is(log_rho, r, 1.0), low=0.0, high=1.6, level=0.9
        ),
        *bandit_logs(),
    )
    assert share > 0.95


def test_empirical_bernstein_is_the_theorem(x64):
    x = np.random.default_rng(1).random(50)
    estimate = ope.ordinary_is(jnp.zeros((1, 50)), jnp.asarray(x)[None], 1.0)
    low, high = ope.empirical_bernstein_interval(estimate, low=0.0, high=1.0, level=0.9)
    margin = np.sqrt(2 * np.var(x, ddof=1) * np.log(40.0) / 50) + 7 * np.log(40.0) / (3 * 49)
    np.testing.assert_allclose([low, high], [max(np.mean(x) - margin, 0), min(np.mean(x) + margin, 1)], rtol=1e-12)


student_quantiles = jax.jit(jax.vmap(student_quantile, (None, 0)))


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99, 0.999])
def test_student_quantiles_are_those_of_scipy(level):
    degrees = np.array([1, 2, 3, 7, 20, 30, 31, 50, 200, 1e4, 1e6])
    found = student_quantiles(level, jnp.asarray(degrees, jnp.float32))
    np.testing.assert_allclose(found, scipy.stats.t.ppf(0.5 + 0.5 * level, degrees), rtol=2e-4)


def test_student_is_wider_than_normal_and_both_are_infinite_for_one_episode():
    one = ope.ordinary_is(jnp.zeros((1, 1)), jnp.ones((1, 1)), 1.0)
    assert ope.normal_interval(one) == ope.student_interval(one) == (-np.inf, np.inf)
    few = ope.ordinary_is(jnp.zeros((1, 4)), jnp.arange(4.0)[None], 1.0)
    assert ope.student_interval(few).high > ope.normal_interval(few).high


def test_bootstrap_intervals_of_a_model_assisted_estimate_ignore_padding():
    log_rho, r, v, q, is_valid = oracle.pad(oracle.random_episodes(3, 12), 5)
    low, high = ope.bootstrap_interval(
        jax.random.key(0), ope.weighted_doubly_robust, log_rho, r, 0.9, is_valid, v_tm1=v, q_tm1=q, resamples=200
    )
    assert low < jax.jit(ope.weighted_doubly_robust)(log_rho, r, 0.9, is_valid, v_tm1=v, q_tm1=q).value < high


def test_bca_of_a_plain_mean_is_that_of_scipy():
    x = np.random.default_rng(4).gamma(1.0, size=30).astype(np.float32)
    ours = ope.bootstrap_interval(
        jax.random.key(0), ope.ordinary_is, jnp.zeros((1, 30)), jnp.asarray(x)[None], 1.0, resamples=9999
    )
    theirs = scipy.stats.bootstrap((x,), np.mean, method="BCa", random_state=np.random.default_rng(0))
    np.testing.assert_allclose(ours, theirs.confidence_interval, rtol=0.03)
    assert isinstance(ours, stats.Interval)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_levels_out_of_range_are_refused(level):
    estimate = ope.ordinary_is(jnp.zeros((1, 2)), jnp.ones((1, 2)), 1.0)
    with pytest.raises(ValueError, match="level must lie in"):
        ope.normal_interval(estimate, level=level)
    with pytest.raises(ValueError, match="level must lie in"):
        ope.student_interval(estimate, level=level)
    with pytest.raises(ValueError, match="level must lie in"):
        ope.empirical_bernstein_interval(estimate, low=0.0, high=1.0, level=level)


def test_a_range_in_the_wrong_order_is_refused():
    estimate = ope.ordinary_is(jnp.zeros((1, 2)), jnp.ones((1, 2)), 1.0)
    with pytest.raises(ValueError, match="low must be below high"):
        ope.empirical_bernstein_interval(estimate, low=1.0, high=0.0)


@pytest.mark.parametrize("interval", [ope.normal_interval, ope.student_interval])
def test_a_level_next_to_one_gives_a_finite_interval(interval):
    x = jnp.ones(1000)
    estimate = ope.Estimate(jnp.array(0.0), jnp.array(1.0), jnp.array(1000.0), x, x > 0)
    law = scipy.stats.norm if interval is ope.normal_interval else scipy.stats.t(999)
    np.testing.assert_allclose(interval(estimate, level=1 - 1e-9).high, law.ppf(1 - 5e-10), rtol=1e-3)


def test_bca_asks_for_two_episodes():
    x = jnp.zeros((4, 1))
    with pytest.raises(ValueError, match=r"method 'bca' needs at least 2 episodes, but r_t is \[4, 1\]"):
        ope.bootstrap_interval(jax.random.key(0), ope.weighted_is, x, x, 1.0)


@pytest.mark.parametrize("method", ["percentile", "bca"])
@pytest.mark.parametrize("name", ["ordinary_is", "weighted_is", "weighted_per_decision_is"])
def test_the_bootstrap_of_equal_episodes_is_their_return(name, method):
    x = jnp.full((2, 5), 0.1)
    interval = ope.bootstrap_interval(
        jax.random.key(0), getattr(ope, name), 0.0 * x, x, 1.0, method=method, resamples=50
    )
    np.testing.assert_allclose(interval, 0.2, rtol=1e-6)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_the_bootstrap_of_weights_of_zero_is_zero(method):
    x = jnp.ones((2, 5))
    interval = ope.bootstrap_interval(
        jax.random.key(0), ope.weighted_is, x - jnp.inf, x, 1.0, method=method, resamples=50
    )
    np.testing.assert_array_equal(interval, 0.0)


@pytest.mark.parametrize("unit", [2.0**-70, 2.0**70])
def test_bca_is_the_same_in_any_unit(unit):
    x = jnp.exp(jax.random.normal(jax.random.key(1), (1, 20)))
    one, other = (
        ope.bootstrap_interval(jax.random.key(0), ope.weighted_is, 0.0 * x, x * size, 1.0, resamples=200)
        for size in (1.0, unit)
    )
    np.testing.assert_allclose(np.asarray(other) / unit, one, rtol=1e-5)
