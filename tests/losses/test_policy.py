"""Losses that weigh log-probabilities, and the surrogate, against their formulas."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import losses
from tests.losses.checks import check_weighted, close, draw_rows, mean, option, random_arguments, slope
from tests.strategies import SETTINGS


@hypothesis.given(data=st.data())
@SETTINGS
def test_the_per_step_loss_weighs_each_row_with_its_own_ratio(x64, data):
    log_pi, log_mu, advantage, valid = draw_rows(data)
    rho = np.exp(log_pi - log_mu)
    check_weighted(losses.per_step_ratio_loss, rho * advantage, log_pi, valid, log_mu, advantage)
    clipped = option(losses.per_step_ratio_loss, clip_rho=1.3)
    check_weighted(clipped, np.minimum(rho, 1.3) * advantage, log_pi, valid, log_mu, advantage)


@hypothesis.given(data=st.data())
@SETTINGS
def test_awr_weighs_each_row_with_the_capped_exponential_of_its_advantage(x64, data):
    log_pi, _, advantage, valid = draw_rows(data)
    weight = np.minimum(np.exp(advantage / 0.5), 3.0)
    loss = option(losses.awr_loss, temperature=0.5, max_weight=3.0)
    check_weighted(loss, weight, log_pi, valid, advantage)


def test_awr_caps_weights_at_twenty_however_large_the_advantage():
    gradient = jax.grad(losses.awr_loss)(jnp.zeros(2), jnp.array([1e6, -1e6]), temperature=1e-3)
    np.testing.assert_allclose(gradient, [-10.0, 0.0], rtol=1e-6)


def test_awr_without_a_cap_still_clips_before_exp():
    value, gradient = jax.value_and_grad(losses.awr_loss)(
        -jnp.ones(2), jnp.array([1e6, 0.0]), temperature=1e-3, max_weight=jnp.inf
    )
    np.testing.assert_allclose(value, 0.5 * np.exp(40.0), rtol=1e-5)
    np.testing.assert_allclose(gradient, [-0.5 * np.exp(40.0), -0.5], rtol=1e-5)


def test_awrs_temperature_may_be_traced():
    log_pi, _, advantage = random_arguments(0, 5)
    mapped = jax.vmap(lambda beta: losses.awr_loss(log_pi, advantage, temperature=beta))(jnp.array([0.5, 2.0]))
    expected = [losses.awr_loss(log_pi, advantage, temperature=beta) for beta in (0.5, 2.0)]
    np.testing.assert_allclose(mapped, expected, rtol=1e-5)


@hypothesis.given(data=st.data())
@SETTINGS
def test_the_surrogate_is_the_mean_of_ratio_times_advantage_and_its_ratio_is_differentiated(x64, data):
    log_pi, log_mu, advantage, valid = draw_rows(data)
    inside = np.ones(log_pi.shape, bool) if valid is None else valid
    value, gradient = slope(losses.surrogate_loss)(log_pi, (log_mu, advantage), valid)
    rho = np.exp(log_pi - log_mu)
    close(value, -mean(rho * advantage, valid))
    close(gradient, np.where(inside, -rho * advantage, 0.0) / max(inside.sum(), 1))


def test_an_infinite_bound_is_none():
    arguments = random_arguments(1, 5, 2)
    unclipped = losses.per_step_ratio_loss(*arguments)
    assert losses.per_step_ratio_loss(*arguments, clip_rho=np.inf) == unclipped
    assert losses.per_step_ratio_loss(*arguments, clip_rho=0.5) != unclipped


def test_an_unclipped_ratio_saturates_where_the_docstring_says():
    value = losses.per_step_ratio_loss(jnp.array([-1.0]), jnp.array([-90.0]), jnp.array([1.0]))
    np.testing.assert_allclose(value, np.exp(40.0), rtol=1e-5)


@pytest.mark.parametrize("option", ["temperature", "max_weight"])
def test_awr_refuses_options_that_are_not_positive(option):
    with pytest.raises(ValueError, match=f"{option} must be greater than 0, but it is 0.0"):
        losses.awr_loss(jnp.zeros(2), jnp.zeros(2), **{"temperature": 1.0} | {option: 0.0})


def test_the_per_step_loss_refuses_a_bound_that_is_not_positive():
    with pytest.raises(ValueError, match="clip_rho must be greater than 0"):
        losses.per_step_ratio_loss(jnp.zeros(2), jnp.zeros(2), jnp.zeros(2), clip_rho=-1.0)
