"""Emphasis: against its recursion, all paths of Baird's problem, and the stability that it is for."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.off_policy_prediction import baird
from isjax import ops
from tests.strategies import SETTINGS, flags, floats

SHAPE = (5, 2)


@jax.jit
def compiled(discount, log_rho, same, valid, interest, lambda_):
    return ops.emphasis(discount, log_rho, same, interest_tm1=interest, lambda_=lambda_, is_valid_t=valid)


def by_definition(discount, log_rho, same, valid, interest, lambda_):
    """Sutton, Mahmood & White 2016, eq. 17 to 19, row by row and stream by stream."""
    follow_on, emphasis = np.zeros((2, *discount.shape))
    for b in range(discount.shape[1]):
        for t in range(len(discount)):
            if not valid[t, b]:
                continue
            follow_on[t, b] = interest[t, b]
            if t and valid[t - 1, b] and same[t - 1, b]:
                follow_on[t, b] += discount[t - 1, b] * np.exp(log_rho[t - 1, b]) * follow_on[t - 1, b]
            emphasis[t, b] = lambda_ * interest[t, b] + (1 - lambda_) * follow_on[t, b]
    return follow_on, emphasis


@hypothesis.given(data=st.data())
@SETTINGS
def test_traces_are_those_of_the_definition(x64, data):
    discount, interest = (data.draw(floats(SHAPE, 0.0, 1.0)) for _ in range(2))
    log_rho = data.draw(floats(SHAPE, -3.0, 3.0))
    same, valid = (data.draw(flags(SHAPE)) for _ in range(2))
    lambda_ = data.draw(st.sampled_from([0.0, 0.3, 1.0]))
    found = compiled(discount, log_rho, same, valid, interest, lambda_)
    for x, y in zip(found, by_definition(discount, log_rho, same, valid, interest, lambda_), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-12)


def test_by_hand():
    found = ops.emphasis(jnp.full(3, 0.5), jnp.log(jnp.array([2.0, 3.0, 9.0])), lambda_=0.5)
    np.testing.assert_allclose(found.follow_on_tm1, [1.0, 2.0, 4.0], rtol=1e-6)
    np.testing.assert_allclose(found.emphasis_tm1, [1.0, 1.5, 2.5], rtol=1e-6)


def test_both_ways_to_solve_it_agree():
    rng = np.random.default_rng(0)
    log_rho = jnp.asarray(rng.normal(size=(7, 3)), jnp.float32)
    same = jnp.asarray(rng.random((7, 3)) < 0.8)
    one, other = (ops.emphasis(0.9 + 0.0 * log_rho, log_rho, same, associative=x).follow_on_tm1 for x in (True, False))
    np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf])
def test_nothing_in_padding_or_behind_an_end_counts_in_values_or_gradients(garbage):
    discount, log_rho = np.full((6, 2), 0.9, np.float32), np.random.default_rng(0).normal(size=(6, 2))
    valid, same = np.ones((6, 2), bool), np.ones((6, 2), bool)
    valid[4:, 0], same[2, 1] = False, False

    @jax.jit
    def total(discount, log_rho):
        found = ops.emphasis(discount, log_rho, same, is_valid_t=valid)
        return jnp.sum(found.emphasis_tm1), found

    results = []
    for fill in (0.0, garbage):
        spoiled = np.where(valid, log_rho, fill).astype(np.float32)
        spoiled[2, 1] = fill  # This row ends its episode: its ratio leads nowhere.
        results.append(jax.value_and_grad(total, (0, 1), has_aux=True)(np.where(valid, discount, fill), spoiled))
    jax.tree.map(np.testing.assert_array_equal, *results)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(results[1]))


def test_extreme_ratios_saturate_or_are_clipped():
    log_rho = jnp.array([100.0, 0.0, -1000.0, 0.0])
    found = ops.emphasis(jnp.ones(4), log_rho, clip_rho=2.0)
    np.testing.assert_allclose(found.follow_on_tm1, [1.0, 3.0, 4.0, 1.0])
    assert np.isfinite(ops.emphasis(jnp.ones(4), log_rho).follow_on_tm1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lambda_": 1.5}, r"lambda_ must lie in \[0, 1\]"),
        ({"clip_rho": 0.0}, "clip_rho must be greater than 0"),
        ({"interest_tm1": jnp.ones(2)}, "interest_tm1 must be a scalar"),
        ({"same_episode_t": jnp.ones(2, bool)}, r"same_episode_t \[2\]"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ops.emphasis(jnp.ones(3), jnp.zeros(3), **options)


@functools.cache
def expected_follow_on(steps):
    """`[steps + 1, S]`, `E_μ[F_t 1{s_t = s}]` in Baird's problem: the mean over its paths, all equally likely."""
    states = np.array(np.meshgrid(*[range(baird.STATES)] * (steps + 1), indexing="ij")).reshape(steps + 1, -1)
    is_solid = np.concatenate([states[1:] == baird.STATES - 1, np.zeros_like(states[:1], bool)])
    log_rho = np.where(is_solid, np.log(7.0), -np.inf)
    found = jax.jit(ops.emphasis)(np.full(states.shape, baird.DISCOUNT), log_rho).follow_on_tm1
    return np.array([np.bincount(s, f, baird.STATES) / states.shape[1] for s, f in zip(states, found, strict=True)])


def test_over_all_paths_the_trace_is_the_discounted_interest_that_leads_to_a_state(x64):
    found = expected_follow_on(3)
    leads = np.zeros((baird.STATES, baird.STATES))
    leads[:, -1] = 1.0  # The target policy always goes to the last state.
    expected = np.full(baird.STATES, 1 / baird.STATES)
    for f in found:
        np.testing.assert_allclose(f, expected, rtol=1e-10)
        expected = 1 / baird.STATES + baird.DISCOUNT * expected @ leads


def growth(weight):
    """Of the expected update of TD(0) with states weighed so: the largest real part of its eigenvalues."""
    reached = np.tile(baird.FEATURES[-1], (baird.STATES, 1))
    update = baird.FEATURES.T @ (weight[:, None] * (baird.DISCOUNT * reached - baird.FEATURES))
    return np.linalg.eigvals(update).real.max(), update


def test_the_counterexample_of_baird_no_longer_diverges_in_expectation(x64):
    """Without emphasis its expected update grows; with the trace's expectation after long enough it does not."""
    plain = np.full(baird.STATES, 1 / baird.STATES)
    assert growth(plain)[0] == pytest.approx(baird.growth("one-step TD", 0.0))
    assert growth(plain)[0] > 0.1
    of_paths = expected_follow_on(3)
    # What is expected of it goes on as a geometric series, of which the paths tell the first terms.
    into_last = of_paths[:, -1]
    ratio = (into_last[3] - into_last[2]) / (into_last[2] - into_last[1])
    assert ratio == pytest.approx(baird.DISCOUNT)
    emphatic = plain.copy()
    emphatic[-1] = into_last[1] + (into_last[2] - into_last[1]) / (1.0 - ratio)
    largest, update = growth(emphatic)
    assert largest < 1e-9
    weights = baird.START.copy()
    for _ in range(20_000):
        weights = weights + 1e-3 * update @ weights
    assert np.linalg.norm(baird.FEATURES @ weights) < 0.5 * np.linalg.norm(baird.FEATURES @ baird.START)
    weights = baird.START.copy()
    for _ in range(4000):
        weights = weights + 1e-2 * growth(plain)[1] @ weights
    assert np.linalg.norm(baird.FEATURES @ weights) > 100.0
