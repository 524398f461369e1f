"""PPO by clipping and by penalty, decoupled PPO, and P3O, against their formulas."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import losses
from tests import oracles
from tests.losses.checks import close, draw_rows, mean, option, random_arguments, slope
from tests.strategies import SETTINGS, floats


def ppo_objective(rho, advantage, epsilon):
    """By cases, as in figure 1 of the paper; with its derivative by `log ρ`."""
    clipped = np.where(advantage > 0, rho > 1 + epsilon, rho < 1 - epsilon)
    bound = np.where(advantage > 0, 1 + epsilon, 1 - epsilon)
    return np.where(clipped, bound, rho) * advantage, np.where(clipped, 0.0, rho) * advantage


def share_of_valid(gradient, valid):
    inside = np.ones(gradient.shape, bool) if valid is None else valid
    return np.where(inside, gradient, 0.0) / max(inside.sum(), 1)


@hypothesis.given(data=st.data(), epsilon=st.sampled_from([0.1, 0.3]))
@SETTINGS
def test_ppos_objective_is_clipped_where_it_would_reward_leaving_the_interval(x64, data, epsilon):
    log_pi, log_mu, advantage, valid = draw_rows(data)
    loss = option(losses.ppo_clip_loss, clip_epsilon=epsilon)
    value, gradient = slope(loss)(log_pi, (log_mu, advantage), valid)
    objective, derivative = ppo_objective(np.exp(log_pi - log_mu), advantage, epsilon)
    close(value, -mean(objective, valid))
    close(gradient, -share_of_valid(derivative, valid))


def test_ppos_four_cases_by_hand():
    log_pi = jnp.log(jnp.array([1.5, 1.5, 0.5, 0.5]))
    advantage = jnp.array([1.0, -1.0, 1.0, -1.0])
    value, gradient = jax.value_and_grad(losses.ppo_clip_loss)(log_pi, jnp.zeros(4), advantage)
    np.testing.assert_allclose(value, -(1.2 - 1.5 + 0.5 - 0.8) / 4, rtol=1e-5)
    np.testing.assert_allclose(gradient, [0.0, 1.5 / 4, -0.5 / 4, 0.0], rtol=1e-5)


@jax.jit
def decoupled(log_pi, log_prox, *rest):
    loss = lambda x, y: losses.ppo_clip_loss(x, *rest, log_proximal_tm1=y)  # noqa: E731
    return jax.value_and_grad(loss, (0, 1))(log_pi, log_prox)


@hypothesis.given(data=st.data())
@SETTINGS
def test_decoupled_ppo_clips_around_the_proximal_policy_and_weighs_it_against_the_acting_one(x64, data):
    log_pi, log_mu, advantage, valid = draw_rows(data)
    log_prox = data.draw(floats(log_pi.shape))

    value, (gradient, to_prox) = decoupled(log_pi, log_prox, log_mu, advantage, valid)
    objective, derivative = ppo_objective(np.exp(log_pi - log_prox), advantage, 0.2)
    weight = np.exp(log_prox - log_mu)
    close(value, -mean(weight * objective, valid))
    close(gradient, -share_of_valid(weight * derivative, valid))
    np.testing.assert_array_equal(to_prox, np.zeros(log_pi.shape))


def test_decoupled_ppo_around_the_policy_that_acted_is_ppo():
    log_pi, log_mu, advantage = random_arguments(0, 6, 3)
    for run in (lambda f: f(log_pi), lambda f: jax.grad(f)(log_pi)):
        plain = run(lambda x: losses.ppo_clip_loss(x, log_mu, advantage))
        same = run(lambda x: losses.ppo_clip_loss(x, log_mu, advantage, log_proximal_tm1=log_mu))
        np.testing.assert_array_equal(plain, same)


def test_within_the_interval_ppo_is_the_surrogate():
    log_pi, _, advantage = random_arguments(1, 6, 3)
    near = log_pi + np.float32(0.1) * np.sign(advantage)
    for change in (lambda f: f, jax.grad):
        ppo, surrogate = (change(f)(log_pi, near, advantage) for f in (losses.ppo_clip_loss, losses.surrogate_loss))
        np.testing.assert_allclose(ppo, surrogate, rtol=1e-5)


def test_decoupled_ppo_names_a_proximal_policy_of_another_shape():
    x = jnp.zeros((4, 2))
    with pytest.raises(ValueError, match=r"log_proximal_tm1 \[4\]"):
        losses.ppo_clip_loss(x, x, x, log_proximal_tm1=jnp.zeros(4))


def test_ppo_refuses_an_interval_that_is_empty():
    with pytest.raises(ValueError, match="clip_epsilon must be greater than 0, but it is 0"):
        losses.ppo_clip_loss(jnp.zeros(2), jnp.zeros(2), jnp.zeros(2), clip_epsilon=0)


# kl_penalty_loss


@jax.jit
def penalized(log_pi, kl, log_mu, advantage, valid):
    loss = lambda x, y: losses.kl_penalty_loss(x, log_mu, advantage, y, valid, beta=0.7)  # noqa: E731
    return jax.value_and_grad(loss, (0, 1))(log_pi, kl)


@hypothesis.given(data=st.data())
@SETTINGS
def test_the_penalty_is_beta_times_the_mean_divergence_with_its_gradient(x64, data):
    log_pi, log_mu, advantage, valid = draw_rows(data)
    kl = data.draw(floats(log_pi.shape, 0.0, 2.0))

    value, (gradient, to_kl) = penalized(log_pi, kl, log_mu, advantage, valid)
    rho = np.exp(log_pi - log_mu)
    close(value, mean(-rho * advantage + 0.7 * kl, valid))
    close(gradient, -share_of_valid(rho * advantage, valid))
    close(to_kl, share_of_valid(np.full(kl.shape, 0.7), valid))


def test_garbage_divergences_in_padding_are_inert():
    log_pi, log_mu, advantage = random_arguments(2, 3)
    valid = jnp.array([True, True, False])
    loss = lambda kl: losses.kl_penalty_loss(log_pi, log_mu, advantage, kl, valid, beta=1.0)  # noqa: E731
    clean, dirty = (jax.value_and_grad(loss)(jnp.array([0.1, 0.2, fill])) for fill in (0.0, np.nan))
    jax.tree.map(np.testing.assert_array_equal, clean, dirty)


def test_beta_is_halved_below_the_target_doubled_above_and_kept_between():
    kl = jnp.array([0.0, 0.9, 1.1, 2.0, 2.9, 3.1, jnp.inf, jnp.nan])
    beta = losses.adapt_beta(jnp.ones(8), kl * 0.01 * 0.75, 0.015)
    np.testing.assert_array_equal(beta, [0.5, 0.5, 0.5, 1.0, 1.0, 2.0, 2.0, 1.0])


def test_betas_thresholds_are_the_target_over_and_times_one_and_a_half():
    kl = jnp.array([0.0666, 0.0667, 0.1499, 0.1501])
    np.testing.assert_array_equal(losses.adapt_beta(jnp.ones(4), kl, 0.1), [0.5, 1.0, 1.0, 2.0])


def test_beta_stays_finite_and_positive_and_comes_back():
    beta = jnp.float32(1.0)
    for _ in range(50):
        beta = losses.adapt_beta(beta, jnp.float32(1.0), 0.01)
    assert beta == 2.0**20
    for _ in range(100):
        beta = losses.adapt_beta(beta, jnp.float32(0.0), 0.01)
    assert beta == 2.0**-20


def test_the_target_of_beta_may_be_traced_but_not_zero():
    mapped = jax.jit(jax.vmap(losses.adapt_beta))(jnp.ones(2), jnp.full(2, 0.02), jnp.array([0.1, 0.001]))
    np.testing.assert_array_equal(mapped, [0.5, 2.0])
    with pytest.raises(ValueError, match="kl_target must be greater than 0"):
        losses.adapt_beta(1.0, 0.01, 0.0)


# p3o_loss

p3o = jax.jit(jax.value_and_grad(losses.p3o_loss))


@hypothesis.given(data=st.data(), given_kl=st.booleans())
@SETTINGS
def test_p3o_sets_clip_and_penalty_by_the_effective_sample_size(x64, data, given_kl):
    log_pi, log_mu, advantage, valid = draw_rows(data)
    inside = np.ones(log_pi.shape, bool) if valid is None else valid
    hypothesis.assume(inside.any())
    log_rho = log_pi - log_mu
    kl = data.draw(floats(log_pi.shape, 0.0, 2.0)) if given_kl else None
    value, gradient = p3o(log_pi, log_mu, advantage, valid, kl_tm1=kl)
    share = oracles.effective_sample_size(log_rho[inside]) / inside.sum()
    weight = np.minimum(np.exp(log_rho), share)
    penalty = kl if given_kl else -log_rho
    close(value, mean(-weight * advantage * log_pi + (1 - share) * penalty, valid), rtol=1e-6, atol=1e-6)
    slope = 0.0 if given_kl else 1 - share
    close(gradient, -share_of_valid(weight * advantage + slope, valid), rtol=1e-6, atol=1e-6)


def test_at_equal_policies_p3o_has_no_penalty_at_all():
    log_pi, _, advantage = random_arguments(3, 8, 5)
    kl = jnp.full((8, 5), 1e6)
    np.testing.assert_array_equal(
        losses.p3o_loss(log_pi, log_pi, advantage, kl_tm1=kl), losses.policy_gradient_loss(log_pi, advantage)
    )


def test_p3os_penalty_passes_its_gradient_on():
    log_pi, log_mu, advantage = random_arguments(4, 6)
    gradient = jax.grad(lambda kl: losses.p3o_loss(log_pi, log_mu, advantage, kl_tm1=kl))(jnp.ones(6))
    share = oracles.effective_sample_size((log_pi - log_mu).astype(np.float64)) / 6
    np.testing.assert_allclose(gradient, np.full(6, (1 - share) / 6), rtol=1e-4)


def test_p3o_pulls_towards_the_policy_that_acted_when_one_ratio_dominates():
    log_mu = jnp.full(100, -1.0)
    log_pi = log_mu.at[0].add(30.0)
    gradient = jax.grad(losses.p3o_loss)(log_pi, log_mu, jnp.zeros(100))
    np.testing.assert_allclose(gradient, np.full(100, -0.99 / 100), rtol=1e-4)


def test_a_penalty_of_zero_ignores_an_infinite_divergence():
    x = jnp.zeros(2)
    assert losses.kl_penalty_loss(x, x, x + 1.0, jnp.array([0.5, jnp.inf]), beta=0.0) == -1.0
    assert losses.p3o_loss(x, x, x + 1.0, kl_tm1=jnp.array([0.5, jnp.inf])) == 0.0
