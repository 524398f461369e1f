"""Weights as a whole: their concentration, their tail, and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from isjax import ops
from tests import oracles_ope as oracle


def test_concentration_of_equal_weights_is_the_count_and_of_a_dominant_one_is_one():
    for log_weights, count in ((jnp.full(8, 900.0), 8.0), (jnp.array([0.0, 500.0, -500.0]), 1.0)):
        np.testing.assert_allclose(ops.perplexity(log_weights), count, rtol=1e-6)
        np.testing.assert_allclose(1.0 / ops.largest_share(log_weights), count, rtol=1e-6)


def test_concentration_is_that_of_the_definition(x64):
    log_weights = np.random.default_rng(0).normal(size=(9, 4))
    w = np.exp(log_weights) / np.exp(log_weights).sum(0)
    np.testing.assert_allclose(ops.normalized_weights(log_weights), w, rtol=1e-12)
    np.testing.assert_allclose(ops.perplexity(log_weights), np.exp(-np.sum(w * np.log(w), 0)), rtol=1e-12)
    np.testing.assert_allclose(ops.largest_share(log_weights), w.max(0), rtol=1e-12)


def test_samples_that_do_not_count_change_neither_values_nor_gradients():
    log_weights = jnp.array([0.5, jnp.nan, -1.0])
    counts = jnp.array([True, False, True])
    for function in (ops.perplexity, ops.largest_share, ops.renyi_2_estimate):
        value, gradient = jax.jit(jax.value_and_grad(lambda x, f=function: f(x, where=counts)))(log_weights)
        np.testing.assert_allclose(value, function(log_weights[::2]), rtol=1e-6)
        assert np.isfinite(gradient).all()
        assert gradient[1] == 0.0


def test_no_weight_at_all_is_zero_everywhere():
    nothing = jnp.full(3, -jnp.inf)
    np.testing.assert_array_equal(ops.normalized_weights(nothing), 0.0)
    assert float(ops.perplexity(nothing)) == float(ops.largest_share(nothing)) == 0.0
    np.testing.assert_array_equal(jax.grad(lambda x: jnp.sum(ops.normalized_weights(x)))(nothing), 0.0)


@pytest.mark.parametrize("shape", [-0.5, 0.2, 0.7, 1.5])
@pytest.mark.parametrize("count", [25, 400])
def test_pareto_shape_is_that_of_the_published_algorithm(shape, count, x64):
    w = scipy.stats.genpareto.rvs(shape, size=count, random_state=np.random.default_rng(1))
    np.testing.assert_allclose(ops.pareto_k(np.log(w)), oracle.pareto_k(np.log(w)), rtol=1e-8)


@pytest.mark.parametrize("shape", [0.2, 0.7, 1.5])
def test_pareto_shape_of_many_pareto_weights_is_theirs(shape):
    w = scipy.stats.genpareto.rvs(shape, size=200_000, random_state=np.random.default_rng(2))
    assert float(ops.pareto_k(jnp.asarray(np.log(w), jnp.float32))) == pytest.approx(shape, abs=0.1)


def test_pareto_shape_knows_the_samples_that_count(x64):
    w = np.random.default_rng(3).normal(size=400)
    counts = np.random.default_rng(4).random(400) < 0.6
    garbage = np.where(counts, w, np.nan)
    np.testing.assert_allclose(ops.pareto_k(garbage, where=counts), ops.pareto_k(w[counts]), rtol=1e-8)
    smoothed = ops.pareto_smoothed(garbage, where=counts).log_weights
    np.testing.assert_allclose(smoothed[counts], ops.pareto_smoothed(w[counts]).log_weights, rtol=1e-8)
    assert np.isneginf(smoothed[~counts]).all()


@pytest.mark.parametrize(
    ("log_weights", "k"),
    [
        (np.zeros(24), np.inf),  # too few
        (np.full(100, -np.inf), np.inf),  # no weight
        (np.array([0.0] * 99 + [9.0]), np.inf),  # one above the threshold
        (np.zeros(100), 0.0),  # no tail
        (np.array([0.0, -np.inf] * 50), 0.0),
    ],
)
def test_pareto_shape_where_no_tail_can_be_fitted(log_weights, k):
    smoothed = ops.pareto_smoothed(jnp.asarray(log_weights, jnp.float32))
    assert float(smoothed.k) == k
    np.testing.assert_array_equal(smoothed.log_weights, log_weights - max(log_weights.max(), -1e30))


def test_pareto_shape_of_wildly_spread_weights_is_finite_and_large():
    k = ops.pareto_k(jnp.asarray(1000.0 * np.random.default_rng(5).normal(size=400), jnp.float32))
    assert 0.7 < float(k) < 100.0


def test_smoothing_keeps_order_and_bulk_and_never_exceeds_the_largest(x64):
    log_weights = 2.0 * np.random.default_rng(6).normal(size=400)
    smoothed, k = ops.pareto_smoothed(log_weights)
    order = np.argsort(log_weights)
    assert np.all(np.diff(np.array(smoothed)[order]) >= 0)
    np.testing.assert_allclose(np.array(smoothed)[order[:340]], (log_weights - log_weights.max())[order[:340]])
    assert smoothed.max() <= 0.0
    tail = np.exp(smoothed)[order[-60:]]
    raw = np.exp(log_weights - log_weights.max())
    sigma_free = (tail - np.sort(raw)[-61]) / (tail[30] - np.sort(raw)[-61])
    p = (np.arange(60) + 0.5) / 60
    shape = ((1 - p) ** -float(k) - 1) / ((1 - p[30]) ** -float(k) - 1)
    np.testing.assert_allclose(sigma_free[tail < 1], shape[tail < 1], rtol=1e-6)


def test_smoothed_weights_vmap():
    x = jax.random.normal(jax.random.key(0), (3, 400))
    together = jax.jit(jax.vmap(ops.pareto_k))(x)
    np.testing.assert_allclose(together, [ops.pareto_k(row) for row in x], rtol=1e-5)


def test_renyi_divergence_is_the_logarithm_of_the_second_moment(x64):
    pi, mu = np.random.default_rng(7).dirichlet(np.ones(5), size=(2, 3))
    second = np.sum(pi**2 / mu, -1)
    found = ops.renyi_2(np.log(pi), np.log(mu))
    np.testing.assert_allclose(found, np.log(second), rtol=1e-10)
    np.testing.assert_allclose(ops.chi_square(found), np.sum((pi - mu) ** 2 / mu, -1), rtol=1e-10)


def test_renyi_divergence_at_excluded_actions():
    log_pi, log_mu = jnp.log(jnp.array([1.0, 0.0])), jnp.log(jnp.array([0.0, 1.0]))
    assert float(ops.renyi_2(log_pi, log_mu)) == np.inf
    assert float(ops.renyi_2(log_mu, log_mu)) == 0.0
    gradient = jax.grad(ops.renyi_2)(jnp.array([0.0, -jnp.inf]), jnp.log(jnp.array([0.5, 0.5])))
    assert np.isfinite(gradient).all()


def test_second_moment_from_samples_does_not_overflow(x64):
    log_rho = np.random.default_rng(8).normal(size=50)
    np.testing.assert_allclose(ops.renyi_2_estimate(log_rho), np.log(np.mean(np.exp(2 * log_rho))), rtol=1e-10)
    np.testing.assert_allclose(ops.renyi_2_estimate(log_rho + 900), ops.renyi_2_estimate(log_rho) + 1800, rtol=1e-10)


@pytest.mark.parametrize(("mean", "std_pi", "std_mu"), [(0.0, 1.0, 1.0), (0.7, 0.8, 1.1), (-1.0, 1.2, 1.0)])
def test_gaussian_divergence_is_the_integral(mean, std_pi, std_mu, x64):
    pi, mu = scipy.stats.norm(mean, std_pi), scipy.stats.norm(0.0, std_mu)
    x = np.linspace(-40.0, 40.0, 400_001)
    integral = np.log(np.trapezoid(np.exp(2 * pi.logpdf(x) - mu.logpdf(x)), x))
    found = ops.gaussian_renyi_2(*(jnp.asarray(y) for y in (mean, std_pi, 0.0, std_mu)))
    np.testing.assert_allclose(found, integral, rtol=1e-8, atol=1e-12)


def test_gaussian_divergence_is_infinite_where_the_target_is_too_wide():
    wide, one = jnp.array([1.5, 2.0]), jnp.ones(2)
    np.testing.assert_array_equal(ops.gaussian_renyi_2(one, wide, one, one), np.inf)
    assert np.isfinite(jax.grad(lambda s: jnp.sum(ops.gaussian_renyi_2(one, s, one, one)))(wide)).all()


@pytest.mark.parametrize("gap", [0.5, 1.0])
def test_effective_sample_size_of_two_gaussians_falls_as_the_exponential_of_the_squared_gap(gap):
    x = np.random.default_rng(9).normal(size=400_000)
    ess = ops.effective_sample_size(jnp.asarray(gap * x - 0.5 * gap**2, jnp.float32))
    assert float(ess) / len(x) == pytest.approx(np.exp(-(gap**2)), rel=0.05)


def test_wrong_input_is_refused_by_name():
    with pytest.raises(ValueError, match=r"log_weights must be \[N\]"):
        ops.pareto_k(jnp.ones((2, 3)))
    with pytest.raises(TypeError, match="log_weights must be floating"):
        ops.perplexity(jnp.ones(3, int))
    with pytest.raises(TypeError, match="where must be boolean"):
        ops.perplexity(jnp.ones(3), where=jnp.ones(3))
    with pytest.raises(ValueError, match=r"log_pi \[2\], log_mu \[3\]"):
        ops.renyi_2(jnp.ones(2), jnp.ones(3))
    with pytest.raises(ValueError, match=r"std_mu \[3\]"):
        ops.gaussian_renyi_2(*(jnp.ones(2),) * 3, jnp.ones(3))
