"""Published examples: Blackjack (Sutton & Barto's Example 5.4) and infinite variance (Example 5.5)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import ope
from tests import oracles_ope as oracle

VALUE = -0.2772042
VARIANCE = 10.156213


@functools.cache
def blackjack():
    return oracle.Blackjack()


def test_dynamic_programming_gives_the_published_numbers_of_blackjack():
    game = blackjack()
    value = game.moment(1.0, 1)
    assert value == pytest.approx(VALUE, abs=5e-8)
    assert game.moment(2.0, 2) - value**2 == pytest.approx(VARIANCE, abs=5e-7)
    assert game.moment(2.0, 0) == pytest.approx(10.790588, abs=5e-7)


def test_ordinary_estimates_of_blackjack_have_the_exact_mean_and_variance():
    log_rho, r, is_valid = blackjack().sample(np.random.default_rng(0), 200_000)
    assert not is_valid[-1].any()
    estimate = jax.jit(ope.ordinary_is)(log_rho, r, 1.0, is_valid)
    assert abs(estimate.value - VALUE) < 5 * np.sqrt(VARIANCE / 200_000)
    np.testing.assert_allclose(200_000 * estimate.standard_error**2, VARIANCE, rtol=0.05)
    np.testing.assert_allclose(estimate.effective_sample_size / 200_000, 1 / 10.790588, rtol=0.05)


@pytest.mark.parametrize(
    ("episodes", "runs", "error"), [(1, 20_000, 0.196), (10, 8_000, 0.519), (100, 2_000, 0.0896), (1_000, 200, 0.00943)]
)
def test_weighted_estimates_of_blackjack_have_the_published_squared_errors(episodes, runs, error):
    log_rho, r, is_valid = blackjack().sample(np.random.default_rng(1), episodes * runs)
    logs = [x.reshape(len(x), runs, episodes) for x in (log_rho, r, is_valid)]
    values = jax.jit(jax.vmap(lambda *x: ope.weighted_is(x[0], x[1], 1.0, x[2]).value, 1))(*logs)
    squares = np.square(np.array(values) - VALUE)
    assert abs(squares.mean() - error) < 5 * squares.std() / np.sqrt(runs) + 0.005 * error


def infinite_variance(rng, count, rows=60):
    """Left (back with 0.9, ends with reward 1 with 0.1) or right (ends with 0); the target policy goes left."""
    left, back = rng.random((rows, count)) < 0.5, rng.random((rows, count)) < 0.9
    goes_on = np.cumprod(left & back, 0).astype(bool)
    is_valid = np.concatenate([np.ones((1, count), bool), goes_on[:-1]])
    return np.where(left, np.log(2.0), -np.inf), (is_valid & left & ~back).astype(float), is_valid


def test_weighted_is_exact_from_the_first_all_left_episode_on_where_ordinary_never_settles():
    log_rho, r, is_valid = infinite_variance(np.random.default_rng(2), 10_000)
    weighted = jax.jit(ope.weighted_is)(log_rho, r, 1.0, is_valid)
    np.testing.assert_allclose(weighted.value, 1.0, rtol=1e-6)
    assert np.mean(np.array(r).sum(0)) == pytest.approx(1 / 11, abs=0.015)
    ordinary = jax.jit(ope.ordinary_is)(log_rho, r, 1.0, is_valid)
    # E[(ρG)²] is infinite: a handful of episodes makes up all of it.
    squares = np.sort(np.square(np.array(ordinary.per_episode)))
    assert squares[-20:].sum() > 0.3 * squares.sum()


def test_before_the_first_all_left_episode_the_weighted_estimate_is_zero():
    log_rho = jnp.array([[-jnp.inf, np.log(2.0)], [0.0, -jnp.inf]])
    is_valid = jnp.array([[True, True], [False, True]])
    assert float(ope.weighted_is(log_rho, jnp.zeros((2, 2)), 1.0, is_valid).value) == 0.0
