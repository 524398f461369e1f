"""Effective sample size, KL estimates and the summary of a batch's ratios."""

import itertools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from isjax import ops
from tests import oracles
from tests.strategies import SETTINGS, SHAPES, flags, floats

# effective_sample_size

COMPILED_ESS = jax.jit(ops.effective_sample_size, static_argnums=1)


@hypothesis.given(data=st.data())
@SETTINGS
def test_the_effective_sample_size_is_the_squared_sum_over_the_sum_of_squares(x64, data):
    log_weights = data.draw(floats(data.draw(SHAPES)))
    for axis in (0, -1, None):
        expected = oracles.effective_sample_size(log_weights, axis)
        np.testing.assert_allclose(ops.effective_sample_size(log_weights, axis), expected, rtol=1e-10)
        np.testing.assert_allclose(COMPILED_ESS(log_weights, axis), expected, rtol=1e-10)


@pytest.mark.parametrize("level", [-1000.0, -100.0, 0.0, 100.0, 1000.0])
def test_equal_weights_count_in_full_at_any_level(level):
    np.testing.assert_allclose(ops.effective_sample_size(jnp.full((7, 2), level)), [7.0, 7.0])


def test_one_dominating_weight_counts_for_one():
    assert ops.effective_sample_size(jnp.array([1000.0, -1000.0, 0.0])) == 1.0


def test_a_shift_of_all_log_weights_changes_nothing(x64):
    log_weights = np.random.default_rng(0).normal(size=50)
    before, after = ops.effective_sample_size(log_weights), ops.effective_sample_size(log_weights + 500.0)
    np.testing.assert_allclose(before, after, rtol=1e-10)


def test_no_weight_at_all_has_an_effective_sample_size_of_zero():
    assert ops.effective_sample_size(jnp.full(3, -jnp.inf)) == 0.0
    assert ops.effective_sample_size(jnp.zeros(3), where=jnp.zeros(3, bool)) == 0.0


def test_samples_that_do_not_count_change_neither_value_nor_gradient():
    log_weights = jnp.array([0.3, -0.2, 1.0, jnp.nan])
    where = jnp.array([True, True, True, False])
    value, gradient = jax.value_and_grad(lambda x: ops.effective_sample_size(x, where=where))(log_weights)
    alone, alone_gradient = jax.value_and_grad(ops.effective_sample_size)(log_weights[:3])
    np.testing.assert_allclose(value, alone, rtol=1e-6)
    np.testing.assert_allclose(gradient, [*alone_gradient, 0.0], rtol=1e-5)


def test_the_gradient_of_the_effective_sample_size_is_the_hand_derived_one(x64):
    log_weights = np.array([0.3, -0.2, 1.0])
    w = np.exp(log_weights)
    # d/dℓ_i of S²/Q with S = Σw, Q = Σw²: 2 S w_i / Q − 2 S² w_i² / Q².
    expected = 2 * w.sum() * w / (w**2).sum() - 2 * w.sum() ** 2 * w**2 / (w**2).sum() ** 2
    np.testing.assert_allclose(jax.grad(ops.effective_sample_size)(log_weights), expected, rtol=1e-10)


def test_two_unit_gaussians_a_gap_apart_leave_exp_of_minus_the_squared_gap(x64):
    quantiles = scipy.stats.norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    for gap in (0.5, 1.0):
        fraction = ops.effective_sample_size(gap * quantiles - gap**2 / 2) / quantiles.size
        np.testing.assert_allclose(fraction, np.exp(-(gap**2)), rtol=5e-3)


def test_effective_sample_size_widens_bfloat16():
    log_weights = jnp.asarray(np.random.default_rng(0).normal(size=512), jnp.bfloat16)
    ess = ops.effective_sample_size(log_weights)
    assert ess.dtype == jnp.float32
    np.testing.assert_allclose(ess, ops.effective_sample_size(log_weights.astype(jnp.float32)), rtol=1e-6)


def test_effective_sample_size_refuses_integers_and_other_shapes():
    with pytest.raises(TypeError, match="log_weights must be floating"):
        ops.effective_sample_size(jnp.zeros(3, jnp.int32))
    with pytest.raises(ValueError, match=r"log_weights \[3\], where \[2\]"):
        ops.effective_sample_size(jnp.zeros(3), where=jnp.ones(2, bool))
    with pytest.raises(TypeError, match="where must be boolean"):
        ops.effective_sample_size(jnp.zeros(3), where=jnp.ones(3))


# kl_estimates


@hypothesis.given(log_rho=floats((6,)))
@SETTINGS
def test_kl_estimates_follow_their_definitions(x64, log_rho):
    k1, k2, k3 = ops.kl_estimates(log_rho)
    np.testing.assert_allclose(k1, -log_rho, rtol=1e-10)
    np.testing.assert_allclose(k2, log_rho**2 / 2, rtol=1e-10, atol=1e-300)
    np.testing.assert_allclose(k3, np.expm1(log_rho) - log_rho, rtol=1e-10, atol=1e-12)


def test_k1_and_k3_average_to_the_divergence_of_behavior_from_target(x64):
    mu, pi = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
    estimates = ops.kl_estimates(np.log(pi / mu))
    expected = np.sum(mu * np.log(mu / pi))
    np.testing.assert_allclose(np.sum(mu * estimates.k1), expected, rtol=1e-10)
    np.testing.assert_allclose(np.sum(mu * estimates.k3), expected, rtol=1e-10)


def test_k3_is_never_negative_in_float32():
    rng = np.random.default_rng(0)
    log_rho = np.concatenate([scale * rng.normal(size=10_000) for scale in (1e-7, 1e-4, 1e-2, 1.0)]).astype(np.float32)
    assert np.all(ops.kl_estimates(log_rho).k3 >= 0.0)
    assert np.any(ops.kl_estimates(log_rho).k1 < 0.0)


def test_kl_estimates_and_their_gradients_are_finite_at_any_log_ratio():
    log_rho = jnp.array([-1000.0, -100.0, 0.0, 100.0, 1000.0])
    for i in range(3):
        values, pull = jax.vjp(lambda x, i=i: ops.kl_estimates(x)[i], log_rho)
        assert np.all(np.isfinite(values))
        assert np.all(np.isfinite(pull(jnp.ones(5))[0]))


# ratio_histogram


@hypothesis.given(log_rho=floats((4, 2)), valid=flags((4, 2)), scale=st.sampled_from([0.01, 0.3, 10.0]))
@SETTINGS
def test_the_histogram_counts_the_valid_ratios_of_each_bin(x64, log_rho, valid, scale):
    hypothesis.assume(valid.any())
    log_rho = scale * log_rho
    found = ops.ratio_histogram(np.where(valid, log_rho, np.nan), is_valid=valid)
    counted = log_rho[valid]
    bounds = [-np.inf, *np.log(ops.RATIO_EDGES), np.inf]
    expected = [np.mean((counted > low) & (counted <= high)) for low, high in itertools.pairwise(bounds)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_ratios_of_one_are_in_the_middle_bin_and_extremes_in_the_outer_ones():
    middle = len(ops.RATIO_EDGES) // 2
    for log_rho, place in ((0.0, middle), (0.009, middle), (0.01, middle + 1), (-0.01, middle - 1)):
        np.testing.assert_array_equal(np.flatnonzero(ops.ratio_histogram(jnp.full((3, 2), log_rho))), [place])
    np.testing.assert_allclose(ops.ratio_histogram(jnp.array([1000.0, -1000.0]))[jnp.array([0, -1])], 0.5)


def test_a_histogram_of_nothing_is_zero():
    assert not ops.ratio_histogram(jnp.full(3, jnp.nan), is_valid=jnp.zeros(3, bool)).any()


def test_a_histogram_names_shapes_that_differ():
    with pytest.raises(ValueError, match=r"log_rho \[3\], is_valid \[2\]"):
        ops.ratio_histogram(jnp.zeros(3), is_valid=jnp.ones(2, bool))


# ratio_diagnostics

ratio_diagnostics = jax.jit(ops.ratio_diagnostics)


@hypothesis.given(
    log_rho=floats((4, 2)), valid=flags((4, 2)), clips=st.tuples(st.floats(0.5, 2.0), st.floats(0.5, 2.0))
)
@SETTINGS
def test_ratio_diagnostics_describe_the_valid_ratios(x64, log_rho, valid, clips):
    hypothesis.assume(valid.any())
    clip_rho, clip_c = clips
    padded = np.where(valid, log_rho, np.nan)
    metrics = ops.ratio_diagnostics(padded, clip_rho=clip_rho, clip_c=clip_c, is_valid=valid)
    log_rho = log_rho[valid]
    rho = np.exp(log_rho)
    expected = {
        "mean": rho.mean(),
        "std": rho.std(),
        "min": rho.min(),
        "max": rho.max(),
        "ess_fraction": oracles.effective_sample_size(log_rho) / rho.size,
        "clipped_rho": np.mean(log_rho > np.log(clip_rho)),
        "clipped_c": np.mean(log_rho > np.log(clip_c)),
        "kl_k1": -log_rho.mean(),
        "kl_k3": np.mean(rho - 1 - log_rho),
    }
    assert metrics.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(metrics[name], expected[name], rtol=1e-7, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("level", [-1000.0, -100.0, 100.0, 1000.0])
def test_ratio_diagnostics_are_finite_where_all_ratios_under_or_overflow(level):
    metrics = ratio_diagnostics(jnp.full(100, level))
    assert all(np.isfinite(x) for x in metrics.values()), metrics


def test_the_mean_ratio_does_not_overflow_over_many_saturated_ratios():
    metrics = ratio_diagnostics(jnp.full(100_000, 1000.0))
    np.testing.assert_allclose(metrics["mean"], np.exp(80.0), rtol=1e-4)
    np.testing.assert_allclose(metrics["std"] / metrics["mean"], 0.0, atol=1e-4)


def test_on_policy_ratio_diagnostics_are_exact():
    metrics = ratio_diagnostics(jnp.zeros((20, 3)))
    ones = ("mean", "min", "max", "ess_fraction")
    assert {name: float(x) for name, x in metrics.items()} == {n: float(n in ones) for n in metrics}


def test_the_empty_batch_is_finite():
    metrics = ratio_diagnostics(jnp.full(3, jnp.nan), is_valid=jnp.zeros(3, bool))
    assert all(np.isfinite(x) for x in metrics.values()), metrics
    assert metrics["mean"] == metrics["ess_fraction"] == 0.0


def test_ratio_diagnostics_name_shapes_that_differ():
    with pytest.raises(ValueError, match=r"log_rho \[3\], is_valid \[2\]"):
        ops.ratio_diagnostics(jnp.zeros(3), is_valid=jnp.ones(2, bool))


INFINITE = {
    "one is infinite": ([0.0, np.inf, -1.0, -np.inf], 1.0),
    "two are infinite": ([np.inf, 0.0, np.inf, -np.inf], 2.0),
    "one is zero": ([0.0, 0.0, 0.0, -np.inf], 3.0),
    "all are zero": ([-np.inf] * 4, 0.0),
    "one is unknown": ([0.0, np.nan, 0.0, np.inf], np.nan),
}


@pytest.mark.parametrize(("log_weights", "expected"), INFINITE.values(), ids=list(INFINITE))
def test_samples_of_infinite_zero_and_unknown_weight(log_weights, expected):
    log_weights = jnp.array(log_weights)
    with np.errstate(divide="ignore"):
        share = np.float64(1.0) / expected if expected else 0.0
    padded = jnp.append(log_weights, jnp.nan), jnp.array([True] * 4 + [False])
    for x, where in ((log_weights, None), padded):
        np.testing.assert_allclose(ops.effective_sample_size(x, where=where), expected)
        np.testing.assert_allclose(ops.perplexity(x, where=where), expected, rtol=1e-6)
        np.testing.assert_allclose(ops.largest_share(x, where=where), share)
        np.testing.assert_allclose(ops.ratio_diagnostics(x, is_valid=where)["ess_fraction"], expected / 4)
    gradient = jax.grad(lambda x: ops.effective_sample_size(x))(log_weights)
    assert np.isnan(expected) or np.all(np.isfinite(gradient))


def test_no_samples_are_worth_nothing():
    nothing = jnp.zeros((0, 2))
    for measure in (ops.effective_sample_size, ops.perplexity, ops.largest_share):
        np.testing.assert_array_equal(measure(nothing), [0.0, 0.0])


def test_an_unknown_ratio_is_in_no_bin_and_in_no_tail():
    x = jnp.append(jnp.zeros(30), jnp.nan)
    assert np.all(np.isnan(ops.ratio_histogram(x)))
    assert np.isnan(ops.pareto_k(x))
    known = jnp.arange(31) < 30
    assert ops.ratio_histogram(x, is_valid=known).sum() == pytest.approx(1.0)
    assert ops.pareto_k(x, where=known) == 0.0


def test_an_infinite_weight_leaves_no_tail_to_believe():
    x = np.random.default_rng(0).normal(size=100)
    assert ops.pareto_k(jnp.append(jnp.asarray(x), jnp.inf)) == np.inf
    smoothed = ops.pareto_smoothed(jnp.array([0.0, jnp.inf]))
    np.testing.assert_array_equal(smoothed.log_weights, [-np.inf, 0.0])


def test_infinite_ratios_of_both_signs_make_no_nan():
    x = jnp.array([0.0, jnp.inf, -jnp.inf])
    kl = ops.kl_estimates(x)
    np.testing.assert_array_equal(kl.k1, [0.0, -80.0, np.inf])
    assert kl.k3[1] > 1e34
    assert not any(np.isnan(y) for y in ops.ratio_diagnostics(x).values())
    assert ops.kl_estimates(jnp.array([1e36])).k3 >= 0.0


def test_a_ratio_of_zero_beside_an_infinite_one_makes_a_product_of_zero():
    x = jnp.array([1.0, jnp.inf, -jnp.inf, 1.0])
    np.testing.assert_array_equal(ops.product_of_ratios(x)[2:], [-np.inf, -np.inf])
    np.testing.assert_array_equal(ops.ratio_levels(x, level="sequence"), [-np.inf] * 4)
    np.testing.assert_array_equal(ops.ratio_levels(x, level="geometric"), [-np.inf] * 4)


def test_a_second_moment_that_is_unknown_or_infinite_is_not_zero():
    assert np.isnan(ops.renyi_2_estimate(jnp.array([0.0, jnp.nan])))
    assert ops.renyi_2_estimate(jnp.array([0.0, jnp.inf])) == np.inf
