"""Means over rows that count, and standardized numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax.ops.reduction import mean_over_valid, standardized


@pytest.mark.parametrize("number", [0.1, -0.1, 1000.1, 1e-30, 1e30, 0.0])
@pytest.mark.parametrize("count", [1, 3, 1000, 100_001])
def test_equal_numbers_are_standardized_to_zero(number, count):
    np.testing.assert_array_equal(jax.jit(standardized)(jnp.full(count, number)), np.zeros(count))


def test_numbers_that_differ_by_rounding_alone_are_standardized_to_zero():
    x = np.float32(1000.1) + np.float32(6.2e-5) * (np.arange(64) % 2)
    assert len(np.unique(x)) == 2
    np.testing.assert_array_equal(standardized(jnp.asarray(x)), np.zeros(64))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e20, 3e37])
@pytest.mark.parametrize("shift", [0.0, 100.0])
def test_standardized_numbers_have_mean_0_and_deviation_1_at_any_size(scale, shift):
    x = np.random.default_rng(0).normal(size=(8, 16)).clip(-3.0, 3.0)
    x = ((x + shift) / (1.0 + shift) * scale).astype(np.float32)
    expected = (x - x.astype(np.float64).mean()) / x.astype(np.float64).std()
    np.testing.assert_allclose(standardized(jnp.asarray(x)), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_is_not_standardized_away(bad):
    assert np.all(np.isnan(standardized(jnp.array([1.0, bad, 2.0]))))


def test_the_gradient_of_standardized_equal_numbers_is_finite():
    assert np.all(np.isfinite(jax.grad(lambda x: standardized(x)[0])(jnp.full(3, 0.1))))


def test_the_mean_of_nothing_is_zero():
    assert mean_over_valid(jnp.zeros((3, 0))) == 0.0
