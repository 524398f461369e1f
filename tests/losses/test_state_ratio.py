"""The policy gradient weighed by state ratios: its formula, and unbiased over all paths with the true ones."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import losses
from tests.losses.checks import check_weighted, draw_rows, option, random_arguments
from tests.oracles_states import Process
from tests.strategies import SETTINGS, floats


@pytest.mark.parametrize("bounds", [(None, None), (1.5, 0.7)])
@pytest.mark.parametrize("self_normalized", [False, True])
@hypothesis.given(data=st.data())
@SETTINGS
def test_each_row_weighs_its_state_and_its_action(x64, bounds, self_normalized, data):
    log_pi, log_mu, advantage, valid = draw_rows(data, st.just((4, 2)))
    log_ratio = data.draw(floats(log_pi.shape, -3.0, 3.0))
    truncation, clip_rho = bounds
    w = np.minimum(np.exp(log_ratio), truncation or np.inf) * np.minimum(np.exp(log_pi - log_mu), clip_rho or np.inf)
    if self_normalized:
        inside = np.ones(w.shape, bool) if valid is None else valid
        w = w * inside.sum() / max(np.sum(w[inside]), 1e-300)
    options = {"truncation": truncation, "clip_rho": clip_rho, "self_normalized": self_normalized}
    loss = option(losses.state_ratio_loss, **options)
    check_weighted(loss, w * advantage, log_pi, valid, log_mu, advantage, log_ratio)


def test_with_ratios_of_one_it_is_the_per_step_loss():
    arguments = random_arguments(0, 6, 3)
    np.testing.assert_allclose(
        losses.state_ratio_loss(*arguments, jnp.zeros((6, 3))), losses.per_step_ratio_loss(*arguments), rtol=1e-6
    )


def test_with_products_for_ratios_it_is_the_loss_with_products():
    log_pi, log_mu, advantage = random_arguments(1, 6, 3)
    before = np.concatenate([np.zeros((1, 3)), np.cumsum(log_pi - log_mu, 0)[:-1]]).astype(np.float32)
    np.testing.assert_allclose(
        losses.state_ratio_loss(log_pi, log_mu, advantage, before),
        losses.product_of_ratios_loss(log_pi, log_mu, advantage),
        rtol=1e-4,
    )


def test_only_the_learning_policy_gets_gradients_and_an_unreachable_state_none():
    arguments = [*random_arguments(2, 6, 3), np.zeros((6, 3), np.float32)]
    arguments[3][2], arguments[2][2] = -np.inf, np.nan
    slopes = jax.grad(losses.state_ratio_loss, (0, 1, 2, 3))(*arguments)
    assert np.isfinite(slopes[0]).all()
    np.testing.assert_array_equal(slopes[0][2], 0.0)
    assert np.any(slopes[0] != 0.0)
    for x in slopes[1:]:
        np.testing.assert_array_equal(x, 0.0)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf])
def test_garbage_in_padding_is_inert(garbage):
    arguments = [*random_arguments(3, 6, 3), random_arguments(4, 6, 3)[2]]
    valid = np.arange(6)[:, None] < np.array([6, 4, 1])
    results = [
        jax.value_and_grad(losses.state_ratio_loss)(*(np.where(valid, x, np.float32(fill)) for x in arguments), valid)
        for fill in (0.0, garbage)
    ]
    jax.tree.map(np.testing.assert_array_equal, *results)


def test_with_true_ratios_and_action_values_the_mean_gradient_over_all_paths_is_the_exact_one(x64):
    process = Process.random(5)
    paths = list(process.paths())
    policies = process.pi[:2], np.full((2, 2), 0.5)
    d_pi, d_mu = (process.distributions(np.vstack([x, [[0.5, 0.5]]])) for x in policies)
    v, q = np.zeros((4, 3)), np.zeros((3, 3, 2))
    for t in (2, 1, 0):
        q[t] = process.reward + process.transition @ v[t + 1]
        v[t] = np.append(np.sum(process.pi * q[t], -1)[:2], 0.0)
    exact = np.sum(d_pi[..., None] * process.pi[None, :2] * (q - v[:3, :, None])[:, :2], 0)
    shape = (3, len(paths))
    state, action, ratio, valid = np.zeros(shape, int), np.zeros(shape, int), np.zeros(shape), np.zeros(shape, bool)
    for i, (states, log_rho, _) in enumerate(paths):
        for t, (s, x) in enumerate(zip(states, log_rho, strict=True)):
            state[t, i], valid[t, i], ratio[t, i] = s, True, np.log(d_pi[t, s] / d_mu[t, s])
            action[t, i] = int(not np.isclose(x, np.log(process.pi[s, 0] / 0.5)))
    advantage = q[np.arange(3)[:, None], state, action]

    def total(logits):
        log_pi = jax.nn.log_softmax(logits)[state, action]
        loss = losses.state_ratio_loss(log_pi, np.full(shape, np.log(0.5)), advantage, ratio, valid)
        return -loss * valid.sum() / len(paths)

    np.testing.assert_allclose(jax.grad(total)(jnp.log(process.pi))[:2], exact, rtol=1e-9, atol=1e-12)


def test_wrong_arguments_are_named():
    x = jnp.zeros((4, 2))
    with pytest.raises(ValueError, match=r"log_state_ratio_tm1 \[4, 1\]"):
        losses.state_ratio_loss(x, x, x, x[:, :1])
    with pytest.raises(ValueError, match="truncation must be greater than 0"):
        losses.state_ratio_loss(x, x, x, x, truncation=0.0)
